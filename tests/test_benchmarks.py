"""The benchmark's rows on tiny workloads, what it keeps of them, and the pages that are built from the kept ones."""

import json
import re
import sys
from pathlib import Path

import assignment
import audit
import batches
import measuring
import one_to_one
import pytest
import report
import report_counted
import report_tables
import run
import scaling
import suppression
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
KEYS = {"section", "method", "priors", "gts", "peer", "ours_ms", "peer_ms", "ratio", "ours_mib", "peer_mib", "differ"}


@pytest.fixture
def tiny(monkeypatch):
    """Two hundred priors, few calls."""
    monkeypatch.setattr(measuring, "LONGEST", 1)
    monkeypatch.setattr(assignment, "COCO", (128, 256, 512, 1024, 2048))
    monkeypatch.setattr(assignment, "TINY", (64, 128, 256, 512, 1024))
    some = [case._replace(gts=(3,)) for case in assignment.cases()]
    monkeypatch.setattr(assignment, "cases", lambda: some)
    monkeypatch.setattr(one_to_one, "POINTS", {"800x1344, points": (3,)})
    monkeypatch.setattr(one_to_one, "QUERIES", {20: (3,)})
    monkeypatch.setattr(batches, "CASES", [(*case[:3], (3,)) for case in batches.CASES])
    monkeypatch.setattr(scaling, "GTS", (1, 3))
    monkeypatch.setattr(scaling, "SIDES", (64, 128))
    monkeypatch.setattr(scaling, "SIDE", 128)
    monkeypatch.setattr(scaling, "COUNT", 3)


def well_formed(row):
    assert row.keys() >= KEYS
    assert row["section"].startswith("counted") or row["ours_ms"] > 0
    if row["peer_ms"] is not None:
        assert row["peer"] and row["ratio"] == pytest.approx(row["peer_ms"] / row["ours_ms"], rel=0.02)
    json.dumps(row, allow_nan=False)
    return True


def test_every_case_runs_beside_its_peer_and_the_labels_agree(tiny):
    found = list(assignment.rows(CPU, quick=True))
    assert len(found) == len(assignment.cases()) and all(map(well_formed, found))
    assert {row["section"] for row in found} == {"grid", "no grid", "predicted"}
    assert all((row["peer_ms"] is None) == (row["peer"] is None) for row in found)
    assert {row["method"] for row in found if row["differ"]} <= {"ota"}  # its peer iterates in float32
    assert sum(row["differ"] is not None for row in found) > len(found) / 2


def test_the_other_modules_rows(tiny):
    found = [row for module in (one_to_one, batches, scaling) for row in module.rows(CPU, quick=True)]
    assert all(map(well_formed, found)) and not any(row["differ"] for row in found)
    assert [row["section"] for row in found].count("one to one") == 3
    assert {(row["P"], row["gts"]) for row in found if row["section"] == "scaling"} == {(1364, 1), (1364, 3), (341, 3)}


def test_a_small_audit(tiny, monkeypatch):
    whole = audit.measure
    monkeypatch.setattr(audit, "measure", lambda pictures, boxes, workers: whole(2, 3, workers))
    (row,) = audit.rows(CPU, quick=True)
    assert well_formed(row) and row["section"] == "audit" and row["gts"] > 0


def test_suppression_says_whether_both_sides_agree(monkeypatch):
    boxes, scores, _ = suppression.scene("random", 60, CPU)
    kept = suppression.nms(boxes, scores, 0.5)
    cases = [
        ("nms", "random", 60, lambda: kept, "torchvision", lambda: suppression.ops.nms(boxes, scores, 0.5)),
        ("nms", "random", 60, lambda: kept[1:], "torchvision", lambda: kept),
        ("soft_nms", "random", 60, lambda: kept, "", None),
    ]
    monkeypatch.setattr(suppression, "cases", lambda device: cases)
    found = list(suppression.rows(CPU, quick=True))
    assert all(map(well_formed, found)) and [row.get("same") for row in found] == [True, False, None]
    assert found[0]["peer_mib"] is not None and found[2]["peer_mib"] is None


