"""Commands whose end would be a pity: what can't be written is said before the work, what can't be told is an error."""

import json
import os
import shutil
import sys

import pytest
import torch
import typer

from labelkit.cli.output import plain_errors
from labelkit.datasets import writing
from tests.cli.calling import call
from tests.datasets.test_layouts import roboflow
from tests.squares import in_folders


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return in_folders(tmp_path_factory.mktemp("doors"))


def test_convert_writes_nothing_where_one_split_is_broken(tmp_path):
    roboflow(tmp_path / "mine")
    (tmp_path / "mine/test/_annotations.coco.json").write_text('{"images": [')
    result = call("convert", tmp_path / "mine", tmp_path / "new")
    assert result.exit_code == 1 and "not JSON" in result.output and not (tmp_path / "new").exists()


def test_convert_stopped_leaves_no_split_that_looks_whole(tmp_path, monkeypatch):
    roboflow(tmp_path / "mine")
    put, calls = writing._put, []

    def stops(source, target, copy):
        calls.append(source)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return put(source, target, copy)

    monkeypatch.setattr(writing, "_put", stops)
    result = call("convert", tmp_path / "mine", tmp_path / "new")
    assert result.exit_code == 130 and result.output.endswith("Stopped.\n")
    assert (tmp_path / "new/train").is_dir() and not list((tmp_path / "new").rglob("annotations.json"))


def test_audit_looks_at_its_folder_first(data, tmp_path, monkeypatch):
    from labelkit import audit

    monkeypatch.setattr(audit, "audit", lambda *arguments, **options: pytest.fail("begun"))
    (tmp_path / "file").write_text("in the way")
    result = call("audit", data, "--detector", "small", "--out", tmp_path / "file")
    assert result.exit_code == 1 and f"could not write into {tmp_path / 'file'}" in result.output


@pytest.mark.parametrize("condition", ["starved>5%", "reachable<80%", "ceiling<0.9"])
def test_fail_if_of_data_without_an_object_is_no_pass(data, tmp_path, condition):
    """A broken export must not be green in CI."""
    shutil.copytree(data / "train", tmp_path / "data")
    file = tmp_path / "data" / "annotations.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    result = call("audit", tmp_path / "data", "--detector", "small", "--quiet", "--fail-if", condition)
    assert result.exit_code == 1 and "can't be told" in result.output


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems have no names that are no text")
def test_a_folder_whose_name_is_no_text_is_reported_on(data, tmp_path):
    place = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    shutil.copytree(data / "train", place)
    result = call("audit", place, "--detector", "small", "--no-what-if", "--quiet", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "caf?" in (tmp_path / "out/audit.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("alloc: can't allocate memory")]
)
def test_out_of_memory_is_a_sentence(error, capsys):
    with pytest.raises(typer.Exit), plain_errors():
        raise error
    assert capsys.readouterr().err.startswith(
        "Error: out of memory: smaller batches, smaller inputs or tiles need less"
    )


def test_another_runtime_error_is_a_fault_of_the_program():
    with pytest.raises(RuntimeError, match="shapes"), plain_errors():
        raise RuntimeError("shapes")
