"""Draw `data/assignment.png`, the picture at the top of the README: one tile, two rules, who gets a positive."""

from pathlib import Path

from labelkit import Priors, plot
from labelkit.assigners import ATSS, MaxIoU
from labelkit.datasets import neon_trees

STRIDES, TILE = (4, 8, 16), 13
ALT = "A tile of forest; under a fixed IoU threshold many small crowns get no positive anchor, under ATSS all do."


def main() -> None:
    tiles = neon_trees("test", None)
    image, target = tiles.images[TILE], tiles.targets[TILE]
    priors = Priors.anchors(tuple(image.shape[-2:]), STRIDES, [(4 * stride,) for stride in STRIDES])
    gt = {"boxes": target["boxes"].as_subclass(type(priors.boxes)), "labels": target["labels"]}
    rules = {
        "IoU 0.5 / 0.4, no low-quality matches": MaxIoU(allow_low_quality_matches=False),
        "ATSS, k = 9": ATSS(k=9),
    }
    fig, panels = plot.figure(2, width=4.6, height=5.2)
    for ax, (title, assigner) in zip(panels, rules.items(), strict=True):
        answer = assigner(priors, gt)
        served = answer.positives_per_gt(len(gt["boxes"])) > 0
        plot.scene(ax, image, title=f"{title}\n{int(served.sum())} of {len(served)} crowns have a positive anchor")
        plot.boxes(ax, gt["boxes"][served], "gt")
        plot.boxes(ax, gt["boxes"][~served], "ignored", fill=True)
        plot.points(ax, priors.centers[answer.positive], "positive")
    plot.legend(panels[0], gt="crown", positive="positive anchor", ignored="crown without one")
    Path(__file__).with_name("assignment.png").write_bytes(plot.png(fig, ALT))


if __name__ == "__main__":
    main()
