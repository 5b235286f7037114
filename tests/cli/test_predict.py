"""`labelkit predict`: files for COCO's tools and for the eye, a sentence for what is not done, and the exit status."""

import json

import pytest

from labelkit.training import train
from labelkit.training.recipe import Recipe
from tests.cli.calling import call
from tests.squares import squares


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the folder of a short run, a folder of pictures)"""
    root = tmp_path_factory.mktemp("predict")
    train(Recipe(steps=2, batch_size=2), root / "run", data=(squares(2), squares(2)), progress=False, accelerator="cpu")
    squares(2, seed=1).to_coco(root / "val")
    return root / "run", root / "val" / "images"


def test_into_the_run_or_where_it_is_told(run, tmp_path):
    for extra, out in (([], run[0] / "predictions"), (["--out", tmp_path / "there"], tmp_path / "there")):
        result = call("predict", *run, "--score", "0", "--device", "cpu", *extra)
        assert result.exit_code == 0, result.output
        found = json.loads((out / "predictions.json").read_text())
        assert f"{len(found)} detections in 2 pictures: {out / 'predictions.json'}\n" in result.stdout
        assert f"ids: {out / 'images.json'}; drawn: {out / 'pictures'}\n" in result.stdout
        assert sorted(path.name for path in (out / "pictures").iterdir()) == ["000000.png", "000001.png"]


def test_every_option_arrives(run, tmp_path, monkeypatch):
    seen = {}

    def predict(*arguments, progress, **options):
        seen.update(options, arguments=arguments)
        raise ValueError("seen")

    monkeypatch.setattr("labelkit.training.predicting.predict", predict)
    given = {"score": 0.25, "tile": 96, "overlap": 12, "which": "last", "detections": 7, "batch_size": 3}
    given |= {"annotations": tmp_path / "a.json", "device": "cpu"}
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
    call("predict", run[0], "a", "b", "--no-draw", "--out", tmp_path, *words)
    folder, images, out = seen.pop("arguments")
    assert (folder, [str(image) for image in images], out) == (run[0], ["a", "b"], tmp_path)
    assert seen == given | {"draw": False}


def test_what_cannot_be_read_is_named_at_the_end(run, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    result = call("predict", *run, tmp_path / "broken.png", "--out", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 1 and "detections in 2 pictures" in result.stdout
    assert f"Not done: {tmp_path / 'broken.png'}: cannot be read" in result.stderr
    quiet = call("predict", *run, tmp_path / "broken.png", "--out", tmp_path / "out", "--device", "cpu", "--quiet")
    assert quiet.exit_code == 1 and quiet.stdout == "" and "Not done" in quiet.stderr


def test_json_and_limits(run, tmp_path):
    result = call("predict", *run, "--score", "0", "--detections", "3", "--out", tmp_path, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "run": str(run[0]), "out": str(tmp_path), "images": 2, "detections": 6, "failed": {}
    }  # fmt: skip
    assert "2 pictures have as many detections as a picture may have: --detections allows more" in result.stderr


def test_pieces_are_told(run, tmp_path):
    common = ["predict", *run, "--score", "0", "--out", tmp_path, "--device", "cpu", "--no-draw"]
    assert "end at a tile's border and are whole in no tile" in call(*common, "--tile", 20, "--overlap", 2).stderr
    assert "tile" not in call(*common).stderr


def test_ctrl_c_writes_no_half_result(run, tmp_path, monkeypatch):
    def stops(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("labelkit.training.predicting.read_picture", stops)
    result = call("predict", *run, "--out", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 130 and "Stopped: " in result.stderr and "--resume" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--score", "2"], "score must lie in [0, 1], got 2.0"),
        (["--overlap", "8"], "overlap is that of tiles, and there is no tile"),
        (["--annotations", "nope.json"], "nope.json"),
        (["--device", "gpu"], "device must be auto, cpu"),
    ],
)
def test_errors_are_one_sentence(run, arguments, message):
    result = call("predict", *run, *arguments)
    assert result.exit_code == 1 and message in result.stderr and "Traceback" not in result.output


def test_a_folder_without_a_run_is_named(tmp_path):
    result = call("predict", tmp_path, tmp_path)
    assert result.exit_code == 1 and "holds no run" in result.output
