"""How the course talks back: a box in a notebook, plain lines elsewhere. State is said by word, mark and colour."""

import html
from dataclasses import dataclass

from labelkit.display import display

MARKS = {  # state -> mark, colour (Okabe and Ito's, which colour-blind readers can tell apart)
    "passed": ("✓", "#009E73"),
    "not yet": ("✗", "#E69F00"),
    "error": ("!", "#D55E00"),
    "committed": ("●", "#0072B2"),
    "blank": ("○", "#8a8a8a"),
    "hint": ("→", "#0072B2"),
}
AS_TYPED = "white-space: pre-wrap; font-family: monospace"


@dataclass(frozen=True)
class Message:
    """A state, one line that says it, the details (kept as typed), and what to do next."""

    state: str
    title: str
    details: str = ""
    after: str = ""

    def plain(self) -> str:
        mark, _ = MARKS[self.state]
        return "\n".join(filter(None, (f"{mark} {self.title}", self.details, self.after)))

    def html(self) -> str:
        mark, color = MARKS[self.state]
        parts = [f"<b>{mark} {html.escape(self.title)}</b>"]
        if self.details:
            parts.append(f'<pre style="{AS_TYPED}">{html.escape(self.details)}</pre>')
        if self.after:
            parts.append(f"<div>{html.escape(self.after)}</div>")
        return f'<div style="border-left: 6px solid {color}; padding: 4px 12px">{"".join(parts)}</div>'


def show(message: Message) -> None:
    """Display in a notebook, print anywhere else."""
    display({"text/plain": message.plain(), "text/html": message.html()})
