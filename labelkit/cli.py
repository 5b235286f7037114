"""The command line of the library. The course adds its own commands to this app (labelkit/course/cli.py)."""

import typer

import labelkit

app = typer.Typer(help="Label assignment in object detection.", no_args_is_help=True, add_completion=False)


@app.command()
def version() -> None:
    """Print the version."""
    print(labelkit.__version__)
