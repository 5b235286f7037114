"""Rules side by side: every run is there once, and only what chance does not make is claimed."""

import math
import random
import statistics
from dataclasses import replace
from importlib import import_module

import pytest

from labelkit.training import paired, runs
from labelkit.training.compare import ENTRY, PICTURE, TABLE, Comparison, compare
from labelkit.training.recipe import Recipe
from tests.squares import in_folders


def made_up(**rules):
    """Entries with the APs given, a seed each."""
    return {
        name: {
            seed: {
                "preset": "coco",
                "scores": {"AP": ap, "AP50": ap + 0.1, "AP_small": ap / 2, "AP_medium": ap, "AP_large": None},
                "scores_no_nms": {"AP": ap / 3},
                "positives": {
                    "0-8": {"gts": 3, "positives": 1.0, "starved": 1 / 3},
                    "16+": {"gts": 1, "positives": 5.0, "starved": 0.0},
                },
                "seconds": {"training": 10.0 + seed},
            }
            for seed, ap in enumerate(aps)
        }
        for name, aps in rules.items()
    }


def test_the_table_says_what_the_entries_hold():
    base, good = [0.30, 0.32, 0.28, 0.30, 0.31], [0.40, 0.421, 0.38, 0.40, 0.412]
    comparison = Comparison(made_up(base=base, good=good), "base")
    head, (first, second) = comparison.rows()
    assert head == [
        "rule", "seeds", "AP", "AP50", "AP small", "AP medium", "AP without NMS", "AP against base",
        "without a positive", "seconds",
    ]  # fmt: skip
    mean, spread = 100 * statistics.mean(good), 100 * statistics.stdev(good)
    assert first[:3] == ["good", "5", f"{mean:.1f} ± {spread:.1f}"] and second[0] == "base"
    assert first[6].startswith(f"{mean / 3:.1f}") and first[7].startswith("**+10.1") and second[7] == ""
    assert first[8] == "25.0 %" and first[9] == "12"  # one of four objects; the mean of 10 to 14 seconds
    assert "AP or more" in comparison.table() and comparison.table() == comparison._repr_markdown_()
    told = comparison.as_dict()["rules"]
    assert told["good"]["claimed"] and not told["base"]["claimed"]
    assert told["good"]["differences"] == pytest.approx([one - other for one, other in zip(good, base, strict=True)])


def test_two_seeds_claim_nothing():
    comparison = Comparison(made_up(base=[0.1, 0.1], good=[0.9, 0.9]), "base")
    assert comparison.limit == math.inf and "**" not in comparison.table()
    assert "3 or more" in comparison.words()
    assert "nothing to compare" in Comparison(made_up(base=[0.1, 0.2, 0.3]), "base").words()


def test_the_limit_is_students_t_of_the_pooled_scatter():
    base, one, other = [0.30, 0.30, 0.30], [0.31, 0.33, 0.35], [0.20, 0.24, 0.22]
    # Variances of the differences: 4e-4 and 4e-4; four degrees of freedom; t(0.995, 4) = 4.6041.
    expected = 4.6041 * 0.02 / math.sqrt(3)
    assert paired.own_limit(made_up(base=base, one=one, other=other), "base") == pytest.approx(expected, rel=1e-4)


def test_identical_rules_are_claimed_in_about_one_of_a_hundred_comparisons():
    draw = random.Random(0)
    claims = []
    for _ in range(1500):
        board = made_up(**{name: [draw.gauss(0.4, 0.02) for _ in range(3)] for name in "abc"})
        limit = paired.own_limit(board, "a")
        claims += [paired.claimable(paired.differences(board[name], board["a"]), limit) for name in "bc"]
    assert 0.004 < statistics.mean(claims) < 0.02  # the draw is fixed: 0.0103 when this was written


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return in_folders(tmp_path_factory.mktemp("mine"))


def test_a_comparison_trains_each_once_and_goes_on(data, tmp_path, monkeypatch):
    module, trained = import_module("labelkit.training.compare"), []

    def train(recipe, folder, **options):
        trained.append((recipe.assigner, recipe.seed))
        if len(trained) == 3 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        return original(recipe, folder, **options)

    original = module.train
    monkeypatch.setattr(module, "train", train)
    tiny = Recipe(data=str(data), steps=2, batch_size=2)
    rules = {"atss": Recipe(**vars(tiny) | {"assigner": "atss"}), "iou, loose": tiny}
    options = {"seeds": 2, "progress": False, "accelerator": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        compare(rules, tmp_path / "out", **options)
    comparison = compare(rules, tmp_path / "out", **options)
    # Seed by seed; the third was stopped and is the only one that is asked for again.
    assert trained == [("atss", 0), ("max_iou", 0), ("atss", 1), ("atss", 1), ("max_iou", 1)]
    assert list(comparison.entries) == ["atss", "iou, loose"] and comparison.baseline == "atss"
    entry = comparison.entries["iou, loose"][1]
    assert entry == runs.read_json(tmp_path / "out" / "iou_loose" / "seed1" / ENTRY)
    assert entry["recipe"]["seed"] == 1 and {"AP", "AP50", "AP_small"} <= set(entry["scores"])
    assert entry["scores_no_nms"]["AP"] is not None and entry["positives"] and "training" in entry["seconds"]
    comparison.write(tmp_path / "out")
    assert (tmp_path / "out" / TABLE).read_text() == comparison.table()
    assert (tmp_path / "out" / PICTURE).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="steps=2"):
        compare({"atss": Recipe(**vars(rules["atss"]) | {"steps": 3})}, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="measured by preset coco, not aitod"):
        compare(rules, tmp_path / "out", preset="aitod", **options)


def test_the_seeds_begin_where_one_says(tmp_path, monkeypatch):
    asked = []

    def entry(recipe, folder, *_):
        asked.append((recipe.seed, folder.name))
        return made_up(a=[0.3])["a"][0]

    monkeypatch.setattr(import_module("labelkit.training.compare"), "_entry", entry)
    comparison = compare({"a": Recipe(), "b": Recipe()}, tmp_path, 2, first_seed=3)
    assert asked == [(3, "seed3"), (3, "seed3"), (4, "seed4"), (4, "seed4")]
    assert list(comparison.entries["b"]) == [3, 4]


def test_images_are_opened_once_for_all_that_ask_for_the_same(data, tmp_path, monkeypatch):
    load, loaded = Recipe.load, []
    monkeypatch.setattr(Recipe, "load", lambda recipe: loaded.append(recipe.flip) or load(recipe))
    tiny = Recipe(data=str(data), steps=1, batch_size=2)
    rules = {"iou": tiny, "atss": replace(tiny, assigner="atss"), "mirrored": replace(tiny, flip=True)}
    compare(rules, tmp_path / "out", 1, progress=False, accelerator="cpu")
    assert loaded == [False, True]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rules": {}}, "at least one rule"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"first_seed": -1}, "first_seed must not be negative, got -1"),
        ({"preset": "voc"}, "preset must be one of coco, .*got 'voc'"),
        ({"baseline": "rka"}, "baseline must be one of a b, got 'rka'"),
        ({"rules": {"a b": Recipe(), "a/b": Recipe()}}, "'a b' and 'a/b' would share the folder"),
        ({"rules": {"a": Recipe(), "b": Recipe(assigner="none")}}, "none"),
    ],
)
def test_what_is_wrong_is_said_before_any_training(change, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        compare(**{"rules": {"a b": Recipe()}, "folder": tmp_path} | change)
    assert not list(tmp_path.iterdir())
