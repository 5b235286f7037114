"""The `labelkit` command. Other packages join in by the entry-point group `labelkit.commands`, as the course does."""

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated

import typer
from typer.core import TyperCommand

import labelkit
from labelkit.cli.audit import audit
from labelkit.cli.compare import compare
from labelkit.cli.convert import convert
from labelkit.cli.evaluate import evaluate
from labelkit.cli.explore import explore
from labelkit.cli.output import survive_any_console
from labelkit.cli.predict import predict
from labelkit.cli.train import train
from labelkit.cli.version import version

COMMANDS = "labelkit.commands"  # entry points of this group are Typer apps, added under their names


class Command(TyperCommand):
    """For a command that asks for its `typer.Context`: Typer itself hands over the class beneath."""

    context_class = typer.Context


# Plain help: rich's takes longer to import than everything else that a help text needs.
app = typer.Typer(
    help="Label assignment in object detection.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=Command)(train)
app.command()(evaluate)
app.command()(predict)
app.command()(audit)
app.command()(compare)
app.command()(explore)
app.command()(convert)
app.command()(version)


@app.command()
def doctor() -> None:
    """Say what is wrong with this installation, and how to mend it."""
    from labelkit.cli import doctor as examination

    raise typer.Exit(examination.main())


def _print_version(wanted: bool) -> bool:
    if wanted:
        print(labelkit.__version__)
        raise typer.Exit
    return wanted


@app.callback()
def labelkit_command(
    show: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Label assignment in object detection."""


def join(to: typer.Typer, point: EntryPoint) -> None:
    """Add another package's commands; one that is broken costs a line on stderr, not the library's commands."""
    own = {command.name or getattr(command.callback, "__name__", None) for command in to.registered_commands}
    try:
        if point.name in own:
            raise ValueError("labelkit has a command of this name")
        commands = point.load()
        if not isinstance(commands, typer.Typer):
            raise TypeError(f"a Typer app was expected, not {type(commands).__name__}")
    except (Exception, SystemExit) as error:  # another package's import may raise anything
        reason = str(error).partition("\n")[0]
        print(
            f"labelkit {point.name} is left out: {point.value} cannot be loaded ({type(error).__name__}: {reason})",
            file=sys.stderr,
        )
        return
    to.add_typer(commands, name=point.name)


def main() -> None:
    """Run the command line with everything that is installed beside it."""
    survive_any_console()
    for point in entry_points(group=COMMANDS):
        join(app, point)
    app()
