"""Every command line in README and docs names a command that there is, with options that it has."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from labelkit.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
COMMANDS = get_command(app).commands


def lines(text):
    """The `labelkit ...` calls of a page: of its code blocks, with continued lines joined, and of its sentences."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    shell = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(labelkit [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [line.partition(" #")[0] for line in shell + inline]


def calls():
    for page in PAGES:
        for line in lines(page.read_text(encoding="utf-8")):
            if re.match(r"(torchrun .*-m )?(\.venv/bin/)?labelkit \w+", line) and "labelkit course" not in line:
                yield pytest.param(line, id=f"{page.name}: {line[:60]}")


@pytest.mark.parametrize("line", list(calls()))
def test_a_command_line_of_the_docs_is_known(line):
    words = shlex.split(line[line.index("labelkit ") :])
    name, given = words[1], [word.partition("=")[0] for word in words[2:] if word.startswith("-")]
    assert name in COMMANDS, line
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts + parameter.secondary_opts}
    assert set(given) <= known | {"-h", "--help"}, f"{line}: {sorted(set(given) - known)}"


def test_lines_are_found():
    text = "Say `labelkit doctor`.\n```\nlabelkit train --a 1 \\\n  --b 2   # words\npip install .\n```\n"
    assert [line.split() for line in lines(text)] == [
        ["labelkit", "train", "--a", "1", "--b", "2"],
        ["pip", "install", "."],
        ["labelkit", "doctor"],
    ]
    assert len(list(calls())) > 10
