"""The door of the command line: quick, speaks on every console, and a broken package beside it costs only itself."""

import json
import os
import subprocess
import sys
import types
from importlib.metadata import EntryPoint

import pytest
import typer
from typer.testing import CliRunner

import labelkit
from labelkit.cli.app import app, join
from labelkit.cli.output import percent, plain_errors
from tests.cli.calling import call

PROLOGUE = "import sys; sys.argv = ['labelkit', *sys.argv[1:]]; from labelkit.cli.app import main; main()"


def process(*arguments, code=PROLOGUE, **variables):
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, env=os.environ | variables, timeout=120)


def test_help_loads_nothing_heavy():
    """What would make it slow: half a second of the processor is the limit, and torch alone takes two."""
    code = (
        "import atexit, sys\n"
        "heavy = ('torch', 'numpy', 'lightning', 'matplotlib', 'IPython', 'labelkit.training.loop')\n"
        "atexit.register(lambda: print(*[name for name in heavy if name in sys.modules], file=sys.stderr))\n"
    )
    run = process("--help", code=code + PROLOGUE)
    assert run.returncode == 0 and b"evaluate" in run.stdout
    assert run.stderr.split() == []


@pytest.mark.parametrize("arguments", [["-h"], ["train", "-h"], ["evaluate", "--help"], ["version", "-h"]])
def test_every_command_has_help_by_both_names(arguments):
    result = call(*arguments)
    assert result.exit_code == 0 and "Usage" in result.output and "Show this message" in result.output


def test_the_version_three_ways():
    assert call("--version").output == call("version").output == f"{labelkit.__version__}\n"
    versions = json.loads(call("version", "--json").output)
    assert versions["labelkit"] == labelkit.__version__ and versions["torch"] and versions["python"].startswith("3.")


def test_completion_can_be_installed():
    assert "--install-completion" in call("--help").output
    completed = process(_LABELKIT_COMPLETE="complete_bash", COMP_WORDS="labelkit ev", COMP_CWORD="1")
    assert completed.stdout.split() == [b"evaluate"]


def test_a_console_without_the_character_gets_a_question_mark():
    code = (
        "from labelkit.cli.app import app, main\n"
        "@app.command()\n"
        "def marks():\n"
        "    print('\\u2713 passed \\u2192 \\u2212 5'); import sys; print('\\u2713', file=sys.stderr)\n"
    )
    result = process("marks", code=code + PROLOGUE, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [b"?", b"passed", b"?", b"?", b"5"] and result.stderr.split() == [b"?"]


def test_a_script_on_such_a_console_goes_on():
    code = "from labelkit.display import display; display({'text/plain': '\\u2713 05.2'})"
    result = process(code=code, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert result.returncode == 0 and result.stdout.split() == [b"?", b"05.2"]


@pytest.fixture
def beside(monkeypatch):
    """A function that makes an entry point to something importable."""

    def make(name, thing):
        module = types.ModuleType("beside")
        module.thing = thing
        monkeypatch.setitem(sys.modules, "beside", module)
        return EntryPoint(name, "beside:thing", "labelkit.commands")

    return make


def library():
    """The library's commands, in an app that a test may add to."""
    own = typer.Typer(rich_markup_mode=None)
    own.registered_commands += app.registered_commands
    return own


def test_another_packages_commands_join(beside):
    course = typer.Typer()
    course.command("hello")(lambda: print("hello"))
    course.command("other")(lambda: None)
    own = library()
    join(own, beside("course", course))
    assert CliRunner().invoke(own, ["course", "hello"]).output == "hello\n"


@pytest.mark.parametrize(
    ("name", "thing", "value", "reason"),
    [
        ("gone", None, "no_such_package:app", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("gone", None, "beside:other", "AttributeError"),
        ("wrong", print, "beside:thing", "TypeError: a Typer app was expected, not builtin_function_or_method"),
        ("train", typer.Typer(), "beside:thing", "ValueError: labelkit has a command of this name"),
    ],
)
def test_a_broken_package_costs_one_line_and_its_own_commands(beside, capsys, name, thing, value, reason):
    beside(name, thing)
    own = library()
    join(own, EntryPoint(name, value, "labelkit.commands"))
    said = capsys.readouterr().err
    assert said.startswith(f"labelkit {name} is left out: {value} cannot be loaded (") and reason in said
    assert said.count("\n") == 1
    assert CliRunner().invoke(own, ["version"]).output == f"{labelkit.__version__}\n"


def test_the_doctors_answer_is_the_exit_code(monkeypatch):
    doctor = types.ModuleType("labelkit.cli.doctor")
    doctor.main = lambda: 3
    monkeypatch.setitem(sys.modules, "labelkit.cli.doctor", doctor)
    monkeypatch.setattr("labelkit.cli.doctor", doctor, raising=False)
    assert call("doctor").exit_code == 3


def test_a_missing_package_and_a_reader_that_left(capsys):
    with pytest.raises(typer.Exit), plain_errors():
        raise ModuleNotFoundError("No module named 'lightning'", name="lightning")
    assert "lightning is not installed; pip install 'labelkit[train]' brings it" in capsys.readouterr().err
    with pytest.raises(BrokenPipeError), plain_errors():
        raise BrokenPipeError
    assert capsys.readouterr().err == ""


def test_percent():
    assert [percent(value) for value in (None, float("nan"), 0.0, 0.1234)] == ["-", "-", "0.0", "12.3"]
