"""The tables of docs/speed.md whose rows were timed, and what can be said of all of them."""

from __future__ import annotations

from collections.abc import Callable

from report_words import Row, memory, milliseconds, place, table, times

APART = ("scaling", "batches")  # the first are the picture, and the second have ourselves as their peer
# Why a peer is faster: (whether a row is of this kind, the reason); the first that fits.
WHY: tuple[tuple[Callable[[Row], bool], str], ...] = (
    (lambda row: row["gts"] == 1, "With one object the dense forms do little work in few operators"),
    (
        lambda row: row["method"] == "hungarian",
        "`hungarian` finds its pairs before it solves, and in double precision, which the few priors of a query "
        "detector do not pay back",
    ),
    (
        lambda row: row["method"].startswith("nms"),
        "torchvision's `nms` is one compiled loop, which few boxes and small classes favour",
    ),
    (
        lambda row: row["method"].startswith("evaluate"),
        "`evaluate` has faster-coco-eval match and average, and then measures more",
    ),
    (
        lambda row: row["method"] == "audit",
        "An audit asks the detector for its maps once for every size of its input, however few pictures have it",
    ),
)


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
        ratios = (times(own[count]["ratio"]) if count in own else "" for count in counts)
        ours = f"{milliseconds(last['ours_ms'])} (G = {max(own):,})"
        body.append([f"`{method}`", where, peer, *ratios, ours, memory(last)])
    ratio_heads = (f"G = {count:,}" for count in counts)
    return table(["method", "priors", "peer", *ratio_heads, "ours, ms", "MiB, peer / ours"], body)


def batches(rows: list[Row]) -> str:
    body = (
        [f"`{r['method']}`", place(r), str(r["images"]), milliseconds(r["ours_ms"] / r["images"]), times(r["ratio"])]
        for r in rows
    )
    return table(["method", "priors", "images", "ms per image", "single calls take, times"], body)


def suppression(rows: list[Row]) -> str:
    body = (
        [
            f"`{row['method']}`",
            row["priors"],
            f"{row['gts']:,}",
            row["peer"] or "none",
            "" if row["peer_ms"] is None else milliseconds(row["peer_ms"]),
            milliseconds(row["ours_ms"]),
            times(row["ratio"]),
            memory(row),
        ]
        for row in rows
    )
    return table(["call", "data", "boxes", "peer", "peer, ms", "ours, ms", "times faster", "MiB, peer / ours"], body)


def agreement(rows: list[Row]) -> str:
    """What `suppression` does not show: whether both sides gave the same, and how long `evaluate` takes with oLRP."""
    compared = [row for row in rows if "same" in row]
    unlike = [f"`{row['method']}` on {row['priors']}, {row['gts']:,}" for row in compared if not row["same"]]
    same = f"{len(compared) - len(unlike)} of {len(compared)} comparisons, not in {'; '.join(unlike)}"
    said = [f"Both sides keep the same boxes, or give the same AP, in {same if unlike else 'every comparison'}."]
    measured = [row for row in compared if row["method"].startswith("evaluate, ")]
    for peer in dict.fromkeys(row["peer"] for row in measured):
        own = [row for row in measured if row["peer"] == peer]
        shares = (f"{times(1 / row['ratio'])} times as long {row['method'].removeprefix('evaluate, ')}" for row in own)
        said.append(f"`evaluate` takes {', and '.join(shares)}, as `{peer}`.")
    return " ".join(said)


def audit(rows: list[Row]) -> str:
    body = (
        [
            f"{row['priors']}, {row['gts']:,} boxes",
            milliseconds(row["ours_ms"]),
            milliseconds(row["peer_ms"]),
            times(row["ratio"]),
        ]
        for row in rows
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
    return f"In {len(behind)} of {compared} comparisons the peer is faster:\n\n{table(head, body)}\n\n{reasons(behind)}"


def reasons(behind: list[Row]) -> str:
    """A line for each of WHY that fits a row, with the row that is farthest behind."""
    of: dict[str, list[Row]] = {}
    for row in behind:
        for why in [why for fits, why in WHY if fits(row)][:1]:
            of.setdefault(why, []).append(row)
    return "\n".join(f"- {why} ({_extent(own)})." for why, own in of.items())


def _extent(rows: list[Row]) -> str:
    most = f"{times(1 / rows[0]['ratio'])} times"
    return f"one row, {most}" if len(rows) == 1 else f"{len(rows)} rows, at most {most}"


def labels(rows: list[Row]) -> str:
    compared = [row for row in rows if row.get("differ") is not None]
    unlike = [row for row in compared if row["differ"]]
    said = f"Both sides' labels were compared in {len(compared)} of {len(rows)} rows"
    if not unlike:
        return said + ", and they are the same in all of them."
    named = "; ".join(f"{row['differ']} of `{row['method']}` at G = {row['gts']:,} on {place(row)}" for row in unlike)
    return f"{said}, and they are the same in {len(compared) - len(unlike)}. Labels that differ: {named}."
