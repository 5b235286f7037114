"""docs/speed.md, its picture and the README's sentence, built from the newest results of a CPU.

    python benchmarks/report.py

Between `<!-- built: NAME -->` and `<!-- end -->` stands what is computed here; the rest is written by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import report_counted as counted
import report_tables as tables
from measuring import MOST
from report_words import Row, milliseconds, times

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURE = ROOT / "docs" / "speed.png"
PAGES = ("docs/speed.md", "README.md")
TABLES = ("grid", "no grid", "predicted", "one to one")


def newest() -> Path:
    """The last results that were taken on a CPU, by date."""
    return max(path for path in RESULTS.glob("20*.json") if json.loads(path.read_text("utf-8"))["device"] == "cpu")


def machine(data: dict[str, Any], name: str) -> str:
    on, versions = data["machine"], data["versions"]
    load = on["load at start"][0]
    quick = (
        ", but for that of `max_iou` in the tables. The run was a quick one: few calls for each row, and left out are "
        f"nms on the most boxes and what is counted for a GPU beyond {counted.AT} ground truths."
    )
    return (
        f"Measured on {data['date']} on one core of {on['processor']} with {on['cores']} cores, Python "
        f"{versions['python']}, torch {versions['torch']}, torchvision {versions['torchvision']}, labelkit "
        f"{versions['labelkit']} ([{name}](../benchmarks/results/{name})). When it began the load was {load} on "
        f"{on['cores']} cores"
        + (", so other work took caches and memory away from both sides." if load > 0.5 else ".")
        + f" No dense peer was asked that would hold more than {_million(data)} million pairs"
        + (quick if data["quick"] else ".")
    )


def _million(data: dict[str, Any]) -> int:
    return MOST[data["quick"]] // 1_000_000


def picture(rows: list[Row]) -> str:
    from picture import lines

    P, G, first, second = lines(rows)
    ends = {}
    for method in ("max_iou", "rka, nwd"):
        own = [row for row in first if row["method"] == method]
        ends[method] = own[0], [row for row in own if row["peer_ms"] is not None][-1], own[-1]
    (one, last, most), wide = ends["max_iou"], [row for row in second if row["method"] == "max_iou"]
    beside = [row for row in wide if row["peer_ms"] is not None]
    alt = (
        "Two panels with logarithmic axes, milliseconds upwards; dashed lines for the dense peers of max_iou and of "
        f"rka by NWD, solid ones for this library. Above, on {P:,} anchors: for one object max_iou takes "
        f"{milliseconds(one['ours_ms'])} ms and its peer {milliseconds(one['peer_ms'])}; for {last['gts']:,} objects "
        f"{milliseconds(last['ours_ms'])} and {milliseconds(last['peer_ms'])}; for {most['gts']:,} objects "
        f"{milliseconds(most['ours_ms'])}, without a peer. Below, for {G} objects: from {wide[0]['P']:,} to "
        f"{wide[-1]['P']:,} anchors max_iou goes from {milliseconds(wide[0]['ours_ms'])} to "
        f"{milliseconds(wide[-1]['ours_ms'])} ms; its peer takes {milliseconds(beside[0]['peer_ms'])} on the fewest "
        f"and {milliseconds(beside[-1]['peer_ms'])} on {beside[-1]['P']:,}."
    )
    return f"![{alt}]({PICTURE.name})"


def sentence(data: dict[str, Any]) -> str:
    """For the README: what a reader can expect, the least flattering number with the best."""
    found = {(row["method"], row["priors"], row["gts"]): row for row in data["rows"] if row["section"] == "grid"}
    wide, tiny = "800x1344, 9 anchors", "800x800, 1 anchor"
    one, some, many = (found["max_iou", *key] for key in ((wide, 1), (wide, 100), (tiny, 1000)))
    behind, compared = tables.behind_of(data["rows"])
    return (
        f"Beside torchvision's `Matcher`, on one core of {data['machine']['processor']}, `max_iou` is "
        f"{times(one['ratio'])} times as fast for one object on {one['P']:,} anchors, {times(some['ratio'])} times for "
        f"100, and {times(many['ratio'])} times for 1,000 on {many['P']:,}. In {len(behind)} of the {compared} "
        "comparisons of [docs/speed.md](docs/speed.md) a dense peer is faster."
    )


def edges(data: dict[str, Any]) -> str:
    """What is to be seen at the ends of the picture's lines."""
    from picture import lines

    P, _, first, _ = lines(data["rows"])
    one = (row for row in first if row["gts"] == 1)
    shares = (f"the peer of `{row['method']}` takes {times(row['ratio'])} times our time" for row in one)
    return (
        f"The lines of the peers end where their matrices would hold more than {_million(data)} million pairs. At the "
        f"left of the upper panel, for one object on {P:,} anchors, {' and '.join(shares)}: the peers' matrix is small "
        "there, and a call of an assigner is always many short operators."
    )


