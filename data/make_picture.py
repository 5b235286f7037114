"""Draw `data/sky.png`, the picture at the top of the README: one network, one sky, two rules for the labels."""

from pathlib import Path

from labelkit import plot
from labelkit_course.on_stage import draw_found, scene

RULES = {"a fixed threshold, IoU 0.5 / 0.4": "max_iou, no low quality", "three anchors each, ranked by NWD": "rka"}
ALT = "A tile of the deep sky twice. Taught by a fixed threshold the network finds a few large objects, by RKA most."


def main() -> None:
    fig, panels = plot.figure(2, width=4.6, height=5.2)
    for ax, (title, row) in zip(panels, RULES.items(), strict=True):
        draw_found(ax, scene(row, "sky"), title)
    Path(__file__).with_name("sky.png").write_bytes(plot.png(fig, ALT))


if __name__ == "__main__":
    main()
