"""The doctor names what is wrong and the mend, also where labelkit itself can't start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labelkit_course import doctor


def broken_pair(tmp_path):
    """An environment whose torchvision fails as a mismatched one does."""
    (tmp_path / "torchvision").mkdir()
    broken = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    (tmp_path / "torchvision" / "__init__.py").write_text(broken)
    root = str(Path(doctor.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}", "LABELKIT_WORK": str(tmp_path / "work")}


def test_versions_are_held_against_the_requirements():
    lines = ["# a comment", "torch==2.15.0", "numpy==2.4.6", "rich", "lacking==1.0", "-e .", "typer==1; os_name > ''"]
    there = {"torch": "2.15.0+cpu", "numpy": "2.0.0", "rich": "1", "typer": "1"}
    assert list(doctor.version_faults("\n".join(lines), there.get)) == [
        "numpy 2.0.0 is installed, the course was tested with 2.4.6",
        "lacking is not installed",
    ]


def test_a_folder_that_cannot_be_written_is_found(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABELKIT_WORK", str(tmp_path / "file" / "below"))
    (finding,) = doctor.work_folder()
    assert not finding.well and "progress is not kept" in finding.what
    monkeypatch.setenv("LABELKIT_WORK", str(tmp_path / "fine"))
    assert next(doctor.work_folder()).well


def test_missing_chapters_and_data_are_found(monkeypatch, tmp_path):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "00_start.py").write_text("x")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor, "CHAPTERS", tmp_path / "chapters")
    said = [finding.what for finding in doctor.data() if not finding.well]
    assert len(said) == 4 and any("00_start.ipynb" in what for what in said)


@pytest.mark.parametrize("line", [["-m", "labelkit", "course", "doctor"], [doctor.__file__]])
def test_a_mismatched_pair_is_diagnosed_from_the_command_line(line, tmp_path):
    run = subprocess.run(
        [sys.executable, *line], capture_output=True, text=True, env=broken_pair(tmp_path), cwd=tmp_path
    )
    assert run.returncode == 1, run.stdout + run.stderr
    said = " ".join(run.stdout.split())
    assert "do not fit each other" in said and "in the versions of requirements.txt" in said


def test_without_the_course_neither_its_versions_nor_jupyter_are_missed(monkeypatch):
    """After `pip install ".[train]"` in a checkout."""
    monkeypatch.setattr(doctor, "installed", {"labelkit": "1.0"}.get)
    (finding,) = [*doctor.packages(), *doctor.kernel()]
    assert finding.well and "the course is not installed" in finding.what and "make lab" in finding.mend


def test_with_the_course_a_missing_jupyter_is_wrong(monkeypatch):
    monkeypatch.setattr(doctor, "installed", {"labelkit-course": "1.0"}.get)
    monkeypatch.setitem(sys.modules, "jupyter_client.kernelspec", None)
    assert "torch is not installed" in [finding.what for finding in doctor.packages() if not finding.well]
    (finding,) = doctor.kernel()
    assert not finding.well and finding.what == "Jupyter is not installed"


def test_findings_make_the_exit_code(monkeypatch, capsys):
    well, ill = doctor.Finding(True, "fine"), doctor.Finding(False, "broken", "mend it")
    monkeypatch.setattr(doctor, "EXAMINATIONS", (lambda: [well],))
    assert doctor.main() == 0 and "All is well." in capsys.readouterr().out
    monkeypatch.setattr(doctor, "EXAMINATIONS", (lambda: [well], lambda: [ill]))
    assert doctor.main() == 1 and "WRONG broken" in capsys.readouterr().out
