"""An audit in words: the three causes with their mend, the table by size, what would change it, and the verdict."""

from __future__ import annotations

from typing import Any, NamedTuple

from labelkit.audit.faults import SAME, SMALL
from labelkit.audit.numbers import COCO_COUNTS, REACHED
from labelkit.counts import counted

# From here on a cause is none. Below, an object in 20, in 5, in 50 is lost to it: more than a detector's own misses.
ENOUGH_CEILING, ENOUGH_REACHED, FEW_STARVED = 0.95, 0.8, 0.02

FIRST = 20  # notes that are told

Numbers = dict[str, Any]


def report(numbers: Numbers) -> str:
    """For a terminal. numbers: what `Audit.to_json` gives."""
    if not numbers["objects"]:
        return f"{counted(numbers['images'], 'picture')}, no object: there is nothing to audit."
    lines = [heading(numbers), "", *causes(numbers), "", *aligned(size_rows(numbers))]
    if numbers["what_if"]:
        lines += ["", *_changes(numbers)]
    if odd := oddities(numbers):
        lines += ["", *odd]
    return "\n".join([*lines, "", verdict(numbers)])


def markdown(numbers: Numbers) -> str:
    """The same for a notebook."""
    if not numbers["objects"]:
        return report(numbers)
    parts = [heading(numbers), *causes(numbers), "\n".join(_marked_down(size_rows(numbers)))]
    if numbers["what_if"]:
        parts.append("\n".join(_marked_down(change_rows(numbers))))
    return "\n\n".join([*parts, f"**{verdict(numbers)}**"])


class Cause(NamedTuple):
    """share: of the objects that it loses, None where it can't hold. said: in numbers. mend: what would help, "" where
    nothing is amiss; options: those of `labelkit audit` that show it."""

    name: str
    share: float | None
    said: str
    mend: str = ""
    options: str = ""


def causes(numbers: Numbers) -> list[str]:
    """One paragraph a cause, with its share of the objects and its mend."""
    said = []
    for number, cause in zip([1, 2, *[3] * len(numbers["rules"])], every_cause(numbers), strict=True):
        options = f" ({cause.options})" if cause.options else ""
        said.append(f"{number}. {cause.name:<9}{cause.said}" + (f" {cause.mend}{options}" if cause.mend else ""))
    return said


def every_cause(numbers: Numbers) -> list[Cause]:
    """The output, the anchors, then each rule."""
    return [_output(numbers), _anchors(numbers), *(_rule(numbers, name) for name in numbers["rules"])]


def _output(numbers: Numbers) -> Cause:
    output = numbers["output"]
    lost, most = 1 - output["recall_ceiling"], counted(output["detections_per_image"], "detection")
    what = "tile" if numbers["tiles"] else "picture"
    said = (
        f"{_of(lost, numbers['objects'])} cannot be reported: the detector returns {most} of a {what}, "
        f"and the fullest picture holds {output['most_objects']}."
    )
    if output["recall_ceiling_coco"] < output["recall_ceiling"]:
        said += f" COCO's metric counts {COCO_COUNTS}, which caps recall at {percent(output['recall_ceiling_coco'])}."
    if not lost:
        return Cause("OUTPUT", lost, said)
    mend = "Let it return more, or cut the pictures into tiles."
    return Cause("OUTPUT", lost, said, mend, f"--detections {output['most_objects']}")


def _anchors(numbers: Numbers) -> Cause:
    anchors = numbers["anchors"]
    if anchors["reachable_50"] is None:
        return Cause("ANCHORS", None, "none: this detector begins from points.")
    lost = 1 - anchors["reachable_50"]
    said = (
        f"{_of(lost, numbers['objects'])} have no anchor with an IoU of {REACHED} "
        f"among the {anchors['count']:,} of a picture; the median of the best is {anchors['median_best_iou']:.2f}."
    )
    if anchors["reachable_50"] >= ENOUGH_REACHED:
        return Cause("ANCHORS", lost, said)
    mend = "Enlarge the input or cut it into tiles, take smaller anchors or a finer stride."
    changes = [row for row in numbers["what_if"] if row["options"] and row["reachable_50"] is not None]
    enough = [row for row in changes if row["reachable_50"] >= ENOUGH_REACHED]
    chosen = enough[:1] or sorted(changes, key=lambda row: -row["reachable_50"])[:1]
    return Cause("ANCHORS", lost, said, mend, chosen[0]["options"] if chosen else "")


