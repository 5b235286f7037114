"""The benchmark's rows on tiny workloads, what it keeps of them, and the pages that are built from the kept ones."""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import assignment  # noqa: E402
import audit  # noqa: E402
import batches  # noqa: E402
import measuring  # noqa: E402
import one_to_one  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import scaling  # noqa: E402

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
        assert row["peer"] and row["ratio"] == pytest.approx(
            row["peer_ms"] / row["ours_ms"], rel=0.05
        )  # an audit says one decimal
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
    assert row["section"] == "audit" and row["gts"] > 0 and row["ours_ms"] > 0


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


def test_where_the_peers_are_faster_is_computed():
    """A row that is made slow gets a line; the page names all of them."""
    rows = [dict(row) for row in KEPT["rows"]]
    behind, _ = report.behind_of(rows)
    assert report.slower(rows).count("\n| `") == len(behind)
    ahead = next(row for row in rows if row["section"] == "grid" and row["ratio"] > 1)
    ahead |= {"ratio": 0.01}
    assert report.slower(rows).count("\n| `") == len(behind) + 1
    assert report.slower(rows).splitlines()[4].endswith("| 100 |")


def test_the_picture_was_drawn_from_them():
    assert Image.open(report.PICTURE).text["Source"] == PATH.name
