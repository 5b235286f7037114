"""The report's charts, as SVG written by hand: they need no library, follow the page's colours and read in grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 360, 220  # a phone's width, so that type is never smaller than it says
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 46
PER_OCTAVE = 2  # bars
HATCHES = (
    '<svg class="lk-defs" width="0" height="0" aria-hidden="true"><defs>'
    '<pattern id="lk-poor" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<rect width="5" height="5" class="poor"/><circle cx="2.5" cy="2.5" r="1" class="mark"/></pattern>'
    '<pattern id="lk-none" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<rect width="5" height="5" class="none"/><path d="M-1 6L6 -1" class="mark"/></pattern></defs></svg>'
)
Kind = tuple[str, str, np.ndarray]  # what it is called, its class in the style sheet, the values


def by_size(
    title: str,
    kinds: Sequence[Kind],
    anchors: Sequence[float] = (),
    unit: str = "side in px",
    what: str = "objects",
) -> str:
    """Stacked bars on a logarithmic axis. anchors: the sizes that are marked below it. what: the things counted."""
    everything = np.concatenate([*(values for _, _, values in kinds), np.asarray(anchors, dtype=np.float64)])
    everything = everything[everything > 0]
    if not len(everything):
        return ""
    low, high = math.floor(math.log2(everything.min())), math.ceil(math.log2(everything.max()) + 1e-9)
    low = max(low, -2)
    edges = 2.0 ** np.arange(low, max(high, low + 1) + 1e-9, 1 / PER_OCTAVE)
    counts = [np.histogram(values.clip(edges[0], None), edges)[0] for _, _, values in kinds]
    most = int(np.sum(counts, axis=0).max())

    def across(value: float) -> float:
        share = (math.log2(max(value, edges[0])) - low) / (math.log2(edges[-1]) - low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    parts = [*_frame(most, unit)]
    for place in range(len(edges) - 1):
        x, width, below = across(edges[place]), across(edges[place + 1]) - across(edges[place]) - 1, 0
        for (_, kind, _), count in zip(kinds, counts, strict=True):
            here = int(count[place])
            if here:
                y = _down(below + here, most)
                height = max(_down(below, most) - y, 0.5)
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"/>'
                )
            below += here
    step = max(1, math.ceil((len(edges) - 1) / PER_OCTAVE / 7))
    for octave in range(low, round(math.log2(edges[-1])) + 1, step):
        parts.append(_label(across(2.0**octave), HEIGHT - BOTTOM + 20, f"{2.0**octave:g}"))
    for side in anchors:
        x = across(side)
        parts.append(f'<path d="M{x:.1f} {HEIGHT - BOTTOM + 1}v6" class="anchor"/>')
    return _svg(title, parts, f"{title}: {sum(int(count.sum()) for count in counts):,} {what}")


def curve(title: str, lines: Sequence[tuple[str, str, np.ndarray]], unit: str) -> str:
    """The share of the values at or above each IoU, a line each; the second and later are dashed."""
    at = np.linspace(0, 1, 101)
    parts = [*_frame(100, unit, " %")]
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_label(LEFT + value * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM + 20, f"{value:g}"))
    half = LEFT + 0.5 * (WIDTH - LEFT - RIGHT)
    parts.append(f'<path d="M{half} {TOP}V{HEIGHT - BOTTOM}" class="grid"/>')
    for _, kind, values in lines:
        ordered = np.sort(values)
        share = 1 - np.searchsorted(ordered, at, side="left") / max(1, len(ordered))
        points = " ".join(
            f"{LEFT + x * (WIDTH - LEFT - RIGHT):.1f},{_down(100 * y, 100):.1f}" for x, y in zip(at, share, strict=True)
        )
        parts.append(f'<polyline points="{points}" class="line {kind}"/>')
    return _svg(title, parts, title)


def per_image(title: str, counts: np.ndarray, limits: Sequence[int]) -> str:
    """Pictures by their number of objects, on a logarithmic axis that begins with none. limits: marked as lines."""
    pictures = counts.clip(0.5, None).astype(np.float64)
    return by_size(title, [("pictures", "good", pictures)], limits, "objects a picture", "pictures")


def legend(kinds: Sequence[tuple[str, str]]) -> str:
    """What the classes are called."""
    keys = "".join(
        f'<li><svg width="14" height="14" aria-hidden="true"><rect width="14" height="14" class="{kind}"/></svg> '
        f"{escape(name)}</li>"
        for name, kind in kinds
    )
    return f'<ul class="legend">{keys}</ul>'


def _down(value: float, most: float) -> float:
    return TOP + (1 - value / max(most, 1)) * (HEIGHT - TOP - BOTTOM)


def _frame(most: int, unit: str, sign: str = "") -> list[str]:
    """The axes: three heights, and what stands across."""
    parts = []
    for value in sorted({0, most // 2, most}):
        y = _down(value, most)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}{sign}</text>')
    parts.append(_label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, unit))
    return parts


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.0f}k" if count >= 1e4 else str(count)


def _label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'


def _svg(title: str, parts: Sequence[str], said: str) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(said)}">{"".join(parts)}</svg></figure>'
    )
