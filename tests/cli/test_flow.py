"""From one's own pictures to answers, by what the commands say themselves: train, stop, resume, and the next steps."""

import json
import re
import shlex

import pytest
from typer.testing import CliRunner

from labelkit.cli.app import app
from labelkit.evaluation import PRESETS
from labelkit.training import Training
from tests.squares import squares


def call(command):
    words = shlex.split(command) if isinstance(command, str) else command
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def as_coco(root):
    """COCO's own layout."""
    for name, dataset in (("train", squares(4)), ("val", squares(2, seed=1))):
        coco = dataset.to_coco(root / "made" / name)
        (root / name).mkdir(parents=True)
        for picture in (coco / "images").iterdir():
            picture.rename(root / name / picture.name)
        content = json.loads((coco / "annotations.json").read_text())
        for image in content["images"]:
            image["file_name"] = image["file_name"].removeprefix("images/")
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{name}2017.json").write_text(json.dumps(content))
    return root


def as_yolo(root):
    for name, dataset in (("train", squares(4)), ("val", squares(2, seed=1))):
        coco = dataset.to_coco(root / "made" / name)
        for kind in ("images", "labels"):
            (root / kind / name).mkdir(parents=True)
        for index, target in enumerate(dataset.targets):
            (coco / "images" / f"{index:06d}.png").rename(root / "images" / name / f"{index}.png")
            boxes = target["boxes"].tolist()
            lines = [f"0 {(a + c) / 128} {(b + d) / 128} {(c - a) / 64} {(d - b) / 64}" for a, b, c, d in boxes]
            (root / "labels" / name / f"{index}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [square]\n")
    return root


@pytest.mark.parametrize(("layout", "tile"), [(as_coco, []), (as_yolo, ["--tile", "40", "--overlap", "24"])])
def test_a_newcomer_follows_what_is_printed(tmp_path, monkeypatch, layout, tile):
    monkeypatch.chdir(tmp_path)
    layout(tmp_path / "my data")
    train = ["train", "--data", "my data", "--assigner", "atss", "--steps", "4", "--batch-size", "2", *tile]
    train += ["--checkpoint-every", "1", "--device", "cpu", "--out", "a run"]
    step = Training.training_step

    def stops(self, batch, index):
        if index == 2:
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "training_step", stops)
        stopped = call(train)
    assert stopped.exit_code == 130 and "The same command with --resume goes on" in stopped.stderr
    trained = call([*train, "--resume"])
    assert trained.exit_code == 0, trained.output
    assert "positives each" in trained.stdout and "without any" in trained.stdout
    assert re.search(r"^Logs: a run.logs", trained.stdout, re.MULTILINE)
    following = re.findall(r"^  labelkit (.+)$", trained.stdout, re.MULTILINE)
    assert [line.split()[0] for line in following] == ["evaluate", "predict", "audit"]
    outputs = {}
    for command in following:
        result = call(command)
        assert result.exit_code == 0, (command, result.output)
        outputs[command.split()[0]] = result.stdout
    result = json.loads((tmp_path / "a run" / "result.json").read_text())
    assert f"{100 * result['scores']['AP50']:.1f}" in outputs["evaluate"]
    images = json.loads((tmp_path / "a run" / "predictions" / "images.json").read_text())
    assert len(images["images"]) == 2 and images["categories"] == [{"id": 1, "name": "square"}]
    assert "detections in 2 pictures" in outputs["predict"]
    assert f"detections of a {'tile' if tile else 'picture'}, " in " ".join(outputs["audit"].split())


def test_the_courses_data_have_no_folder_to_name(tmp_path, monkeypatch):
    names = ("AP", "AP50", "AP75", "AR", "oLRP", *(f"AP50_{size}" for size in PRESETS["course"].areas))
    monkeypatch.setattr(
        "labelkit.training.train",
        lambda *_, **__: {
            "scores": dict.fromkeys(names, 0.5),
            "positives": {"<8": {"gts": 3, "positives": 1.25, "starved": 0.3333}},
            "pictures": None,
            "seconds": {"training": 1},
        },
    )
    result = call(["train", "--out", tmp_path / "run", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert f"  labelkit predict {tmp_path / 'run'} IMAGES\n" in result.stdout
    assert f"  labelkit audit digits --run {tmp_path / 'run'}\n" in result.stdout
    row = next(line for line in result.stdout.splitlines() if "<8" in line and "33.3" in line)
    assert re.search(r"3\D+1\.2\D+33\.3", row)
