"""Predicting: what the detector finds, under the data's own ids, file by file, and nothing lost in silence."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from labelkit.datasets import CocoFolder, read_picture
from labelkit.tiling import Tiling
from labelkit.training import load_detector, predict, runs, train
from labelkit.training.drawing import write_drawn
from labelkit.training.measuring import detect
from labelkit.training.picture_files import Listing, Picture, find_pictures
from labelkit.training.recipe import Recipe
from tests.squares import in_folders

OWN = 17  # the category id of the one class


def own_ids(folder, **info):
    """A data set's annotations with an id of category that is not 1, and ids of images that are not 1, 2, ..."""
    path = folder / "annotations.json"
    coco = json.loads(path.read_text())
    coco["categories"][0]["id"] = OWN
    for image in coco["images"]:
        image["id"] += 100
    for annotation in coco["annotations"]:
        annotation |= {"category_id": OWN, "image_id": annotation["image_id"] + 100}
    path.write_text(json.dumps(coco | info))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the folder of a short run, the folder that it was measured on)"""
    root = tmp_path_factory.mktemp("predicting")
    in_folders(root / "mine")
    own_ids(root / "mine" / "train")
    own_ids(root / "mine" / "val")
    train(Recipe(data=str(root / "mine"), steps=2, batch_size=2), root / "run", progress=False, accelerator="cpu")
    return root / "run", root / "mine" / "val"


def as_results(detections, image_ids):
    """By the definition of COCO's results."""
    return [
        {
            "image_id": image_id,
            "category_id": OWN,
            "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(score, 6),
        }
        for found, image_id in zip(detections, image_ids, strict=True)
        for (x1, y1, x2, y2), score in zip(found["boxes"].double().tolist(), found["scores"].tolist(), strict=True)
    ]