def test_labels_that_differ_are_counted():
    ours, theirs = torch.tensor([0, -2, 1, -1]), torch.tensor([0, -1, 2, -1])
    counted = {
        how: measuring.side_by_side(lambda: ours, lambda: theirs, measuring.Meter(CPU), 0.0, how).get("differ")
        for how in ("all", "positive", "none")
    }
    assert counted == {"all": 2, "positive": 1, "none": None}


def test_a_run_writes_what_it_was_taken_on(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--only", "batches", "--json", str(tmp_path / "out.json")])
    run.main()
    data = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert data.keys() == KEPT.keys() and data["quick"] and data["device"] == "cpu"
    assert data["machine"].keys() == KEPT["machine"].keys() and data["versions"].keys() == KEPT["versions"].keys()
    assert len(data["rows"]) == len(batches.CASES) and all(map(well_formed, data["rows"]))
    assert "max_iou" in capsys.readouterr().out


PATH = report.newest()
KEPT = json.loads(PATH.read_text("utf-8"))


def test_the_kept_rows_are_well_formed():
    assert PATH.name.startswith(KEPT["date"]) and KEPT["format"] == run.FORMAT and KEPT["commit"]
    assert {row["section"] for row in KEPT["rows"]} >= {*report.TABLES, "batches", "scaling", "audit"}
    assert all(map(well_formed, KEPT["rows"]))


@pytest.mark.parametrize("page", report.PAGES)
def test_the_pages_say_what_the_kept_rows_give(page):
    text = (ROOT / page).read_text("utf-8")
    assert text.count("<!-- built: ") == text.count("<!-- end -->") > 0
    assert report.built(text, report.blocks(KEPT, PATH.name)) == text, "run python benchmarks/report.py"


def outside(text):
    """What no builder wrote."""
    return re.sub(r"<!-- built: .*?<!-- end -->", "", text, flags=re.DOTALL)


ALL_PAGES = [str(path.relative_to(ROOT)) for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]
NUMBER = r"(?:\d[\d.,]*|\b(?:two|three|four|five|six|seven|eight|nine|ten))"
TIME = re.compile(r"\d[\d.,]*\s*(?:ms|µs|milliseconds?|microseconds?)\b")
CLAIM = re.compile(rf"{NUMBER}\s*(?:times|per cent|%|MiB|GiB|MB|GB|TB/s|s of)")


@pytest.mark.parametrize("page", ALL_PAGES)
def test_nobody_types_what_was_measured(page):
    """It would stand there when the rows have changed."""
    text = outside((ROOT / page).read_text("utf-8"))
    assert not TIME.findall(text)
    assert page not in report.PAGES or not CLAIM.findall(text)
    for typed in ("takes 1,130 ms", "by 5 µs"):
        assert TIME.search(typed)
    for typed in ("three times as fast", "2.5 times", "1.34 GB", "5 per cent", "35 s of the processor"):
        assert CLAIM.search(typed)


def test_the_priors_that_the_prose_names_are_those_of_the_rows():
    named = re.findall(r"\d+,\d{3}", outside((ROOT / "docs/speed.md").read_text("utf-8")).split("## Without a grid")[0])
    assert set(named) == {f"{row['P']:,}" for row in KEPT["rows"] if row["section"] == "grid"}


def test_what_no_gpu_has_measured_is_not_called_measured():
    devices = {json.loads(path.read_text("utf-8"))["device"] for path in report.RESULTS.glob("20*.json")}
    assert devices == {"cpu"}, "a GPU has been measured: README, docs/speed.md and chapter 05 say that none was"


def test_where_the_peers_are_faster_is_computed():
    """A row that is made slow gets a line; the page names all of them, and says why where it knows."""
    rows = [dict(row) for row in KEPT["rows"]]
    behind, _ = report_tables.behind_of(rows)
    assert report_tables.slower(rows).count("\n| `") == len(behind)
    ahead = next(row for row in rows if row["section"] == "grid" and row["ratio"] > 1 and row["gts"] == 1)
    ahead |= {"ratio": 0.01}
    assert report_tables.slower(rows).count("\n| `") == len(behind) + 1
    assert report_tables.slower(rows).splitlines()[4].endswith("| 100 |")
    alone = sum(row["gts"] == 1 for row in behind) + 1
    assert f"few operators ({alone} rows, at most 100 times)" in report_tables.slower(rows)
    assert "few operators (one row, 100 times)" in report_tables.slower([ahead])
    assert "few operators" not in report_tables.slower([ahead | {"gts": 100}])


def test_what_differs_in_suppression_is_named():
    rows = [dict(row) for row in KEPT["rows"] if row["section"] == "suppression"]
    assert "the same AP, in every comparison." in report_tables.agreement(rows)
    rows[0]["same"] = False
    compared = sum("same" in row for row in rows)
    assert f"in {compared - 1} of {compared} comparisons, not in `nms` on random, 1,000." in report_tables.agreement(
        rows
    )


@pytest.fixture
def counts():
    """The counted rows at 1 and at 100 ground truths, and as if they cost the same at 1,000; those before."""
    kept = [row | {"P": 9} for row in KEPT["rows"] if row["section"] == report_counted.SECTION]
    kept = [row for row in kept if row["gts"] <= 100]
    kept += [row | {"gts": 1000} for row in kept if row["gts"] == 100]
    return kept, json.loads((report.RESULTS / "counted-before.json").read_text("utf-8"))


def test_the_counted_table_has_every_rule_with_its_past(counts):
    rows, before = counts
    lines = report_counted.counted(rows, before).splitlines()
    assert "G = 1 · 100 · 1,000" in lines[0] and len(lines) == 2 + len(rows) / 3
    atss = next(line for line in lines if line.startswith("| `atss`")).split(" | ")
    then, now = (
        next(row["ours"] for row in some if row["method"] == "atss" and row["gts"] == 100) for some in (before, rows)
    )
    assert atss[2:4] == [f"{side['launches']} and {side['synchronisations']}" for side in (now, then)]
    assert [line.split(" | ")[5] for line in lines if "hambox" in line] == [" |"]  # it has no peer


def test_the_worst_counted_row_is_named(counts):
    """A rule that waits more often, or that falls behind its peer, is what the page says."""
    rows, before = counts
    slow = next(row for row in rows if row["method"] == "atss" and row["gts"] == 100)
    slow["ours"] = slow["ours"] | {"ms": 7 * slow["theirs"]["ms"], "synchronisations": 99}
    at = {line.split(" | ")[0]: line for line in report_counted.targets(rows).splitlines()}
    own = [row for row in rows if row["gts"] == 100 and row["theirs"]]
    met = sum(row["ours"]["ms"] <= 2 * row["theirs"]["ms"] for row in own)
    assert f"| at most 2 | {met} of {len(own)} |" in at["| 100"] and at["| 100"].endswith(
        "| 7.00, `atss` on 9 (9 anchors) |"
    )
    met = sum(row["ours"]["ms"] <= row["theirs"]["ms"] for row in rows if row["gts"] == 1000 and row["theirs"])
    assert f"| at most 1 | {met} of {len(own)} |" in at["| 1,000"] and "7.00" not in at["| 1,000"]
    assert "at most 99 times per call, where it waited 10 to 27" in report_counted.waits(rows, before)
    assert "at most 99 times per call" in report_counted.sentence(rows)
    assert "at worst 7.00 times (`atss` on 9 (9 anchors))" in report_counted.sentence(rows)


def test_the_picture_was_drawn_from_them():
    assert Image.open(report.PICTURE).text["Source"] == PATH.name
