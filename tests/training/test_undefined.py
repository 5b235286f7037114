"""A number that is not defined (nothing to find) is nowhere taken for one."""

import math
from dataclasses import replace

from labelkit.training import load_detector, resume, runs, train
from labelkit.training.measuring import defined, positives_by_size
from tests.squares import TINY, squares


def without_objects(count):
    dataset = squares(count, seed=1)
    for target in dataset.targets:
        for name in ("boxes", "labels", "area", "iscrowd"):
            target[name] = target[name][:0]
    return dataset


def test_images_without_objects_to_measure_on_stop_nothing(tmp_path):
    recipe, options = replace(TINY, steps=4, evaluate_every=2), {"progress": False, "accelerator": "cpu"}
    data = squares(4), without_objects(2)
    result = train(recipe, tmp_path, data=data, **options)
    assert result["scores"]["AP"] is None and result["scores"]["num_gts"] == 0
    assert [row["AP"] for row in result["evaluations"]] == [None, None]
    assert not (tmp_path / runs.BEST).exists() and load_detector(tmp_path)[1] == ["square"]
    (tmp_path / runs.RESULT).unlink()
    again = resume(tmp_path, data=data, **options)
    assert again["evaluations"] == result["evaluations"]
    assert "NaN" not in (tmp_path / runs.RESULT).read_text()


def test_a_defined_score_is_the_best_after_undefined_ones(tmp_path, monkeypatch):
    aps = iter([None, 0.2, None, 0.1, 0.3])
    monkeypatch.setattr("labelkit.training.loop.measure", lambda *_: {"AP": next(aps)})
    recipe = replace(TINY, steps=4, evaluate_every=1)
    train(recipe, tmp_path, data=(squares(4), squares(2)), progress=False, accelerator="cpu")
    assert runs.load_checkpoint(tmp_path / runs.BEST)["global_step"] == 2


def test_no_images_and_no_objects_have_no_positives():
    detector = TINY.build(1)
    assert positives_by_size(detector, squares(0)) == {} == positives_by_size(detector, without_objects(2))


def test_nan_becomes_none():
    assert defined({"AP": math.nan, "AR": 0.1234567, "num_gts": 3}) == {"AP": None, "AR": 0.12346, "num_gts": 3}