@pytest.mark.parametrize("tiling", [None, Tiling(40, 24)])
def test_the_results_are_what_the_detector_finds(run, tmp_path, tiling):
    folder, val = run
    detector = load_detector(folder)[0]
    detector.score_thresh = 0.0
    found = detect(detector, CocoFolder(val), 1, tiling)
    assert sum(len(one["scores"]) for one in found) > 10
    options = {} if tiling is None else {"tile": tiling.tile, "overlap": tiling.overlap}
    predicted = predict(folder, val, tmp_path, score=0, device="cpu", batch_size=1, draw=False, **options)
    assert predicted.results == as_results(found, [1, 2]) == json.loads((tmp_path / "predictions.json").read_text())
    names = ["images/000000.png", "images/000001.png"]
    sized = [{"id": n, "file_name": name, "width": 64, "height": 64} for n, name in enumerate(names, start=1)]
    assert json.loads((tmp_path / "images.json").read_text()) == {
        "images": sized,
        "categories": [{"id": OWN, "name": "square"}],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.json", "predictions.json"]


def test_cocos_own_tools_load_the_two_files(run, tmp_path):
    pycocotools = pytest.importorskip("pycocotools.coco")
    predicted = predict(run[0], run[1], tmp_path, score=0, device="cpu", draw=False)
    loaded = pycocotools.COCO(tmp_path / "images.json").loadRes(str(tmp_path / "predictions.json"))
    assert len(loaded.getAnnIds()) == len(predicted.results) and loaded.getCatIds() == [OWN]


def test_a_run_in_tiles_predicts_in_tiles(run, tmp_path):
    recipe = Recipe(data=str(run[1].parent), steps=1, batch_size=2, tile=40, overlap=24)
    result = train(recipe, tmp_path / "run", progress=False, accelerator="cpu")
    assert result["scores"]["num_gts"] == 4 and result["pictures"] == str(run[1] / "images")
    assert sum(row["gts"] for row in result["positives"].values()) >= 8  # the objects of the tiles

    def results(**options):
        return predict(tmp_path / "run", run[1], score=0, device="cpu", batch_size=1, **options).results

    own = results()
    assert own == results(tile=40, overlap=24) != results(tile=0)
    assert own != results(overlap=2) == results(tile=40, overlap=2)
    assert results(tile=64) == results(tile=0)


def test_an_annotation_file_says_the_ids(run, tmp_path):
    coco = json.loads((run[1] / "annotations.json").read_text())
    coco["categories"] = [{"id": 3, "name": "other"}, {"id": 5, "name": "square"}]
    (tmp_path / "a.json").write_text(json.dumps({key: coco[key] for key in ("images", "categories")}))
    predicted = predict(run[0], run[1], annotations=tmp_path / "a.json", score=0, device="cpu")
    assert {row["category_id"] for row in predicted.results} == {5}
    assert (
        [image["id"] for image in predicted.images] == [100, 101] == sorted({r["image_id"] for r in predicted.results})
    )
    only = {"images": coco["images"][1:], "categories": []}
    (tmp_path / "b.json").write_text(json.dumps(only))
    predicted = predict(run[0], run[1], annotations=tmp_path / "b.json", score=0, device="cpu")
    assert {row["category_id"] for row in predicted.results} == {OWN} and [i["id"] for i in predicted.images] == [101]
    ((path, reason),) = predicted.failed.items()
    assert path.endswith("000000.png") and reason.endswith("b.json lists no image of this name")


def test_what_cannot_be_read_is_named_and_the_others_are_done(run, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    good = (run[1] / "images" / "000000.png").read_bytes()
    for name, content in (("a.png", good), ("b.png", good[:500]), ("deep/c.PNG", good), ("d.txt", b"no picture")):
        (tmp_path / "in" / name).write_bytes(content)
    predicted = predict(run[0], [tmp_path / "in", tmp_path / "gone.jpg"], tmp_path / "out", score=0, device="cpu")
    assert [image["file_name"] for image in predicted.images] == ["in/a.png", "in/deep/c.PNG"]
    assert list(predicted.failed) == [str(tmp_path / "in" / "b.png"), str(tmp_path / "gone.jpg")]
    assert all(path in reason and "cannot be read" in reason for path, reason in predicted.failed.items())
    drawn = tmp_path / "out" / "pictures"
    assert sorted(path.relative_to(drawn).as_posix() for path in drawn.rglob("*.*")) == ["in/a.png", "in/deep/c.PNG"]
    with Image.open(drawn / "in" / "a.png") as picture:
        assert picture.size == (64, 64) and F.pil_to_tensor(picture).ne(read_picture(tmp_path / "in" / "a.png")).any()


def test_drawn_is_what_reaches_the_score(run, tmp_path):
    for score in (None, 1.0):  # after two steps nothing reaches 0.5
        predicted = predict(run[0], run[1], tmp_path, score=score, device="cpu")
        assert (score is None) == bool(predicted.results)
        for image in predicted.images:
            source, drawn = (read_picture(folder / image["file_name"]) for folder in (run[1], tmp_path / "pictures"))
            assert torch.equal(source, drawn)


def test_a_run_of_before_numbers_its_classes_and_says_so(run, tmp_path):
    checkpoint = runs.load_checkpoint(run[0] / runs.LAST)
    kept = checkpoint["labelkit"]
    assert (kept["category_ids"], kept["white"], kept["classes"]) == ([OWN], None, ["square"])
    del kept["category_ids"], kept["white"]
    runs.save_checkpoint(checkpoint, tmp_path / "old" / runs.LAST)
    (tmp_path / "old" / runs.CONFIG).write_text((run[0] / runs.CONFIG).read_text())
    with pytest.warns(UserWarning, match="was saved before runs kept the category ids .* annotations give those"):
        predicted = predict(tmp_path / "old", run[1], score=0, device="cpu")
    assert {row["category_id"] for row in predicted.results} == {1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = predict(tmp_path / "old", run[1], annotations=run[1] / "annotations.json", score=0, device="cpu")
    assert {row["category_id"] for row in named.results} == {OWN}


def test_pictures_are_as_bright_as_in_training(run, tmp_path):
    """12 bits in 16: what the data call white is white here, too."""
    pixels = (read_picture(run[1] / "images" / "000000.png")[0].int() * 4095 // 255).numpy().astype("uint16")
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    checkpoint = runs.load_checkpoint(run[0] / runs.LAST)
    checkpoint["labelkit"]["white"] = 4095
    runs.save_checkpoint(checkpoint, tmp_path / "run" / runs.LAST)
    (tmp_path / "run" / runs.CONFIG).write_text((run[0] / runs.CONFIG).read_text())
    detector = load_detector(run[0])[0]
    detector.score_thresh = 0.0
    with torch.no_grad():
        expected = detector([torch.as_tensor(read_picture(tmp_path / "wide.png", white=4095))])
    predicted = predict(tmp_path / "run", tmp_path / "wide.png", score=0, device="cpu")
    assert predicted.results == as_results(expected, [1])


def test_limits_are_told(run):
    predicted = predict(run[0], run[1], score=0, detections=3, device="cpu")
    assert len(predicted.results) == 6 and predicted.full == 2
    assert predict(run[0], run[1], score=1, device="cpu").full == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": 1.5}, r"score must lie in \[0, 1\], got 1\.5"),
        ({"detections": 0}, "detections must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"tile": 10, "overlap": 10}, "overlap must lie in"),
        ({"overlap": 10}, "there is no tile"),
        ({"device": "gpu"}, "device must be auto"),
        ({"which": "first"}, "which must be 'best' or 'last'"),
        ({"annotations": "OUT"}, "not JSON"),
        ({"pictures": []}, "no picture is named"),
        ({"pictures": "EMPTY"}, r"empty holds no picture \(\.bmp, "),
        ({"pictures": "OUT/pictures/a.png"}, "a.png would be written over"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(run, tmp_path, options, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("{")
    if options.get("pictures") == "EMPTY":
        options = options | {"pictures": tmp_path / "empty"}
    elif options.get("pictures"):
        options = options | {"pictures": tmp_path / "out" / "pictures" / "a.png"}
    if "annotations" in options:
        options = options | {"annotations": tmp_path / "bad.json"}
    options = {"pictures": run[1], "device": "cpu"} | options
    with pytest.raises(ValueError, match=message):
        predict(run[0], options.pop("pictures"), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_pictures_once_and_by_the_folder_they_share(tmp_path, monkeypatch):
    for name in ("a/0.jpg", "a/deep/1.png", "b/0.jpg", "out/0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert [one.name for one in find_pictures(["a"])] == ["0.jpg", "deep/1.png"]
    assert [one.name for one in find_pictures(["b", "a", tmp_path / "a" / "0.jpg"])] == [
        "b/0.jpg",
        "a/0.jpg",
        "a/deep/1.png",
    ]
    assert [one.name for one in find_pictures(["b/0.jpg"])] == ["0.jpg"]
    assert "out/0.jpg" not in [one.name for one in find_pictures(["."], leave_out=tmp_path / "out")]
    assert "out/0.jpg" in [one.name for one in find_pictures(["."])]


def listing(tmp_path, *names, categories=()):
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, start=1)]
    records = [{"id": number, "name": name} for number, name in categories]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "categories": records}))
    return Listing.read(tmp_path / "a.json")


def test_an_image_is_the_record_whose_name_its_path_ends_in(tmp_path):
    known = listing(tmp_path, "0.jpg", "b/0.jpg", "train\\1.jpg", "x/2.jpg", "y/2.jpg")

    def number(name):
        return known.entry(Picture(tmp_path / name, name))["id"]

    assert [number(name) for name in ("a/0.jpg", "b/0.jpg", "1.jpg", "train/1.jpg", "y/2.jpg")] == [1, 2, 3, 3, 5]
    with pytest.raises(ValueError, match=r"z.2\.jpg: .*a\.json lists x/2\.jpg \(id 4\), y/2\.jpg \(id 5\)"):
        number("z/2.jpg")


def test_category_ids_by_name(tmp_path):
    def ids(*categories, classes=("cat", "dog"), own=(3, 7)):
        return listing(tmp_path, categories=categories).category_ids(classes, own)

    assert ids((3, "cat"), (7, "dog")) == [3, 7] == ids() == ids((7, "dog"))
    assert ids((1, "dog"), (2, "cat")) == [2, 1]
    assert ids((3, "cat"), (4, "cat"), (7, "dog")) == [3, 7]  # of two of one name the run's own
    with pytest.raises(ValueError, match="category id 3 is .*'dog'.* and 'cat' in the run"):
        ids((3, "dog"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": []}, '"categories" must be a list, got NoneType'),
        ({"images": [{"id": "1", "file_name": "a"}], "categories": []}, r"images\[0\] must have id and file_name"),
        ({"images": [], "categories": [{"id": True, "name": "a"}]}, r"categories\[0\] must have id and name"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, content, message):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        Listing.read(tmp_path / "a.json")


def test_boxes_are_drawn_where_they_are(tmp_path):
    image = torch.zeros(3, 60, 100)
    found = {
        "boxes": torch.tensor([[5.0, 6, 20, 18], [30, 10, 90, 50]]),
        "scores": torch.tensor([0.9, 0.8]),
        "labels": torch.tensor([0, 1]),
    }
    write_drawn(image, found, ["a", "b"], tmp_path / "p.png")
    drawn = read_picture(tmp_path / "p.png").sum(dim=0) > 0
    frame = torch.zeros_like(drawn)
    for x1, y1, x2, y2 in found["boxes"].int().tolist():
        frame[[y1, y2], x1 : x2 + 1] = True
        frame[y1 : y2 + 1, [x1, x2]] = True
    assert drawn[frame].all() and (drawn & ~frame)[11:49, 31:89].any()  # words in the wide one
    assert not (drawn & ~frame)[:, :30].any()
    write_drawn(image, {name: value[:0] for name, value in found.items()}, ["a", "b"], tmp_path / "p.raw")
    assert not read_picture(tmp_path / "p.raw.png").any()


def test_a_recipe_says_how_pictures_are_cut():
    assert replace(Recipe(data="x"), tile=8).tiling == Tiling(8, 2) and Recipe().tiling is None
    for settings, message in (
        ({"tile": 8}, "tile is for the pictures of a folder, those of digits are small: got 8"),
        ({"data": "x", "overlap": 8}, "there is no tile"),
        ({"data": "x", "tile": 8, "overlap": 9}, "overlap must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            Recipe(**settings)
