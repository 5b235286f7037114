"""The times that chapters state are counted."""

import textwrap

from labelkit_course import times


def chapter_of(tmp_path, stated):
    words = " ".join(["word"] * 1990)
    source = f"""
        # %% [markdown]
        # # 99 · A title
        #
        # {words}
        # **You need** chapter 1, {stated}.

        # %%
        import torch

        # %%
        x = 1
        y = 2
        """
    path = tmp_path / "99_made.py"
    path.write_text(textwrap.dedent(source).strip() + "\n")
    return path


def test_words_and_visible_code_are_counted(tmp_path):
    path = chapter_of(tmp_path, "no times")
    assert times.minutes(path) == (10, 0)  # 2,000 words and two lines; nothing to solve
    assert times.problem(path) is None, "a chapter may state none"


def test_a_wrong_time_is_told(tmp_path):
    assert times.problem(chapter_of(tmp_path, "10 minutes to read and 0 to solve the exercises")) is None
    told = times.problem(chapter_of(tmp_path, "15 minutes to read and 0 to solve the exercises"))
    assert "counted are 10 minutes to read and 0 to solve" in told
