"""docs/speed.md, its picture and the README's sentence, built from the newest results of a CPU.

    python benchmarks/report.py

Between `<!-- built: NAME -->` and `<!-- end -->` stands what is computed here; the rest is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURE = ROOT / "docs" / "speed.png"
PAGES = ("docs/speed.md", "README.md")
TABLES = ("grid", "no grid", "predicted", "one to one")
APART = ("scaling", "batches")  # the first are the picture, and the second have ourselves as their peer
Row = dict[str, Any]


def newest() -> Path:
    """The last results that were taken on a CPU, by date."""
    return max(path for path in RESULTS.glob("20*.json") if json.loads(path.read_text("utf-8"))["device"] == "cpu")


def times(ratio: float | None) -> str:
    """Two digits: more would not come again."""
    return "" if ratio is None else f"{float(f'{ratio:.2g}'):,.{1 if ratio < 9.5 else 0}f}"


def milliseconds(value: float) -> str:
    return f"{float(f'{value:.2g}'):,g}"


def mebibytes(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else "under 1"


def place(row: Row) -> str:
    """201,600 (9 anchors); as it stands where no kind is named."""
    kind = row["priors"].partition(", ")[2]
    return f"{row['P']:,} ({kind})" if kind and "P" in row else row["priors"]


def table(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    head = list(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body])


def by_gts(rows: list[Row]) -> str:
    """A line for each method and kind of priors: times faster by G; then at the last G our time and both memories."""
    counts = sorted({row["gts"] for row in rows})
    groups: dict[tuple, dict[int, Row]] = {}
    for row in rows:
        groups.setdefault((row["method"], place(row)), {})[row["gts"]] = row
    body = []
    for (method, where), own in groups.items():
        last = own[max(own)]
        peer = next((row["peer"] for row in own.values() if row["peer"]), "none")
        memory = "" if last["peer_mib"] is None else f"{mebibytes(last['peer_mib'])} / {mebibytes(last['ours_mib'])}"
        ratios = (times(own[count]["ratio"]) if count in own else "" for count in counts)
        body.append([f"`{method}`", where, peer, *ratios, f"{milliseconds(last['ours_ms'])} (G = {max(own)})", memory])
    ratio_heads = (f"G = {count:,}" for count in counts)
    return table(["method", "priors", "peer", *ratio_heads, "ours, ms", "MiB, peer / ours"], body)


def batches(rows: list[Row]) -> str:
    body = (
        [f"`{r['method']}`", place(r), str(r["images"]), milliseconds(r["ours_ms"] / r["images"]), times(r["ratio"])]
        for r in rows
    )
    return table(["method", "priors", "images", "ms per image", "single calls take, times"], body)


def audit(rows: list[Row]) -> str:
    body = (
        [
            f"{r['priors']}, {r['gts']:,} boxes",
            milliseconds(r["ours_ms"]),
            milliseconds(r["peer_ms"]),
            times(r["ratio"]),
        ]
        for r in rows
    )
    return table(["audit", "ms per picture", "dense matching alone", "times faster"], body)


def behind_of(rows: list[Row]) -> tuple[list[Row], int]:
    """(rows whose peer is faster, the worst first; rows that have a peer)"""
    compared = [row for row in rows if row["section"] not in APART and row.get("ratio") is not None]
    return sorted((row for row in compared if row["ratio"] < 1), key=lambda row: row["ratio"]), len(compared)


def slower(rows: list[Row]) -> str:
    behind, compared = behind_of(rows)
    body = (
        [f"`{r['method']}`", place(r), f"{r['gts']:,}", r["peer"], milliseconds(r["ours_ms"]), times(1 / r["ratio"])]
        for r in behind
    )
    head = ["method", "priors", "G", "peer", "ours, ms", "the peer is faster, times"]
    return f"In {len(behind)} of {compared} comparisons the peer is faster:\n\n{table(head, body)}"


def labels(rows: list[Row]) -> str:
    compared = [row for row in rows if row.get("differ") is not None]
    unlike = [row for row in compared if row["differ"]]
    said = f"Both sides' labels were compared in {len(compared)} of {len(rows)} rows"
    if not unlike:
        return said + ", and they are the same in all of them."
    named = "; ".join(f"{row['differ']} of `{row['method']}` at G = {row['gts']:,} on {place(row)}" for row in unlike)
    return f"{said}, and they are the same in {len(compared) - len(unlike)}. Labels that differ: {named}."


def machine(data: dict[str, Any], name: str) -> str:
    on, versions = data["machine"], data["versions"]
    load = on["load at start"][0]
    quick = (
        " The run was a quick one: few calls for each row, and of the peers that have more than 25 million pairs "
        "only that of `max_iou` was asked."
    )
    return (
        f"Measured on {data['date']} on one core of {on['processor']} with {on['cores']} cores, Python "
        f"{versions['python']}, torch {versions['torch']}, labelkit {versions['labelkit']} "
        f"([{name}](../benchmarks/results/{name})). When it began the load was {load} on {on['cores']} cores"
        + (", so other work took caches and memory away from both sides." if load > 0.5 else ".")
        + (quick if data["quick"] else "")
    )


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
    behind, compared = behind_of(data["rows"])
    return (
        f"Beside torchvision's `Matcher`, on one core of {data['machine']['processor']}, `max_iou` is "
        f"{times(one['ratio'])} times as fast for one object on {one['P']:,} anchors, {times(some['ratio'])} times for "
        f"100, and {times(many['ratio'])} times for 1,000 on {many['P']:,}. In {len(behind)} of the {compared} "
        "comparisons of [docs/speed.md](docs/speed.md) a dense peer is faster."
    )


def blocks(data: dict[str, Any], name: str) -> dict[str, str]:
    rows = data["rows"]
    of = {section: [row for row in rows if row["section"] == section] for section in (*TABLES, "batches", "audit")}
    return {
        **{section: by_gts(of[section]) for section in TABLES},
        "machine": machine(data, name),
        "labels": labels(rows),
        "batches": batches(of["batches"]),
        "audit": audit(of["audit"]),
        "slower": slower(rows),
        "picture": picture(rows),
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
