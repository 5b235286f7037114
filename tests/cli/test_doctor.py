"""`labelkit doctor` says what does not fit and which extra brings what; an extra that is not there is no fault."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from labelkit import extras
from labelkit.cli import doctor
from labelkit.cli.doctor import Finding, Requirement

ROOT = Path(doctor.__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize(
    ("error", "clue"),
    [
        ("RuntimeError: operator torchvision::nms does not exist\n", "do not fit each other"),
        ("ImportError: _C.so: undefined symbol: _ZN5torch3jit", "do not fit each other"),
        ("ModuleNotFoundError: No module named 'torchvision'", "torchvision is not installed"),
        ("OSError: libcudart.so.13: cannot open shared object file", "libcudart"),
        ("", "was killed"),
    ],
)
def test_a_broken_torch_is_explained(error, clue):
    finding = doctor.explain_torch(error)
    assert not finding.well and clue in finding.what and "torch torchvision" in finding.mend


def test_metadata_is_read_as_it_is_written():
    lines = [
        "torch>=2.11",
        "Jinja2",
        'matplotlib>=3.9; extra == "plot"',
        "a.b-c[x,y] >=1.2,!=1.3; python_version < '4' and extra == 'two-words'",
        "labelkit[data,plot]; extra == 'train'",
    ]
    assert doctor.requirements(lines) == [
        Requirement("torch", "2.11"),
        Requirement("Jinja2"),
        Requirement("matplotlib", "3.9", "plot"),
        Requirement("a.b-c", "1.2", "two-words"),
    ]


def test_pyproject_asks_for_nothing_but_lowest_versions():
    """What the doctor can compare; a requirement without one lets the resolver take a version that can't be built."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for line in (line for group in groups for line in group if not line.startswith("labelkit[")):
        assert re.fullmatch(r"[\w-]+>=\d+(\.\d+)*", line), line


def test_every_extra_has_a_purpose_and_every_module_an_extra():
    assert list(PROJECT["optional-dependencies"]) == list(doctor.PURPOSES)
    assert set(extras.BROUGHT_BY.values()) <= set(doctor.PURPOSES)


CORE = [Requirement("torch", "2.11"), Requirement("numpy", "2.0.0")]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"torch": "2.11.0+cpu", "numpy": "2.0"}, [Finding(True, "labelkit 1.0 has what it always needs")]),
        ({"torch": "2.11.0"}, [Finding(False, "numpy is not installed", "pip install 'numpy>=2.0.0'")]),
        (
            {"torch": "2.9.1", "numpy": "10.0"},
            [Finding(False, "torch 2.9.1 is installed, labelkit needs 2.11 or newer", "pip install 'torch>=2.11'")],
        ),
    ],
)
def test_what_labelkit_always_needs(there, said):
    assert list(doctor.core("1.0", CORE, there.get)) == said


def test_an_extra_that_is_not_there_is_no_fault_and_one_in_an_old_version_is():
    wanted = [Requirement("matplotlib", "3.9", "plot"), Requirement("ipython", "8.18", "plot")]
    (absent,) = doctor.of_extra("plot", wanted, {"matplotlib": "3.1"}.get)
    what, mend = "labelkit[plot] (pictures): ipython not installed", "pip install 'labelkit[plot]'"
    assert absent == Finding(True, what, mend)
    (old,) = doctor.of_extra("plot", wanted, {"matplotlib": "3.1", "ipython": "9.0"}.get)
    assert not old.well and old.what == "matplotlib 3.1 is installed, labelkit needs 3.9 or newer"
    (there,) = doctor.of_extra("plot", wanted, {"matplotlib": "3.10", "ipython": "8.18"}.get)
    assert there.well and "is installed" in there.what


def test_this_environment_is_well(capsys):
    assert doctor.main() == 0
    said = capsys.readouterr().out
    assert "load and fit each other" in said and "All is well." in said


def test_findings_make_the_exit_code_and_are_said_once(capsys):
    well, more, ill = Finding(True, "fine"), Finding(True, "less", "add it"), Finding(False, "broken", "mend it")
    assert doctor.report([well, more]) == 0
    said = capsys.readouterr().out
    assert said == "ok    fine\n-     less\n      To have it: add it\nAll is well.\n"
    assert doctor.report([ill, Finding(False, "torn", "mend it"), well, Finding(False, "broken", "or so")]) == 1
    said = capsys.readouterr().out
    assert said == "WRONG broken\nWRONG torn\n      Mend: mend it\nok    fine\n2 things to mend.\n"


def test_what_a_build_leaves_in_a_checkout_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name, file in (("left.egg-info", "PKG-INFO"), ("here-2.0.dist-info", "METADATA")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(f"Metadata-Version: 2.1\nName: {name[:4]}\nVersion: 2.0\n")
    assert doctor.installed("here") == "2.0" and doctor.installed("left") is None


def test_the_doctor_and_the_command_line_need_neither_torch_nor_an_extra():
    """In a Python where importing any of them fails, as in an installation that is broken or bare."""
    code = """
import sys
for name in ("torch", "torchvision", "numpy", "jaxtyping", "matplotlib", "lightning", "labelkit_course"):
    sys.modules[name] = None
import labelkit.cli.doctor, labelkit.cli.app
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("matplotlib.figure", "matplotlib is not installed; pip install 'labelkit[plot]' brings it"),
        ("lightning", "lightning is not installed; pip install 'labelkit[train]' brings it"),
        ("antigravity", "No module named 'antigravity'"),
        (None, "No module named 'None'"),
    ],
)
def test_a_module_that_is_missing_is_named_with_its_extra(name, said):
    with pytest.raises(ModuleNotFoundError) as raised, extras.explained():
        raise ModuleNotFoundError(f"No module named {str(name)!r}", name=name)
    assert str(raised.value) == said and raised.value.name == name


def test_pictures_without_matplotlib_are_refused_by_a_sentence():
    code = "import sys; sys.modules['matplotlib'] = None; import labelkit.plot"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stderr.rstrip().endswith("matplotlib is not installed; pip install 'labelkit[plot]' brings it")