def _rule(numbers: Numbers, name: str) -> Cause:
    rule = numbers["rules"][name]
    said = f"{name} gives no positive to {_of(rule['starved'], numbers['objects'])}"
    if rule["starved_by_a_neighbour"]:
        share = rule["starved_by_a_neighbour"] / rule["starved"]
        said += (
            f"; {percent(share)} of these lost what they had chosen to a neighbour, in the median "
            f"{rule['neighbour_times_larger']:.1f} times as large"
        )
    if not rule["starved"]:
        return Cause("RULE", 0.0, said + ".")
    mend = "Compare a rule in which the object chooses; a larger input, smaller anchors and tiles help every rule."
    others = " ".join(f"--assigner {other}" for other in ("atss", "topk") if other != name)
    return Cause("RULE", rule["starved"], said + ". Such an object cannot be learned.", mend, others)


def oddities(numbers: Numbers) -> list[str]:
    """What is odd in the data: a line each, none where nothing is."""
    data, said = numbers["data"], []
    if data["duplicates"]:
        said.append(f"{twice(data)}, {data['identical']:,} of them identical, such as {data['duplicate_pairs'][0]}.")
    if data["under_2_px"]:
        said.append(f"{tiny(data)}.")
    return said


def twice(data: Numbers) -> str:
    """How many pairs are one object. data: the part of the numbers on the data itself."""
    pairs = counted(data["duplicates"], "pair of one class overlaps", "pairs of one class overlap", form=",")
    return f"{pairs} by an IoU of {SAME} or more"


def tiny(data: Numbers) -> str:
    """How many boxes are hardly a pixel wide or high."""
    boxes = counted(data["under_2_px"], "box has", "boxes have", form=",")
    return f"{boxes} a side under {SMALL} px in their picture"


def verdict(numbers: Numbers) -> str:
    """Where to look first: the first cause that holds, or that none does."""
    if numbers["output"]["recall_ceiling"] < ENOUGH_CEILING:
        return "Look first at the output: no rule can teach what the detector may not report."
    reached = numbers["anchors"]["reachable_50"]
    if reached is not None and reached < ENOUGH_REACHED:
        return "Look first at the anchors: a rule can only give out what is there, at the IoU that is there."
    if any(rule["starved"] > FEW_STARVED for rule in numbers["rules"].values()):
        return "Look first at the rule: it leaves objects without a positive. Fewer starved is not yet a better rule."
    return "It is not the assignment: look elsewhere (labels, pictures, training time, the network)."


def size_rows(numbers: Numbers) -> list[list[str]]:
    """The table by size, its head first."""
    rules = list(numbers["rules"])
    several = len(rules) > 1
    head = ["side at input", "objects", "best IoU", "IoU >= 0.5"]
    for name in rules:
        head += [f"positives{f' {name}' if several else ''}", f"without any{f' {name}' if several else ''}"]
    rows = [head]
    for size in numbers["sizes"]:
        sides = f"{size['from']:.0f}-{size['to']:.0f} px" if size["to"] is not None else f"{size['from']:.0f} px up"
        row = [sides, f"{size['objects']:,}", _two(size["best_iou"]), percent(size["reachable_50"])]
        for name in rules:
            row += [f"{size['rules'][name]['positives_per_object']:.1f}", percent(size["rules"][name]["starved"])]
        rows.append(row)
    return rows


def change_rows(numbers: Numbers) -> list[list[str]]:
    """What would change it, its head first."""
    rules = list(numbers["what_if"][0]["starved"])
    rows = [["change", "anchors", "IoU >= 0.5", "best IoU", *(f"without any, {name}" for name in rules)]]
    for row in numbers["what_if"]:
        starved = [percent(row["starved"][name]) for name in rules]
        rows.append(
            [
                row["change"],
                _thousands(row["anchors"]),
                percent(row["reachable_50"]),
                _two(row["median_best_iou"]),
                *starved,
            ]
        )
    return rows


def _of(share: float, total: int) -> str:
    return f"{round(share * total):,} of {counted(total, 'object', form=',')} ({percent(share)})"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def heading(numbers: Numbers) -> str:
    objects, pictures = counted(numbers["objects"], "object", form=","), counted(numbers["images"], "picture", form=",")
    stopped = f" of {numbers['of_images']:,} (stopped: the rest was not looked at)" if numbers["partial"] else ""
    return f"{objects} in {pictures}{stopped}, as {numbers['detector']} sees them."


def _changes(numbers: Numbers) -> list[str]:
    images = numbers["what_if"][0]["images"]
    return [f"What would change it, worked out for {images} of the pictures:", *aligned(change_rows(numbers))]


def aligned(rows: list[list[str]]) -> list[str]:
    """Columns as wide as their widest entry, numbers to the right."""
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(text.rjust(wide[i]) if i else text.ljust(wide[i]) for i, text in enumerate(row)).rstrip()
        for row in rows
    ]


def _marked_down(rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]]


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _thousands(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.0f} k" if count >= 1e4 else str(count)
