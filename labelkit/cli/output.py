"""What the commands print: one table or one JSON object on stdout; warnings and errors, a line each, on stderr."""

import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from labelkit.extras import sentence

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no table; warnings and errors stay.")]

INTERRUPTED = 130  # the exit status after Ctrl-C
ALWAYS = ("AP", "AP50", "AP75", "AR", "oLRP")


def survive_any_console() -> None:
    """Let no console die on a character that its code page lacks: it prints a question mark instead."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def speaks() -> bool:
    """Whether this process is the one that prints: the only one, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def say(message: str) -> None:
    """A line for the person, on stderr, where no other program reads."""
    if speaks():
        print(message, file=sys.stderr)


def print_json(content: Any) -> None:
    """Strict JSON: a number that is not defined is null."""
    if speaks():
        print(json.dumps(_strict(content), indent=1))


def print_scores(scores: Mapping[str, float | None], title: str, sizes: Sequence[str]) -> None:
    """The headline and AP50 by size, in percent; what is not defined is a dash."""
    from rich.console import Console
    from rich.table import Table

    if not speaks():
        return
    chart = Table("", "in %", title=title)
    for name in (*ALWAYS, *(f"AP50_{size}" for size in sizes)):
        chart.add_row(name.replace("_", " "), percent(scores[name]))
    Console().print(chart)


def print_positives(by_size: Mapping[str, Mapping[str, float]]) -> None:
    """What the rule gave the training objects of each size (px at the network's input, or in the picture)."""
    from rich.console import Console
    from rich.table import Table

    if not speaks():
        return
    chart = Table("px", "objects", "positives each", "without any, %", title="what the rule gave, by size")
    for size, row in by_size.items():
        chart.add_row(size, f"{row['gts']:.0f}", f"{row['positives']:.1f}", percent(row["starved"]))
    Console().print(chart)


def percent(value: float | None) -> str:
    """A share in percent, or a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


@contextmanager
def plain_errors(stopped: str = "Stopped.") -> Iterator[None]:
    """What a user can put right is one message, not a traceback; warnings are one line each. stopped: after Ctrl-C."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"Warning: {message}")
        try:
            yield
        except ModuleNotFoundError as error:
            print(f"Error: {sentence(error)}", file=sys.stderr)
            raise typer.Exit(1) from error
        except BrokenPipeError:  # whoever reads has read enough (head): Typer ends in silence
            raise
        except (ValueError, OSError, FloatingPointError) as error:
            print(f"Error: {error}", file=sys.stderr)
            raise typer.Exit(1) from error
        except (MemoryError, RuntimeError) as error:
            from labelkit.devices import out_of_memory  # with torch, which a command line has not imported yet

            if (lacking := out_of_memory(error)) is None:
                raise
            print(f"Error: {lacking}", file=sys.stderr)
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            print(stopped, file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


def _strict(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _strict(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_strict(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
