"""What a reader opens by a click: hints and the answer of an exercise, and the <details> of a text."""

import html
import re

from labelkit_course import chapter, registry

CHECK = re.compile(r'\bcourse\.(?:check|predict)\("(\d\d\.\d+)"')
_DETAILS = re.compile(r"<details><summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def folded(title: str, body: str) -> str:
    """Markdown that shows a title, and below it, when asked, a body."""
    return f"::::::{{dropdown}} {' '.join(title.split())}\n\n{body.strip()}\n::::::\n"


def details(text: str) -> str:
    """A text whose <details> fold as hints do: inside raw HTML no formula and no code would be set."""
    return _DETAILS.sub(lambda match: folded(html.unescape(match[1]), match[2]), text)


def exercise(exercise_id: str) -> str:
    """The hints of an exercise, each by itself, and its answer: the whole cell as the solution form has it."""
    hints = registry.find(exercise_id).hints
    parts = [folded(f"Hint {number}", literally(hint)) for number, hint in enumerate(hints, 1)]
    answer = chapter.solution_form(chapter.answering_cell(exercise_id)).strip()
    return "\n".join([*parts, folded("Solution", f"```python\n{answer}\n```")])


def literally(text: str) -> str:
    """Plain text as Markdown that shows it as it stands; `names` in it stay code."""
    parts = re.split(r"(`[^`\n]+`)", text.strip())
    plain = "".join(part if index % 2 else _PUNCTUATION.sub(r"\\\1", part) for index, part in enumerate(parts))
    lines = [re.sub("^ +", lambda spaces: "&nbsp;" * len(spaces[0]), line) for line in plain.split("\n")]
    return "\\\n".join(line or "&nbsp;" for line in lines)
