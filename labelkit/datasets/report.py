"""What a check found: its problems, what reading changes, and how much of the file is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from labelkit.counts import counted


@dataclass(frozen=True)
class Problem:
    """One fault: in which file, of which record, what is wrong, and what was done about it.

    `action`: "dropped", "clipped", "repaired" (kept, with another value where nobody needs the one in the file),
    "turned" (a picture, by its EXIF orientation) or "kept".
    """

    file: str
    record: str
    message: str
    kind: str
    action: str = "dropped"

    def __str__(self) -> str:
        return f"{self.file}: {self.record}: {self.message} [{self.action}]"


@dataclass
class Report:
    """What the check found. `images` and `annotations` count (kept, in the file).

    `became_background` counts the objects that a detector now learns to call background: their annotations are
    dropped, their images kept. `notes` hold what reading changes in the pixels of sound files; they are no problems.
    """

    problems: list[Problem] = field(default_factory=list)
    images: tuple[int, int] = (0, 0)
    annotations: tuple[int, int] = (0, 0)
    became_background: int = 0
    notes: list[Problem] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How often each kind of fault occurred, most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def summary(self, first: int = 20) -> str:
        """The counts and the first faults, for printing."""
        lines = [
            f"kept {self.images[0]} of {counted(self.images[1], 'image')}, {self.annotations[0]} of "
            f"{counted(self.annotations[1], 'annotation')}, {counted(len(self.problems), 'problem')}"
        ]
        if self.became_background:
            one, many = "its image is kept, it is", "their images are kept, they are"
            objects = counted(
                self.became_background, f"object became background: {one}", f"objects became background: {many}"
            )
            lines.append(f"  {objects} not")
        lines += [f"  {count} x {kind}" for kind, count in self.counts().items()]
        lines += [f"  {problem}" for problem in self.problems[:first]]
        if len(self.problems) > first:
            lines.append(f"  ... and {len(self.problems) - first} more in .problems")
        for kind, count in Counter(note.kind for note in self.notes).most_common():
            example = next(note for note in self.notes if note.kind == kind)
            lines.append(f"  note, {count} x {kind}, such as {example.record}: {example.message}")
        return "\n".join(lines)

    __str__ = summary


class InvalidAnnotations(ValueError):
    """Raised by the strict check; the message lists every problem and `report` holds them."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.summary(first=len(report.problems)))
        self.report = report


class Fault(Exception):
    """Why a record cannot be kept; the check makes a `Problem` of it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
