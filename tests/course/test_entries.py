"""The board's entries: every row builds, a stopped board goes on, what is kept for the stage can be had again."""

from pathlib import Path

import pytest
import torch
from torchvision.ops import box_iou

from labelkit.assigners import ASSIGNERS, FCOS, MaxIoU
from labelkit.similarity import iou
from labelkit.training import measuring, runs
from labelkit_course import board, entries, rows
from tests.squares import squares

PUBLISHED = Path(__file__).parents[2] / "data" / "board"


def test_every_row_is_a_rule_and_fixed_iou_is_named_by_its_ties():
    rules = {name: rows.Cell("digits", "fast", name, 0).recipe("digits").rule() for name in rows.VARIANTS}
    fixed = [rule for rule in rules.values() if isinstance(rule, MaxIoU) and rule.similarity is iou]
    assert len({(rule.allow_low_quality_matches, rule.low_quality_ties) for rule in fixed}) == 4 == len(fixed)
    assert {row.assigner for row in rows.VARIANTS.values()} == set(ASSIGNERS)
    assert "max_iou" not in rows.VARIANTS and rows.BASELINE in rows.VARIANTS
    assert len({cell.name for cell in rows.cells("digits", "full", range(3))}) == 3 * len(rows.VARIANTS)
    late = rules["fcos, from stride 8"]
    assert isinstance(late, FCOS) and late.center_radius == rules["fcos"].center_radius == 1.5


def test_rows_take_the_constants_and_settings_of_their_data():
    recipes = {data: rows.Cell(data, "full", "rka, simd", 0).recipe(rows.DATA[data].parts[0]) for data in rows.DATA}
    assert {data: recipe.steps for data, recipe in recipes.items()} == {"digits": 750, "sky": 500, "trees": 750}
    assert [data for data, recipe in recipes.items() if recipe.flip] == ["sky"]
    assert recipes["sky"].assigner_args == {"similarity": {"name": "simd", "m": 2.64, "n": 2.66}}
    assert recipes["digits"].assigner_args == {"similarity": {"name": "simd", "m": 1.43, "n": 1.23}}
    smooth = rows.Cell("sky", "fast", "hambox, smooth L1", 2).recipe("sky")
    assert (smooth.box_loss, smooth.flip, smooth.steps, smooth.seed) == ("smooth_l1", True, 200, 2)


def test_entries_come_seed_by_seed_and_can_be_chosen():
    cells = rows.cells("digits", "fast", range(2), only=["max_iou", "atss"])
    assert [cell.seed for cell in cells] == [0] * 8 + [1] * 8
    assert [cell.variant for cell in rows.cells("trees", "full", [0], only=["topk, k=3"])] == ["topk, k=3"]
    assert [cell.variant for cell in rows.cells("trees", "full", [0])] == list(rows.SIX_KINDS)
    for arguments in [("digits", "fast", [0], ["atts"]), ("coco", "fast", [0]), ("digits", "huge", [0])]:
        with pytest.raises(ValueError, match=f"got '{arguments[-1][0] if len(arguments) == 4 else '(coco|huge)'}'"):
            rows.cells(*arguments)


def test_a_stopped_board_goes_on_where_it_was(tmp_path, monkeypatch):
    trained = []

    def train_cell(cell, work, progress, device):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(cell)
        work.mkdir(parents=True)
        return {"cell": cell.name}, torch.nn.Linear(1, 1)

    monkeypatch.setattr(entries, "train_cell", train_cell)
    cells = rows.cells("digits", "full", range(2), only=["topk, k=3", "topk, k=9"])
    with pytest.raises(KeyboardInterrupt):
        list(entries.fill(cells, tmp_path / "results", tmp_path / "work"))
    assert len(list((tmp_path / "results").glob("*.json"))) == 2
    assert not list((tmp_path / "work").iterdir())
    trained.clear()
    done = list(entries.fill(cells, tmp_path / "results", tmp_path / "work"))
    assert trained == cells[2:] and [content["cell"] for _, content in done] == [cell.name for cell in cells]
    kept = {path.stem for path in (tmp_path / "results" / "weights").iterdir()}
    assert kept == {cell.name for cell in cells if cell.seed == 0}


@pytest.fixture
def a_step(monkeypatch):
    """Boards of one step, on squares; the sets that were asked for."""
    seen = []

    def training_images(recipe):
        seen.append((recipe.data, recipe.seed, recipe.flip))
        return squares(2)

    monkeypatch.setattr(entries, "_train_set", training_images)
    monkeypatch.setattr(entries, "_test_set", lambda data: squares(2 + int(data[-1]) if ":" in data else 5, seed=1))
    monkeypatch.setattr(rows, "DATA", {name: data._replace(steps=1) for name, data in rows.DATA.items()})
    return seen


