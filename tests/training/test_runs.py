"""Files of a run are whole or not there, whatever happens while they are written."""

import errno
import json
import os

import pytest
import torch

from labelkit.training import runs


class Interrupted(BaseException):
    pass


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("failure", [FULL, Interrupted(), RuntimeError("x")])
def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, failure):
    path = tmp_path / "result.json"
    runs.write_json(path, {"a": 1})

    def half(file):
        file.write(b"{half")
        raise failure

    with pytest.raises(type(failure)) as raised:
        runs.write_whole(path, half)
    if isinstance(failure, OSError):
        assert raised.value.errno == errno.ENOSPC
        assert all(part in str(raised.value) for part in (str(path), "No space left", "is kept"))
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_full_disk_under_torchs_own_writer_is_named(tmp_path):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            pass

    path = tmp_path / "last.ckpt"
    with pytest.raises(OSError, match=r"could not write .*last.ckpt .*No space left.*nothing was written"):
        runs.write_whole(path, lambda file: torch.save({"weight": torch.zeros(1000)}, Full()))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="could not write .*file/run/config.json"):
        runs.write_json(tmp_path / "file" / "run" / "config.json", {})


def test_a_checkpoint_comes_back_without_running_code(tmp_path):
    path = tmp_path / "last.ckpt"
    checkpoint = {"state_dict": {"weight": torch.arange(4.0)}, "labelkit": {"history": [{"loss": 0.5}]}}
    runs.save_checkpoint(checkpoint, path)
    torch.testing.assert_close(runs.load_checkpoint(path), checkpoint)

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save(Evil(), path)
    with pytest.raises(ValueError, match="last.ckpt is not a checkpoint of labelkit"):
        runs.load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"PK" + b[::-1]])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    path = tmp_path / "last.ckpt"
    runs.save_checkpoint({"weight": torch.zeros(1000)}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"last\.ckpt is not a checkpoint of labelkit, or is damaged"):
        runs.load_checkpoint(path)


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*none\.ckpt"):
        runs.load_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "config.json").write_text('{"recipe": {')
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        runs.read_json(tmp_path / "config.json")


def test_csv_has_a_line_a_row(tmp_path):
    runs.write_csv(tmp_path / "metrics.csv", [{"step": 1, "loss": 0.25}, {"step": 2, "loss": 1 / 3}])
    assert (tmp_path / "metrics.csv").read_text() == "step,loss\n1,0.25\n2,0.33333333\n"
