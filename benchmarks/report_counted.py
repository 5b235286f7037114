"""What was counted for a GPU, as docs/speed.md and the README say it: launches, waits, a model's milliseconds."""

from __future__ import annotations

from pretended import BANDWIDTH, LAUNCH, WAIT
from report_words import Row, place, table, times

from labelkit.assigners import ASSIGNERS

SECTION = "counted for a GPU"
AT = 100  # ground truths, of which the targets speak
TWICE = 2.0  # times the peer's time by the model: as much is allowed up to AT ground truths
AHEAD = 1.0  # and from three times as many on


def counted(rows: list[Row], before: list[Row]) -> str:
    """A line for each rule and kind of priors."""
    groups: dict[tuple, dict[int, Row]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["priors"]), {})[row["gts"]] = row
    then = {(row["method"], row["priors"]): _asked(row) for row in before if row["gts"] == AT}
    counts = sorted({row["gts"] for row in rows})
    body = []
    for key, own in groups.items():
        sides = ([own[count][side] for count in counts] for side in ("ours", "theirs"))
        spent = (" · ".join(f"{one['ms']:.2f}" for one in side if one) for side in sides)
        body.append([f"`{key[0]}`", place(own[AT]), _asked(own[AT]), then.get(key, ""), *spent])
    by_model = f"ms by the model, G = {' · '.join(f'{count:,}' for count in counts)}"
    return table(["method", "priors", f"launches and waits, G = {AT}", "before", by_model, "peer"], body)


def _asked(row: Row) -> str:
    return f"{row['ours']['launches']:,} and {row['ours']['synchronisations']}"


def _waits(rows: list[Row], asking: bool) -> list[int]:
    """Of the rules that ask the network, or of those that do not."""
    own = (row for row in rows if row["gts"] == AT)
    return [
        row["ours"]["synchronisations"]
        for row in own
        if ASSIGNERS[row["method"].split(",")[0]].needs_predictions == asking
    ]


def waits(rows: list[Row], before: list[Row]) -> str:
    silent, then = _waits(rows, False), _waits(before, False)
    return (
        f"For {AT} ground truths a rule that does not ask the network waits for the device at most {max(silent)} times "
        f"per call, where it waited {min(then)} to {max(then)} times before. Those of the table that ask it wait up to "
        f"{max(_waits(rows, True))} times, where it was up to {max(_waits(before, True))}."
    )


def model() -> str:
    return (
        f"A model makes milliseconds of these counts by assuming {1e6 * LAUNCH:g} µs per launch, {1e6 * WAIT:g} µs per "
        f"wait and {BANDWIDTH / 1e12:g} TB/s."
    )


def shares(rows: list[Row]) -> list[tuple[float, Row]]:
    """(the peer's times that a row needs by the model, the row), the best first."""
    found = [(row["ours"]["ms"] / row["theirs"]["ms"], row) for row in rows if row["theirs"]]
    return sorted(found, key=lambda pair: pair[0])


def targets(rows: list[Row]) -> str:
    """A line for each number of ground truths: how many rows meet its target, the best and the worst."""
    body = []
    for count in sorted({row["gts"] for row in rows}):
        own = shares([row for row in rows if row["gts"] == count])
        most = TWICE if count <= AT else AHEAD
        met = sum(share <= most for share, _ in own)
        ends = (f"{share:.2f}, `{row['method']}` on {place(row)}" for share, row in (own[0], own[-1]))
        body.append([f"{count:,}", f"at most {most:g}", f"{met} of {len(own)}", *ends])
    return table(["G", "target, times the peer's time", "rows that meet it", "the best", "the worst"], body)


def fixed(rows: list[Row]) -> str:
    """Why the peers are ahead where there is little to compute."""
    least = min(row["gts"] for row in rows)
    own = [row for row in rows if row["gts"] == least and row["theirs"]]
    kernels = [row["ours"]["launches"] / row["theirs"]["launches"] for row in own]
    moved = max(1e3 * row["ours"]["bytes"] / BANDWIDTH / row["ours"]["ms"] for row in own)
    return (
        f"At G = {least} launches and waits are all but {100 * moved:.0f} per cent of our time by the model, and the "
        f"rules launch {times(min(kernels))} to {times(max(kernels))} times as many kernels as their peers."
    )


def sentence(rows: list[Row]) -> str:
    """For the README."""
    own = shares([row for row in rows if row["gts"] == AT])
    behind = sum(share > 1 for share, _ in own)
    share, row = own[-1]
    return (
        f"Nobody has timed it on a GPU yet. On a pretended one we have counted that, for {AT} objects, the rules that "
        f"never ask the network wait for the device at most {max(_waits(rows, False))} times per call. By a model of "
        f"these counts a dense peer would be faster in {behind} of {len(own)} cases, at worst {share:.2f} times "
        f"(`{row['method']}` on {place(row)}): [what was counted](docs/speed.md#on-a-gpu-counted-not-measured)."
    )
