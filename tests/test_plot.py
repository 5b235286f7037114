"""The picture language: what is drawn is really there, in the look of its role, and the data stay as they were."""

import io
from types import SimpleNamespace

import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image
from torch import Tensor

from labelkit import Assignment, Priors, plot


def look_of(patch):
    return to_hex(patch.get_edgecolor()).lower(), patch.get_linestyle()


def rectangles(ax):
    return [p for p in ax.patches if type(p).__name__ == "Rectangle"]


def test_every_role_differs_in_more_than_colour():
    looks = [(str(r.line), r.marker, r.hollow, r.width) for r in plot.ROLES.values()]
    assert len(set(looks)) == len(looks)
    assert len({r.color for r in plot.ROLES.values()}) == len(looks)


def test_boxes_lie_where_they_should(device):
    _, (ax,) = plot.figure()
    boxes = torch.tensor([[1.0, 2, 5, 8], [3, 3, 9, 4]], device=device)
    plot.boxes(ax, boxes, "positive", labels=["a", "b"])
    extents = [(r.get_x(), r.get_y(), r.get_x() + r.get_width(), r.get_y() + r.get_height()) for r in rectangles(ax)]
    assert extents == [(1, 2, 5, 8), (3, 3, 9, 4)]
    assert {look_of(r)[0] for r in rectangles(ax)} == {plot.BLUE.lower()}
    assert [t.get_text() for t in ax.texts] == ["a", "b"]


def test_an_unknown_role_is_named():
    _, (ax,) = plot.figure()
    with pytest.raises(ValueError, match="role: 'positiv' is none of gt, positive"):
        plot.boxes(ax, torch.zeros(1, 4), "positiv")


@pytest.mark.parametrize("name", plot.SCENES)
def test_scenes(name):
    scene = plot.SCENES[name]
    height, width = scene.size
    assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all() and (scene.boxes >= 0).all()
    assert (scene.boxes[:, 2] <= width).all() and (scene.boxes[:, 3] <= height).all()
    target = scene.target
    assert target["labels"].shape == (len(target["boxes"]),)
    target["boxes"].zero_()
    assert scene.boxes.any(), "a chapter that changes its target must not change the scene"
    _, (ax,) = plot.figure()
    plot.scene(ax, scene)
    assert len(rectangles(ax)) == len(scene.boxes)
    assert ax.get_ylim() == (height, 0) and ax.get_title() == scene.title


def test_the_tiny_object_holds_no_point_of_stride_8():
    (x1, _, x2, _) = plot.SCENES["tiny between cells"].boxes[0].tolist()
    assert not any(x1 < 4 + 8 * i < x2 for i in range(16))


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (torch.zeros(3, 20, 30), (20, 30)),
        (torch.zeros(1, 20, 30), (20, 30)),
        (torch.zeros(20, 30, dtype=torch.uint8), (20, 30)),
        ((20, 30), (20, 30)),
    ],
)
def test_scene_takes_images_and_sizes(image, size):
    _, (ax,) = plot.figure()
    plot.scene(ax, image, torch.tensor([[1.0, 1, 5, 5]]), labels=["x"], title="t")
    assert (ax.get_ylim()[0], ax.get_xlim()[1]) == size
    assert len(ax.images) == isinstance(image, Tensor)
    assert len(rectangles(ax)) == 1


def test_assignment_draws_every_prior_by_its_label(device):
    start = torch.tensor([[0.0, 0], [10, 0], [20, 0], [30, 0]], device=device)
    priors = Priors.from_boxes(torch.cat([start, start + 4], dim=1), level_sizes=(3, 1))
    gt = torch.tensor([0, -1, -2, 0], device=device)
    labels = Assignment(gt, *torch.ones(3, 4, device=device))
    _, axes = plot.figure(2)
    plot.assignment(axes[0], priors, labels, torch.tensor([[0.0, 0, 5, 5]], device=device))
    assert axes[0].get_title() == "2 positive · 1 ignored · 1 negative"
    negative, ignored, positive = axes[0].collections
    assert negative.get_offsets().tolist() == [[12, 2]]
    assert ignored.get_offsets().tolist() == [[22, 2]]
    assert positive.get_offsets().tolist() == [[2, 2], [32, 2]]
    assert len(axes[0].lines) == 2, "each positive has its line to the ground truth"
    assert len(rectangles(axes[0])) == 3, "one ground truth and two positive boxes"
    plot.assignment(axes[1], priors, labels, level=0)
    assert axes[1].get_title() == "1 positive · 1 ignored · 1 negative"


