"""The README's first screens: its picture says what the stage shows, its ten lines run, its times are counted."""

import re

from labelkit_course import chapter, on_stage, paths, registry, times

TEXT = (paths.ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_picture_is_the_stages():
    fixed, ranked = (on_stage.scene(row, "sky").shown for row in ("max_iou, no low quality", "rka"))
    said = (
        f"Taught by a fixed threshold it finds {fixed.found} of {fixed.objects} objects, taught by RKA {ranked.found}."
    )
    assert said in TEXT
    assert f"gives {fixed.objects - fixed.with_positive} of these {fixed.objects} objects no anchor at all" in TEXT
    assert ranked.with_positive == ranked.objects and (paths.ROOT / "data" / "sky.png").is_file()


def test_the_ten_lines_run(capsys):
    first = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(first[1], {})
    assert "candidates" in capsys.readouterr().out


def test_the_one_line_for_torchvisions_detectors_runs():
    first, second = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[:2]
    assert "from_torchvision(" in second
    names = {}
    exec(first.partition("priors =")[0] + second.replace("weights=None", "weights=None, weights_backbone=None"), names)
    assert repr(names["detector"].assigner) == "ATSS(k=9, ddof=1)"


def test_every_link_leads_somewhere():
    for page in ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (paths.ROOT / "docs").glob("*.md"))):
        text = (paths.ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s#]+)", text):
            assert target.startswith("http") or ((paths.ROOT / page).parent / target).exists(), (page, target)


def test_the_hours_are_counted():
    counted = [times.minutes(path) for path in chapter.sources()]
    reading, solving = (round(sum(column) / 60) for column in zip(*counted, strict=True))
    assert f"about {reading} hours to read and {solving} to solve all {len(registry.every())} exercises" in TEXT
