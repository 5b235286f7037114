"""The explorer's one file: it holds all that it needs, stays small, and says nothing that its scenes don't show."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from matplotlib.colors import rgb_to_hsv, to_rgb
from PIL import Image

from labelkit import plot
from labelkit.explore import server
from labelkit.explore.page import RULES_SHOWN, SKY, SLIDING, static_page
from labelkit.explore.parts import style
from labelkit.explore.question import answer
from labelkit.explore.state import checked
from labelkit.scenes import SCENES
from tests.cli.calling import call

LARGEST = 400_000  # bytes


def examples(page: str) -> list[dict]:
    return json.loads(re.search(r"const begin = (\[.*\]), place", page).group(1))


def pixels(example: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(example["image"].partition(",")[2]))).convert("RGB"))


def test_it_is_one_small_file_that_asks_nobody():
    page = static_page()
    assert len(page.encode()) < LARGEST
    outside = (
        r"<script[^>]+(src|type)=|<link[^>]+href=\"(?!data:)|@import|\bfetch\(|XMLHttpRequest|^\s*(import|export)\b"
    )
    assert not re.search(outside + r"|\bimport\s*\(", page, re.MULTILINE)
    assert [one["name"] for one in examples(page)][2:] == [scene.title for scene in SCENES.values()]


def colours(dark: bool) -> dict[str, tuple[float, float, float]]:
    """Red, green and blue of the front end's colours, 0 to 1."""
    pairs = re.findall(r"--lkx-(\w+): light-dark\((#\w+), (#\w+)\)", style())
    return {name: to_rgb((bright, deep)[dark]) for name, bright, deep in pairs}


def contrast(one: tuple, other: tuple) -> float:
    """Of WCAG 2: 1 for equal colours, 21 for black on white. It is what is left in grey."""
    linear = [
        [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in c] for c in (one, other)
    ]
    low, high = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_its_colours_are_those_of_the_figures_and_stand_out_from_the_ground(dark):
    ours = colours(dark)
    figures = {
        "blue": plot.BLUE,
        "red": plot.VERMILLION,
        "orange": plot.ORANGE,
        "green": plot.GREEN,
        "purple": plot.PURPLE,
    }
    for name, figure in figures.items():
        hue, meant = (rgb_to_hsv(colour)[0] for colour in (ours[name], to_rgb(figure)))
        assert min(abs(hue - meant), 1 - abs(hue - meant)) < 0.05, name
        assert contrast(ours[name], ours["ground"]) >= 3, name
    assert contrast(ours["ink"], ours["ground"]) > 12 and contrast(ours["soft"], ours["panel"]) > 4.5
    if not dark:
        assert (ours["ground"], ours["ink"]) == (to_rgb(plot.GROUND), to_rgb(plot.INK))


def test_the_sky_is_a_corner_of_the_data_sets():
    pytest.importorskip("skimage", reason="scikit-image is missing: it carries the picture")
    from labelkit.datasets.hubble import deep_field

    picture, target = deep_field("whole")[0][:2]
    (height, width), corner = SKY["size"], torch.tensor([421, 485, 421, 485])
    part = picture[:, 485 : 485 + height, 421 : 421 + width]
    told = torch.from_numpy(pixels(examples(static_page())[0]).copy()).permute(2, 0, 1)
    assert torch.equal((part * 255).round().to(torch.uint8), told)
    boxes = target["boxes"] - corner
    whole = (boxes[:, :2] >= 0).all(dim=1) & (boxes[:, 2:] <= torch.tensor([width, height])).all(dim=1)
    assert sorted(boxes[whole].tolist()) == sorted(SKY["objects"])


def test_the_first_drag_takes_the_galaxy_from_three_rules():
    scene = examples(static_page())[0]["scene"]
    shift = answer(scene | {"shift": {"object": 0, "axis": "x", "offsets": [0, 4]}})["shift"]
    assert [shift[rule] for rule in RULES_SHOWN] == [[1, 0], [1, 0], [2, 0], [3, 3]]


def test_the_box_that_slides_gets_what_the_hint_says():
    scene, seen = checked(SLIDING), {rule: set() for rule in RULES_SHOWN}
    for down in range(8):
        x1, y1, x2, y2 = scene["objects"][0]
        moved = {
            "objects": [[x1, y1 + down, x2, y2 + down]],
            "shift": {"object": 0, "axis": "x", "offsets": [*range(8)]},
        }
        for rule, counts in answer(scene | moved)["shift"].items():
            seen[rule] |= {*counts}
    assert [*seen.values()] == [{0}, {1, 2, 4}, {1, 2, 4}, {3}]


def test_a_scene_and_a_picture_of_ones_own():
    scene = {"size": [60, 80], "objects": [[1, 2, 9, 9]], "rules": ["topk k=2"]}
    picture = torch.randint(256, (3, 60, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first = examples(static_page(scene, picture))[0]
    assert first["scene"] == checked(scene | {"objects": [[1.0, 2.0, 9.0, 9.0]]})
    assert torch.equal(torch.from_numpy(pixels(first).copy()).permute(2, 0, 1), picture)
    assert examples(static_page("crowd"))[0]["image"] is None
    text = "</script><b>"  # must not end the page's own script
    assert text not in static_page({"rules": [text]})


def test_the_command_writes_a_picture_and_its_boxes_into_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "open_server", lambda *_: pytest.fail("it serves"))
    Image.new("RGB", (40, 30), "red").save(tmp_path / "field.png")
    coco = {
        "images": [{"id": 1, "file_name": "field.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "x"}],
    }
    coco["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 4, 10, 6], "area": 60, "iscrowd": 0}]
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    out = tmp_path / "out.html"
    result = call("explore", tmp_path / "field.png", "--annotations", tmp_path / "boxes.json", "--static", out)
    assert result.exit_code == 0, result.output
    first = examples(out.read_text("utf-8"))[0]
    assert first["scene"]["objects"] == [[3, 4, 13, 10]] and first["scene"]["size"] == [30, 40]
    assert pixels(first)[5, 5].tolist() == [255, 0, 0]


def test_a_heavy_picture_is_made_light():
    noise = torch.randint(256, (3, 700, 800), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    page = static_page(None, noise)
    first = examples(page)[0]
    assert len(page.encode()) < LARGEST
    assert first["image"].startswith("data:image/jpeg") and pixels(first).shape == (700, 800, 3)
    file = io.BytesIO()
    Image.fromarray(noise.permute(1, 2, 0).numpy()).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    assert len(static_page({"size": [700, 800]}, url).encode()) < LARGEST