def test_charts():
    _, axes = plot.figure(2, 2)
    plot.curves(axes[0], [1, 2], {"one": [1, 2], "two": torch.tensor([2, 1])}, xlabel="x", ylabel="y")
    assert [line.get_label() for line in axes[0].lines] == ["one", "two"]
    plot.losses(axes[1], {"run": [4.0, 2, 0, 2]}, window=2)
    assert axes[1].lines[0].get_ydata().tolist() == [3, 1, 1]
    plot.bars_by_size(axes[2], {"ATSS": {"tiny": [0.1, 0.3]}, "FCOS": {"tiny": 0.1, "small": 0.4}})
    heights = [p.get_height() for p in rectangles(axes[2])]
    assert heights[0] == pytest.approx(0.2) and heights[2:] == [0.1, 0.4] and heights[1] != heights[1]
    assert [t.get_text() for t in axes[2].get_xticklabels()] == ["tiny", "small"]
    plot.similarity_map(axes[3], torch.rand(3, 4), range(4), range(3), label="IoU")
    assert axes[3].yaxis_inverted() and axes[3].collections[0].get_array().shape == (3, 4)


def test_more_lines_than_looks_is_refused():
    _, (ax,) = plot.figure()
    with pytest.raises(ValueError, match="8 lines, at most 7"):
        plot.curves(ax, [0], {str(i): [i] for i in range(8)})


def test_legend_and_dimension():
    _, (ax,) = plot.figure()
    plot.legend(ax, "gt", "ignored", prior="anchor")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["ground truth", "ignored", "anchor"]
    plot.dimension(ax, (0, 0), (5, 0), "5 px")
    assert "5 px" in [t.get_text() for t in ax.texts]


def test_text_is_never_smaller_than_nine_points():
    fig, (ax,) = plot.figure()
    plot.scene(ax, plot.SCENES["crowd"], labels=[str(i) for i in range(15)])
    plot.legend(ax, *plot.ROLES)
    plot.dimension(ax, (0, 0), (5, 0), "5 px")
    fig.canvas.draw()
    assert min(t.get_fontsize() for t in fig.findobj(lambda a: hasattr(a, "get_fontsize")) if t.get_text()) >= 9


def draw_one():
    fig, (ax,) = plot.figure()
    plot.scene(ax, plot.SCENES["crowd"])
    return plot.png(fig, "fifteen small boxes in three rows")


def test_png_is_small_opaque_described_and_deterministic():
    data = draw_one()
    assert data == draw_one()
    assert len(data) < 30_000
    image = Image.open(io.BytesIO(data))
    assert 360 * 1.6 < image.size[0] < 420 * 1.6 and 360 * 1.6 < image.size[1] < 420 * 1.6
    assert image.convert("RGBA").getextrema()[3] == (255, 255)
    assert image.convert("RGB").getpixel((0, 0)) == Image.new("RGB", (1, 1), plot.GROUND).getpixel((0, 0))
    assert image.text["Description"] == "fifteen small boxes in three rows"


def test_nothing_is_cut_off():
    fig, (ax,) = plot.figure(width=2, height=2)
    plot.scene(ax, (8, 8), title="a title")
    plot.legend(ax, *plot.ROLES)
    image = Image.open(io.BytesIO(plot.png(fig, "a panel with a long key"))).convert("RGB")
    ground = Image.new("RGB", (1, 1), plot.GROUND).getpixel((0, 0))
    width, height = image.size
    border = [image.getpixel((x, y)) for x in range(width) for y in (0, height - 1)]
    border += [image.getpixel((x, y)) for x in (0, width - 1) for y in range(height)]
    assert set(border) == {ground}


def test_a_figure_without_alt_text_is_refused():
    fig, _ = plot.figure()
    with pytest.raises(ValueError, match="alt"):
        plot.png(fig, " ")


def test_show_displays_a_sharp_picture_and_its_caption_below(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append((a, k)))
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel="a notebook's"))
    fig, _ = plot.figure()
    plot.show(fig, "an empty figure, a < b")
    ((bundle,), options), ((caption,), _) = shown
    assert bundle["text/plain"] == "an empty figure, a < b" and bundle["image/png"].startswith(b"\x89PNG")
    notes = options["metadata"]["image/png"]
    assert notes["alt"] == "an empty figure, a < b"
    assert notes["width"] == round(Image.open(io.BytesIO(bundle["image/png"])).width / 1.6)
    assert "an empty figure, a &lt; b" in caption["text/html"]


def test_a_script_prints_what_a_figure_shows_instead_of_its_bytes(capsys):
    fig, _ = plot.figure()
    plot.show(fig, "an empty figure")
    assert capsys.readouterr().out == "an empty figure\n"


def test_nothing_is_changed():
    boxes, image = torch.tensor([[1.0, 2, 5, 8]]), torch.rand(3, 9, 9)
    before = boxes.clone(), image.clone()
    fig, (ax,) = plot.figure()
    plot.scene(ax, image, boxes)
    plot.boxes(ax, boxes.requires_grad_(), "prediction", fill=True)
    plot.points(ax, boxes[:, :2], "ignored")
    plot.png(fig, "a box")
    assert torch.equal(boxes, before[0]) and torch.equal(image, before[1])