def test_the_folds_of_the_aerial_images_are_pooled(tmp_path, a_step):
    (cell,) = rows.cells("trees", "full", [0], only=["atss"])
    with pytest.raises(ValueError, match="device must be auto"):
        entries.train_cell(cell, tmp_path, progress=False, device="gpu")
    content, _ = entries.train_cell(cell, tmp_path, progress=False, device="cpu")
    assert a_step == [("trees:0", 0, False), ("trees:1", 0, False), ("trees:2", 0, False)]
    assert content["scores"]["num_gts"] == content["scores_no_nms"]["num_gts"] == 2 * (2 + 3 + 4)
    assert content["recipe"]["data"] == "trees" and content["recipe"]["seed"] == 0
    assert {"labelkit", "torch", "commit"} <= set(content["software"]) and content["seconds"]["training"] >= 0
    assert "detections" not in content  # three detectors: none of them is on stage
    entries.write_entry(tmp_path / f"{cell.name}.json", content)
    assert list(board.read(tmp_path, "trees", "full")) == ["atss"]


def test_an_entry_of_the_stage_keeps_weights_and_detections(tmp_path, a_step, monkeypatch):
    monkeypatch.setattr(entries, "LEAST_SCORE", 0.0)
    monkeypatch.setitem(rows.VARIANTS, "low", rows.Variant("atss", {}, {"lr": 0.05}))
    ((cell, entry),) = entries.fill([rows.Cell("sky", "full", "low", 0)], tmp_path, tmp_path / "work", False, "cpu")
    assert a_step == [("sky", 0, True)] and cell.on_stage
    assert len((tmp_path / f"{cell.name}.json").read_text().splitlines()) == len(entry) + 2  # one line a key
    assert len(entry["detections"]) == len(rows.STAGE["sky"])
    weights = entries.weights_file(tmp_path, cell.name)
    assert weights.stat().st_size < 450_000
    assert {value.dtype for value in runs.load_checkpoint(weights).values()} == {torch.float16}
    detector = entries.trained_detector(tmp_path, cell.name)
    assert not detector.training and entries.stage_detections(detector, "sky") == entry["detections"]
    assert not rows.Cell("sky", "fast", "low", 0).on_stage and not rows.Cell("sky", "full", "low", 1).on_stage


def test_without_nms_detections_may_overlap_and_nms_comes_back(a_step, tmp_path):
    dataset = squares(3)
    detector, _ = entries.train_cell(rows.Cell("digits", "fast", "atss", 1), tmp_path, False, "cpu")[::-1]
    detector.score_thresh, detector.detections_per_img = 0.0, 50

    def most_alike(detections):
        table = torch.cat([box_iou(d["boxes"], d["boxes"]).fill_diagonal_(0).flatten() for d in detections])
        return table.max().item()

    assert most_alike(measuring.detect_without_nms(detector, dataset)) > detector.nms_thresh == 0.5
    assert most_alike(measuring.detect(detector, dataset)) <= 0.5


def on_stage():
    return [path.stem for path in sorted(PUBLISHED.glob("*-full-*-seed0.json")) if not path.name.startswith("trees")]


def test_every_published_entry_of_the_stage_has_its_weights_and_pictures():
    for name in on_stage():
        entry = runs.read_json(PUBLISHED / f"{name}.json")
        assert len(entry["detections"]) == len(rows.STAGE[entry["data"]])
        assert all(
            value.isfinite().all() for value in runs.load_checkpoint(entries.weights_file(PUBLISHED, name)).values()
        )
        assert entry["software"]["commit"] and not entry["software"]["commit"].endswith("-dirty")
        assert entry["scores"]["AP"] > 0.01 and entry["scores_no_nms"]["AP"] < entry["scores"]["AP"] + 0.02


def test_published_detections_can_be_had_again_from_the_weights():
    """Rounding differs from processor to processor: of what is sure, nearly all comes back nearly where it was."""
    name = "sky-full-max_iou-all_ties-seed0"
    stored = runs.read_json(PUBLISHED / f"{name}.json")["detections"]
    again = entries.stage_detections(entries.trained_detector(PUBLISHED, name), "sky")
    for before, after in zip(stored, again, strict=True):
        sure = torch.tensor(before["scores"]) > 0.25
        assert sure.sum() > 30
        found = box_iou(torch.tensor(before["boxes"])[sure], torch.tensor(after["boxes"]))
        best, which = found.max(dim=1)
        close = (torch.tensor(after["scores"])[which] - torch.tensor(before["scores"])[sure]).abs() < 0.02
        assert ((best > 0.9) & close).float().mean() > 0.98
