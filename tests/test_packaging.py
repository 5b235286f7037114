"""What is installed is what is meant: one version, the library alone in its wheel, Pythons and tools named alike."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import labelkit

ROOT = Path(__file__).parents[1]


def project(folder=""):
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_there_is_one_version():
    assert project()["dynamic"] == ["version"]
    assert project("labelkit_course")["version"] == read("CITATION.cff")["version"] == labelkit.__version__
    assert f"## {labelkit.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["labelkit.training.compare", "labelkit_course.method_map"])
def test_a_public_name_is_never_the_module_of_the_same_name(name):
    """Whoever imports the module first: the package's attribute would become the module."""
    package, _, short = name.rpartition(".")
    code = f"import {name}, sys; assert getattr(sys.modules[{package!r}], {short!r}) is sys.modules[{name!r}].{short}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_pythons_that_are_claimed_are_those_of_the_matrix():
    claimed = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in project()["classifiers"]]
    versions = read(".github/workflows/ci.yml")["jobs"]["versions"]["strategy"]["matrix"]
    assert [match[1] for match in claimed if match] == versions["python"]
    lowest = [project(folder)["requires-python"] for folder in ("", "labelkit_course")]
    assert lowest == [f">={versions['python'][0]}"] * 2
    excluded = [(one["python"], one["versions"]) for one in versions["exclude"]]
    assert not [python for python, which in excluded if which == "newest"] and ("3.11", "oldest") not in excluded


def test_the_book_that_is_driven_in_a_browser_is_the_one_that_is_published():
    jobs, made = read(".github/workflows/book.yml")["jobs"], "build/book/html"
    steps = jobs["build"]["steps"]
    done = [step.get("run") or step["uses"].partition("@")[0] for step in steps]
    order = ["make book", ".venv/bin/python -m pytest tests/browser/test_book.py", "actions/upload-pages-artifact"]
    assert [step for step in done if step in order] == order
    assert steps[done.index(order[1])]["env"]["LABELKIT_BOOK"] == steps[done.index(order[2])]["with"]["path"] == made
    assert jobs["publish"]["needs"] == "build"
    assert [step["uses"].partition("@")[0] for step in jobs["publish"]["steps"]] == ["actions/deploy-pages"]


def test_the_formatter_is_the_same_before_a_commit_and_in_make_lint():
    (hook,) = [repo for repo in read(".pre-commit-config.yaml")["repos"] if "ruff" in repo["repo"]]
    assert f"ruff=={hook['rev'].removeprefix('v')}\n" in (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_the_wheel_holds_the_library_alone_and_says_that_it_is_typed(tmp_path):
    source, skipped = tmp_path / "source", shutil.ignore_patterns("__pycache__", "*.egg-info", "*.ipynb")
    for name in ("labelkit", "labelkit_course", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"labelkit-{labelkit.__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {path.relative_to(source).as_posix() for path in (source / "labelkit").rglob("*") if path.is_file()}
    assert held == sources and "labelkit/py.typed" in held
