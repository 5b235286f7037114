"""`labelkit` called as a command line would, in this process."""

from typer.testing import CliRunner

from labelkit.cli.app import app


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
