"""The report as one page of HTML: no script, font or picture from outside, and every name in it escaped."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.audit import charts, words
from labelkit.audit.numbers import COCO_COUNTS, REACHED
from labelkit.audit.pictures import drawn, worst
from labelkit.audit.provenance import made_by
from labelkit.audit.style import PAGE, SHEET
from labelkit.audit.tables import as_html
from labelkit.counts import counted

Found = Any  # an Audit, whose module imports this one
SMALL_SIDE = 16  # px at the input: whose curve is drawn by itself


def page(found: Found, command: str = "") -> str:
    """The whole document."""
    numbers = found.numbers
    title = f"Audit of {Path(found.table_of_boxes.file).name if found.table_of_boxes.file else 'a data set'}"
    body = [f"<h1>{escape(title)}</h1>", *_first(found, numbers)]
    if numbers["objects"]:
        rule = next(iter(found.rules))
        body += [*_sizes(found, rule), *_tables(numbers), *_worst(found, rule)]
    body += [*_data(found, numbers), *_made_by(found, command)]
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        '<meta name="color-scheme" content="light dark"/>'
        f"<title>{escape(title)}</title><style>{PAGE}{SHEET}</style></head>\n"
        f'<body><main class="lk">{charts.HATCHES}\n' + "\n".join(body) + "\n</main></body></html>\n"
    )
    return text.encode("utf-8", "replace").decode()  # a file's name may hold bytes that are no text


def fragment(found: Found) -> str:
    """The causes, the sizes and the tables, for a notebook."""
    numbers = found.numbers
    body = _first(found, numbers)
    if numbers["objects"]:
        body += [*_sizes(found, next(iter(found.rules))), *_tables(numbers)]
    return f'<style>{SHEET}</style><div class="lk">{charts.HATCHES}' + "\n".join(body) + "</div>"


def _first(found: Found, numbers: words.Numbers) -> list[str]:
    if not numbers["objects"]:
        return [f"<p>{escape(words.report(numbers))}</p>"]
    said = words.verdict(numbers)
    calm = " calm" if said.startswith("It is not") else ""
    parts = [f"<p>{escape(words.heading(numbers))}</p>", f'<p class="verdict{calm}">{escape(said)}</p>']
    parts.append("<h2>Three causes</h2>")
    data = shlex.quote(found.table_of_boxes.file or "DATA")
    for cause in words.every_cause(numbers):
        share = cause.share or 0.0
        parts.append(
            f'<div class="cause"><b>{cause.name}</b> {words.percent(cause.share)} of the objects'
            f'<div class="bar"><svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect width="{100 * share:.2f}" height="1" class="lost"/></svg></div><p>{escape(cause.said)}</p>'
        )
        if cause.mend:
            parts.append(f"<p>{escape(cause.mend)}</p>")
        if cause.options:
            parts.append(f"<pre><code>labelkit audit {escape(data)} {escape(cause.options)}</code></pre>")
        parts.append("</div>")
    return parts


def _sizes(found: Found, rule: str) -> list[str]:
    """Who has a good positive, a poor one, none: by size at the input and in the picture; and what anchors reach."""
    objects = found.objects
    none, best = (objects.positives[rule] == 0).numpy(), objects.best_iou.numpy()
    if found.front.has_anchors:
        good = ~none & (best >= REACHED)
        named = [(f"an anchor of IoU {REACHED} or more, and a positive", "good", good)]
        named.append((f"positives below an IoU of {REACHED}", "poor", ~none & ~good))
    else:
        named = [("positives", "good", ~none)]
    named.append(("no positive", "none", none))
    at_input, original = objects.side.numpy(), objects.original_side.numpy()
    anchors = found.front.anchor_sides

    def kinds(side: np.ndarray) -> list[charts.Kind]:
        return [(name, kind, side[here]) for name, kind, here in named]

    parts = [f"<h2>Sizes, under {escape(rule)}</h2>", charts.legend([(name, kind) for name, kind, _ in named])]
    ticks = " (ticks: anchors)" if anchors else ""
    shown = [charts.by_size(f"At the network's input{ticks}", kinds(at_input), anchors)]
    shown.append(charts.by_size("In the pictures as they are", kinds(original)))
    if found.front.has_anchors:
        lines = [("all", "good", best)]
        if (small := at_input < SMALL_SIDE).any():
            lines.append(("small", "none", best[small]))
        title = "Share that the best anchor reaches"
        title += f" (dashed: under {SMALL_SIDE} px at the input)" if len(lines) > 1 else ""
        shown.append(charts.curve(title, lines, "IoU"))
    return [*parts, f'<div class="charts">{"".join(shown)}</div>']


def _tables(numbers: words.Numbers) -> list[str]:
    rows = [["rule", "positives per object", "without any", "of these, taken by a neighbour", "times as large", ""]]
    for name, rule in numbers["rules"].items():
        share = rule["starved_by_a_neighbour"] / rule["starved"] if rule["starved"] else None
        larger = rule["neighbour_times_larger"]
        rows.append(
            [name, f"{rule['positives_per_object']:.1f}", words.percent(rule["starved"]), words.percent(share)]
            + ["-" if larger is None else f"{larger:.1f}", rule["rule"]]
        )
    parts = ["<h2>Rules</h2>", _scrolled(rows, len(rows[0]) - 1)]
    parts += ["<h2>By size at the input</h2>", _scrolled(words.size_rows(numbers))]
    if numbers["what_if"]:
        said = (
            f"Worked out for {numbers['what_if'][0]['images']} of the pictures. Fewer without a positive is not yet a "
        )
        parts.append(f'<h2>What would change it</h2><p class="soft">{said}better rule; an object without one cannot be')
        parts[-1] += " learned.</p>"
        options = ["labelkit audit …", *(row["options"] for row in numbers["what_if"])]
        rows = [[*row, option] for row, option in zip(words.change_rows(numbers), options, strict=True)]
        parts.append(_scrolled(rows, len(rows[0]) - 1))
    return parts


def _worst(found: Found, rule: str) -> list[str]:
    indices = worst(found, rule)
    if not indices:
        return []
    return [
        "<h2>The worst pictures</h2>",
        f'<p class="soft">Filled: an object to which {escape(rule)} gives no positive; its arrow points to the '
        f"neighbour that took what it had chosen. Dashed: a positive, but no anchor with an IoU of {REACHED}. Thin: "
        "both.</p>",
        f'<div class="pictures">{"".join(drawn(found, rule, index) for index in indices)}</div>',
    ]


def _data(found: Found, numbers: words.Numbers) -> list[str]:
    data, report = numbers["data"], found.table_of_boxes.report
    per_image = data["objects_per_image"]
    parts = ["<h2>The data</h2>", "<ul>"]
    parts += [f"<li>{count:,} × {escape(kind)}</li>" for kind, count in numbers["faults"].items()]
    parts += [
        f"<li>{words.twice(data)}, {data['identical']:,} of them are identical</li>",
        f"<li>{words.tiny(data)}</li>",
        f"<li>{counted(per_image['images_without'], 'picture', form=',')} without an object; the median has "
        f"{per_image['median'] or 0:g}, the fullest {per_image['most']:,}</li>",
        "</ul>",
    ]
    for title, lines in (("Annotation faults", data["problems"]), ("Duplicates", data["duplicate_pairs"])):
        if lines:
            items = "".join(f"<li>{escape(line)}</li>" for line in lines)
            parts.append(f"<details><summary>{title}, the first {len(lines)}</summary><ul>{items}</ul></details>")
    if report.notes:
        items = "".join(f"<li>{escape(str(note))}</li>" for note in report.notes[: words.FIRST])
        parts.append(f"<details><summary>Notes</summary><ul>{items}</ul></details>")
    if numbers["objects"]:
        limits = sorted({found.front.detections, COCO_COUNTS})
        title = f"Objects a picture (ticks: {' and '.join(map(str, limits))} detections)"
        parts.append(f'<div class="charts">{charts.per_image(title, found.data.per_image, limits)}</div>')
    return parts


def _made_by(found: Found, command: str) -> list[str]:
    made = made_by(found.table_of_boxes.file, command)
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    parts = ["<h2>Made by</h2>"]
    parts += [f"<pre><code>{escape(command)}</code></pre>"] if command else []
    parts.append(f'<p class="soft">{escape(versions)}</p>')
    if made["sha256"]:
        parts.append(f'<p class="soft">{escape(made["file"])}<br/>SHA-256 <code>{made["sha256"]}</code></p>')
    return parts


def _scrolled(rows: list[list[str]], wordy: int | None = None) -> str:
    return f'<div class="scroll">{as_html(rows, wordy)}</div>'
