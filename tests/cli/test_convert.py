"""`labelkit convert`: what it prints is what it wrote, and training's own door opens the result."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from labelkit.cli.convert import convert
from labelkit.datasets import open_folder
from tests.datasets.test_layouts import coco, picture, roboflow, text, yolo

app = typer.Typer()
app.command()(convert)


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_every_split_is_written_and_said(tmp_path):
    roboflow(tmp_path / "mine")
    result = call(tmp_path / "mine", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert f"found roboflow layout in {tmp_path / 'mine'}: train (" in result.output
    for split in ("train", "val", "test"):
        assert f"{split}: kept 1 of 1 image, 1 of 1 annotation, 0 problems" in result.output
        assert f"wrote {tmp_path / 'new' / split}: 1 image linked, 0 copied; 1 box of ant" in result.output
        assert len(open_folder(tmp_path / "new", split, strict=True)) == 1


def test_one_split_copied_from_a_stated_layout(tmp_path):
    yolo(tmp_path / "mine")
    result = call(tmp_path / "mine", tmp_path / "new", "--from", "yolo", "--split", "val", "--copy")
    assert result.exit_code == 0 and "0 images linked, 1 copied" in result.output
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["val"]


def test_a_single_file_becomes_a_single_folder_or_the_split_that_is_asked_for(tmp_path):
    text(tmp_path / "mine.json", coco("train", "a.png"))
    picture(tmp_path / "pictures/a.png")
    assert call(tmp_path / "mine.json", tmp_path / "new", "--images", tmp_path / "pictures").exit_code == 0
    assert (tmp_path / "new/annotations.json").is_file() and open_folder(tmp_path / "new").white is None
    common = (tmp_path / "mine.json", tmp_path / "named", "--images", tmp_path / "pictures")
    assert call(*common, "--split", "train", "--white", "4095").exit_code == 0
    assert open_folder(tmp_path / "named", "train").white == 4095


def test_what_was_lost_is_said_or_refused(tmp_path):
    picture(tmp_path / "mine/a.png")
    content = coco("train", "a.png")
    content["annotations"].append(content["annotations"][0] | {"id": 2, "bbox": [1, 1, 0, 5]})
    text(tmp_path / "mine/annotations.json", content)
    strict = call(tmp_path / "mine", tmp_path / "strict", "--strict")
    assert strict.exit_code == 1 and "annotation id 2" in strict.output and not (tmp_path / "strict").exists()
    result = call(tmp_path / "mine", tmp_path / "new")
    assert result.exit_code == 0 and "1 object became background: its image is kept, it is not" in result.output
    assert len(open_folder(tmp_path / "new", strict=True).coco()["annotations"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder 'nowhere'"),
        (["mine", "--from", "voc"], "kind must be auto"),
        (["mine", "--from", "yolo"], "no known layout in mine"),
        (["mine", "--split", "holdout"], "there is no 'holdout' split in roboflow layout"),
    ],
)
def test_errors_are_a_sentence(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    roboflow(tmp_path / "mine")
    result = call(arguments[0], "new", *arguments[1:])
    assert result.exit_code == 1 and message in result.output and "Traceback" not in result.output
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    roboflow(tmp_path / "mine")
    text(tmp_path / "new/mine.txt", "precious")
    result = call(tmp_path / "mine", tmp_path / "new")
    assert result.exit_code == 1 and "is there already" in result.output
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mine.txt"]


def test_the_command_line_starts_without_torch():
    code = "import sys, labelkit.cli.convert; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
