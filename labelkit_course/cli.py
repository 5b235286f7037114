"""`labelkit course ...`: the course's commands, which join the library's by the entry-point group labelkit.commands."""

from pathlib import Path
from typing import Annotated

import typer

from labelkit.cli.app import Command
from labelkit.cli.explore import PORT, serve
from labelkit.cli.output import percent, plain_errors, say
from labelkit_course import lab as laboratory

course = typer.Typer(
    help="The course: open it, see your progress, check the installation.", no_args_is_help=True, rich_markup_mode=None
)


@course.command()
def status() -> None:
    """Which exercises are passed."""
    from labelkit_course import report

    report.status()


@course.command()
def reset(
    exercise: Annotated[str | None, typer.Argument(help="an exercise's id, such as 05.2; all by default")] = None,
) -> None:
    """Forget the progress of one exercise, or of all. Notebooks stay as they are."""
    from labelkit_course import report

    report.reset(exercise)


@course.command()
def build(
    numbers: Annotated[list[str] | None, typer.Argument(metavar="NN", help="chapters by number; or all")] = None,
    check: Annotated[bool, typer.Option("--check", help="build nothing; say what has drifted")] = False,
    everything: Annotated[bool, typer.Option("--all", help="rebuild those that are current, too")] = False,
    times: Annotated[
        bool, typer.Option("--times", help="build nothing; say how long each takes to read and solve")
    ] = False,
) -> None:
    """Build the chapters' notebooks from their sources."""
    from labelkit_course import build as building  # Jupyter's packages take seconds; the other commands do without

    if times:
        raise typer.Exit(building.say_times(numbers or []))
    raise typer.Exit(building.run(numbers or [], check=check, everything=everything))


@course.command()
def copy() -> None:
    """Copy the chapters to work/; a file that is there already is left alone."""
    laboratory.copy_chapters()


@course.command(cls=Command, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Copy the chapters to work/ and open JupyterLab there. Further arguments go to JupyterLab."""
    raise typer.Exit(laboratory.main(context.args))


@course.command()
def board(
    data: Annotated[
        str, typer.Option(help="digits, sky, or trees (six rules, three spatial folds, pooled).")
    ] = "digits",
    budget: Annotated[str, typer.Option(help="full (750 steps, sky 500) or fast (200).")] = "full",
    seeds: Annotated[int, typer.Option(help="Seeds 0, 1, ... of every method.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="A method or one of its variants; repeat for more.")] = None,
    part: Annotated[str, typer.Option(help="I/N: every N-th entry from the I-th, to run N side by side.")] = "1/1",
    results: Annotated[Path, typer.Option(help="Where the entries are, one JSON file each.")] = Path("data/board"),
    work: Annotated[Path, typer.Option(help="Where runs in progress are kept.")] = Path("work/leaderboard"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    table: Annotated[bool, typer.Option("--table", help="Train nothing: print the table, draw the picture.")] = False,
) -> None:
    """Train every row of the board over several seeds; what is there already is kept, so stop and go on at will."""
    with plain_errors("Stopped. The same command goes on."):
        from labelkit_course import board as leaderboard
        from labelkit_course import entries, rows

        if not table:
            wanted = _part(rows.cells(data, budget, range(seeds), only or []), part)
            filled = entries.fill(wanted, results, work, device=device)
            for number, (cell, entry) in enumerate(filled, start=1):
                scores, seconds = entry["scores"], entry["seconds"]["training"]
                print(f"[{number}/{len(wanted)}] {cell.name}: AP {percent(scores['AP'])}, {seconds:.0f} s", flush=True)
            return
        there = leaderboard.read(results, data, budget)
        leaderboard.draw(there, results / f"{data}-{budget}.png")
        print(leaderboard.table(there), leaderboard.by_aitod_size(there), sep="\n\n")


@course.command()
def explore(
    row: Annotated[str, typer.Argument(help='A row of the board, such as "tal" or "rka, dotd".')] = "simota",
    picture: Annotated[str, typer.Option(help="sky, star or digits: a picture of the stage.")] = "sky",
    port: Annotated[int, typer.Option(help="Where the page is served; the next free one if it is taken.")] = PORT,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Drag the objects of a picture of the stage; the rules ask the detector that the row has trained."""
    with plain_errors():
        from labelkit_course import exploring

        begun = exploring.opened(row, picture)
        for note in begun.notes:
            say(note)
        serve(begun, port, browser)


@course.command()
def doctor() -> None:
    """Say what is wrong with this installation, and how to mend it."""
    from labelkit_course import doctor as examination

    raise typer.Exit(examination.main())


def _part(cells: list, part: str) -> list:
    try:
        first, step = (int(number) for number in part.split("/"))
        if not 1 <= first <= step:
            raise ValueError
    except ValueError:
        raise ValueError(f"part must be I/N with I from 1 to N, got {part!r}") from None
    return cells[first - 1 :: step]