def large_audit() -> str:
    found = json.loads((RESULTS / "audit-100000.json").read_text("utf-8"))
    reading, auditing = (f"{found[f'{part}, s of the processor']:.0f} s" for part in ("reading", "auditing"))
    ours, dense = (milliseconds(found[f"{side}, ms a picture"]) for side in ("audit", "dense matcher alone"))
    peak, imports = (f"{found[f'{part}, MB'] / 1e3:.1f}" for part in ("peak memory", "of which the imports"))
    on = found["machine"]
    return (
        f"On {found['date']}, on one core of {on['processor']} with {on['cores']} cores and a load of "
        f"{on['load at start'][0]} when it began, {found['pictures']:,} pictures with "
        f"{found['boxes']:,} boxes under torchvision's RetinaNet took {reading} of the processor to read and "
        f"{auditing} to audit: {ours} ms per picture, where the dense `box_iou` and `Matcher` alone take {dense}. At "
        f"its peak the process held {peak} GB, {imports} of them torch and torchvision."
    )


def of_a_gpu(rows: list[Row]) -> dict[str, str]:
    """The parts that were counted; the priors' numbers stand in the rows that were timed."""
    P = {row["priors"]: row["P"] for row in rows if "P" in row}
    now = [row | {"P": P[row["priors"]]} for row in rows if row["section"] == counted.SECTION]
    before = json.loads((RESULTS / "counted-before.json").read_text("utf-8"))
    return {
        "model": counted.model(),
        "counted": counted.counted(now, before),
        "waits": counted.waits(now, before),
        "targets": counted.targets(now),
        "fixed": counted.fixed(now),
        "gpu sentence": counted.sentence(now),
    }


def blocks(data: dict[str, Any], name: str) -> dict[str, str]:
    rows = data["rows"]
    named = (*TABLES, "batches", "audit", "suppression")
    of = {section: [row for row in rows if row["section"] == section] for section in named}
    return of_a_gpu(rows) | {
        **{section: tables.by_gts(of[section]) for section in TABLES},
        "machine": machine(data, name),
        "labels": tables.labels(rows),
        "batches": tables.batches(of["batches"]),
        "suppression": tables.suppression(of["suppression"]),
        "agreement": tables.agreement(of["suppression"]),
        "audit": tables.audit(of["audit"]),
        "large audit": large_audit(),
        "slower": tables.slower(rows),
        "picture": picture(rows),
        "edges": edges(data),
        "sentence": sentence(data),
    }


def built(page: str, parts: dict[str, str]) -> str:
    """The page with every part in its place."""

    def fill(mark: re.Match) -> str:
        return f"{mark[1]}\n\n{parts[mark[2]]}\n\n<!-- end -->"

    return re.sub(r"(<!-- built: (.+?) -->).*?<!-- end -->", fill, page, flags=re.DOTALL)


def main() -> None:
    from picture import draw

    path = newest()
    data = json.loads(path.read_text("utf-8"))
    parts = blocks(data, path.name)
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        (ROOT / page).write_text(built(text, parts), "utf-8")
    draw(data["rows"], PICTURE, path.name)


if __name__ == "__main__":
    main()
