"""`labelkit explore --run`: a run's detector looks at a picture, and a COCO file's categories are its classes."""

import json

import pytest
import torch
from PIL import Image

from labelkit.explore import opening
from labelkit.explore.page import static_page
from labelkit.training.folder import Trained
from labelkit.training.recipe import Recipe
from tests.cli.calling import call
from tests.explore.network import opinionated, picture


@pytest.fixture
def trained():
    return Trained(opinionated(), Recipe(data="folder"), ("a", "b", "c"), (7, 11, 3), None)


@pytest.fixture
def annotated(tmp_path):
    """A picture of 120 x 96 px and a COCO file with four boxes, one of a category that the run has never seen."""
    pixels = (255 * picture()).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "field.png")
    boxes = [([10, 12, 20, 18], 3), ([50, 20, 7, 9], 7), ([70, 40, 40, 50], 99), ([20, 60, 4, 6], 11)]
    coco = {
        "images": [{"id": 1, "file_name": "field.png", "width": 120, "height": 96}],
        "categories": [{"id": number, "name": str(number)} for number in (3, 7, 11, 99)],
        "annotations": [
            {"id": i + 1, "image_id": 1, "bbox": box, "category_id": category}
            for i, (box, category) in enumerate(boxes)
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    return tmp_path / "field.png", tmp_path / "boxes.json"


def test_categories_are_the_runs_classes_by_their_ids(annotated, trained):
    found = opening.from_files(*annotated, trained)
    assert found.scene["priors"] == "detector" and found.scene["size"] == [96, 120]
    assert found.scene["objects"] == [[10, 12, 30, 30], [50, 20, 57, 29], [70, 40, 110, 90], [20, 60, 24, 66]]
    assert found.network.labels.tolist() == [2, 0, 1]
    assert found.network.known.tolist() == [[10, 12, 30, 30], [50, 20, 57, 29], [20, 60, 24, 66]]
    assert "4 objects" in found.notes[0] and "1008 priors of the detector" in found.notes[1]
    assert opening.from_files(None, annotated[1], trained).scene == found.scene


def test_the_network_sees_the_picture_as_the_run_reads_it(annotated, trained, tmp_path):
    found = opening.from_files(annotated[0], None, trained)
    assert found.scene["objects"] == [] and found.scene["rules"][2:] == ["simota", "tal"]
    expected = trained.detector.predictions_of([opening.read_picture(annotated[0]).float() / 255])
    torch.testing.assert_close(found.network.predictions.scores, expected.scores[0], rtol=0, atol=1e-5)
    deep = Image.fromarray((4095 * picture()[0]).short().numpy().astype("uint16"))
    deep.save(tmp_path / "deep.png")
    bright = opening.from_files(tmp_path / "deep.png", None, Trained(**vars(trained) | {"white": 4095.0}))
    dark = opening.from_files(tmp_path / "deep.png", None, trained)
    assert not torch.equal(bright.network.predictions.scores, dark.network.predictions.scores)


def test_what_a_run_cannot_look_at_is_refused(annotated, trained, tmp_path):
    with pytest.raises(ValueError, match="a detector must be given a picture"):
        opening.from_files(None, None, trained)
    annotated[0].rename(tmp_path / "elsewhere.png")
    with pytest.raises(ValueError, match="a detector must be given a picture"):
        opening.from_files(None, annotated[1], trained)
    assert opening.from_files(None, annotated[1]).picture is None
    tiled = Trained(**vars(trained) | {"recipe": Recipe(data="folder", tile=100)})
    with pytest.raises(ValueError, match="tiles of 100 px, and this one is larger: give one tile"):
        opening.from_files(tmp_path / "elsewhere.png", None, tiled)
    Image.new("RGB", (100, 100)).save(tmp_path / "tile.png")
    assert opening.from_files(tmp_path / "tile.png", None, tiled).network.size == (100, 100)


def test_the_command_takes_a_run(annotated, trained, monkeypatch, tmp_path):
    served, loaded = [], []
    monkeypatch.setattr("labelkit.training.folder.load_trained", lambda *given: loaded.append(given) or trained)
    monkeypatch.setattr("labelkit.cli.explore.serve", lambda *given: served.append(given))
    result = call("explore", annotated[0], "--annotations", annotated[1], "--run", tmp_path / "run", "--no-browser")
    assert result.exit_code == 0 and "its network sees 120 x 96 px" in result.stderr
    assert loaded == [(tmp_path / "run", "last")]  # as `labelkit audit --run` does
    ((begun, port, browser),) = served
    assert begun.network.labels.tolist() == [2, 0, 1] and (port, browser) == (8770, False)
    result = call("explore", "--run", tmp_path / "run", "--static", tmp_path / "out.html")
    assert result.exit_code == 1 and "leave --run out" in result.stderr and not (tmp_path / "out.html").exists()


def test_static_without_a_picture_is_the_deep_sky_with_its_examples(annotated, tmp_path):
    assert call("explore", "--static", tmp_path / "sky.html").exit_code == 0
    assert (tmp_path / "sky.html").read_text(encoding="utf-8") == static_page()
    assert call("explore", annotated[0], "--static", tmp_path / "own.html").exit_code == 0
    assert '"size": [96, 120]' in (tmp_path / "own.html").read_text(encoding="utf-8")


def test_a_run_is_named_where_it_is_none(annotated, tmp_path):
    result = call("explore", annotated[0], "--run", tmp_path / "nowhere", "--no-browser")
    assert result.exit_code == 1 and "nowhere" in result.stderr and "Traceback" not in result.output
