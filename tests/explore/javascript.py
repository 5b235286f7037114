"""Runs the rules in JavaScript: through node, or else through a Chromium."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from labelkit.explore.page import RULES
from labelkit.explore.parts import front

MISSING = "neither node nor a Chromium is on PATH, so nothing can run the rules in JavaScript"
ASK = "question => { try { return labelkitRules.answer(question); } catch (error) { return {error: error.message}; } }"


def ask(questions: list[dict], folder: Path) -> list[dict]:
    """The answers, {"error": sentence} where there is none."""
    return evaluate(f"questions.map({ASK})", folder, questions)


def evaluate(expression: str, folder: Path, questions: list[dict] | None = None) -> Any:
    """What an expression is, in which `questions` may stand; skips the test where nothing runs JavaScript."""
    if node := shutil.which("node"):
        asked, told, program = folder / "questions.json", folder / "told.json", folder / "program.js"
        asked.write_text(json.dumps(questions))
        lines = list(map(front, RULES))
        lines.append(f"const fs = require('fs'), questions = JSON.parse(fs.readFileSync({json.dumps(str(asked))}));")
        lines.append(f"fs.writeFileSync({json.dumps(str(told))}, JSON.stringify({expression}));")
        program.write_text("\n".join(lines), encoding="utf-8")
        subprocess.run([node, str(program)], check=True, timeout=300)
        return json.loads(told.read_text())
    from tests.browser import chromium

    if (executable := chromium.find()) is None:
        pytest.skip(MISSING)
    api = pytest.importorskip("playwright.sync_api", reason=MISSING)
    with api.sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=executable).new_page()
        for name in RULES:
            page.add_script_tag(content=front(name))
        return page.evaluate(f"questions => {expression}", questions)
