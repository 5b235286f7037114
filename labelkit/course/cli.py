"""The `labelkit` command: the library's commands (labelkit/cli.py) and the course's."""

import sys
from typing import Annotated

import typer

from labelkit.course import doctor as examination
from labelkit.course import lab as laboratory
from labelkit.course import report

try:
    from labelkit.cli import app
except Exception as error:  # a broken installation can fail in any way; the doctor says which
    print(f"labelkit can't start: {error}\n")
    sys.exit(examination.main())

course = typer.Typer(help="The course: open it, see your progress, check the installation.", no_args_is_help=True)
app.add_typer(course, name="course")


@course.command()
def status() -> None:
    """Which exercises are passed."""
    report.status()


@course.command()
def reset(
    exercise: Annotated[str | None, typer.Argument(help="an exercise's id, such as 05.2; all by default")] = None,
) -> None:
    """Forget the progress of one exercise, or of all. Notebooks stay as they are."""
    report.reset(exercise)


@course.command()
def build(
    numbers: Annotated[list[str] | None, typer.Argument(metavar="NN", help="chapters by number; or all")] = None,
    check: Annotated[bool, typer.Option("--check", help="build nothing; say what has drifted")] = False,
    everything: Annotated[bool, typer.Option("--all", help="rebuild those that are current, too")] = False,
) -> None:
    """Build the chapters' notebooks from their sources."""
    from labelkit.course import build as building  # Jupyter's packages take seconds; the other commands do without

    raise typer.Exit(building.run(numbers or [], check=check, everything=everything))


@course.command()
def copy() -> None:
    """Copy the chapters to work/; a file that is there already is left alone."""
    laboratory.copy_chapters()


@course.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Copy the chapters to work/ and open JupyterLab there. Further arguments go to JupyterLab."""
    raise typer.Exit(laboratory.main(context.args))


@app.command()
@course.command()
def doctor() -> None:
    """Say what is wrong with this installation, and how to mend it."""
    raise typer.Exit(examination.main())


if __name__ == "__main__":
    app()
