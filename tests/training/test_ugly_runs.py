"""Runs that meet changed data, edited files, a second process, undefined weights: a sentence, nothing lost."""

import json
import multiprocessing
import os
import shutil
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from labelkit.training import Training, compare, load_detector, read_recipe, runs, train
from labelkit.training import folder as folder_module
from labelkit.training.predicting import predict
from labelkit.training.streaming import Batches, ResumableLoader
from tests.squares import TINY, in_folders, run, squares

SHORT = replace(TINY, steps=2, checkpoint_every=1)


class After(Callback):
    """Ctrl-C when the checkpoint of the first step is written."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 1:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(SHORT, folder)
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: setattr(data, "classes", ("circle",)), r"classes \['square'\]; now .* classes \['circle'\]"),
        (lambda data: data.targets[0]["boxes"].add_(1), "10 images, 20 boxes.*, but other boxes or labels"),
        (lambda data: data.targets[0]["iscrowd"].add_(1), "but other boxes or labels"),
    ],
)
def test_a_run_goes_on_with_its_own_data_alone(tmp_path, change, said):
    with pytest.raises(KeyboardInterrupt):
        run(SHORT, tmp_path, callbacks=[After()])
    assert runs.load_checkpoint(tmp_path / runs.LAST)["global_step"] == 1
    data, val = squares(), squares(4, seed=1)
    change(data)
    val.classes = data.classes
    with pytest.raises(ValueError, match=f"{tmp_path} was begun with other training data: .*{said}"):
        train(SHORT, tmp_path, data=(data, val), resume=True, progress=False, accelerator="cpu")
    assert run(SHORT, tmp_path, resume=True)["scores"]["AP"] is not None


def test_classes_in_another_order_are_no_set_to_measure_on(tmp_path):
    val = squares(2)
    val.classes = ("circle",)
    with pytest.raises(ValueError, match=r"val must have the categories \('square',\), got \('circle',\)"):
        train(SHORT, tmp_path / "run", data=(squares(), val), progress=False, accelerator="cpu")
    assert not (tmp_path / "run").exists()


def test_weights_that_are_no_numbers_are_not_kept(tmp_path, monkeypatch):
    """A finite loss, whose gradient is not."""
    step = Training.training_step

    def undefined(self, batch, index):
        weight = next(p for p in self.detector.parameters() if p.requires_grad)
        return step(self, batch, index) + 0 * (weight.sum() * 0).sqrt() if index == 1 else step(self, batch, index)

    monkeypatch.setattr(Training, "training_step", undefined)
    with pytest.raises(FloatingPointError, match=r"after step 2 .* is not finite: lower lr"):
        run(replace(SHORT, clip=0.0), tmp_path)
    assert runs.load_checkpoint(tmp_path / runs.LAST)["global_step"] == 1 and not (tmp_path / runs.RESULT).exists()


def _hold(folder, ready, done):
    with folder_module.alone_in(folder):
        ready.set()
        done.wait(60)


def test_two_processes_do_not_train_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "PATIENCE", 0.0)
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "run", ready, done))
    other.start()
    try:
        assert ready.wait(60)
        (tmp_path / "run" / ".last.ckpt.1.part").write_bytes(b"half")
        with pytest.raises(ValueError, match="another process trains in .*run: let it end, or choose another folder"):
            run(SHORT, tmp_path / "run")
        assert os.listdir(tmp_path / "run") == [".last.ckpt.1.part"]
    finally:
        other.kill()  # the lock ends with the process, however that ends
        other.join()
    monkeypatch.setattr(folder_module, "PATIENCE", 10.0)
    run(SHORT, tmp_path / "run")
    assert not [name for name in os.listdir(tmp_path / "run") if name.endswith(".part")]


def test_a_run_that_ended_while_another_waited_is_not_written_over(finished, tmp_path, monkeypatch):
    """Both found the folder free."""
    copy = tmp_path / "run"
    locked = folder_module._locked

    def late(held, folder):
        shutil.copytree(finished, folder, dirs_exist_ok=True)
        return locked(held, folder)

    monkeypatch.setattr(folder_module, "_locked", late)
    with pytest.raises(ValueError, match="already holds a run"):
        run(SHORT, copy)
    assert (copy / runs.RESULT).read_bytes() == (finished / runs.RESULT).read_bytes()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("steps", "5", "steps must be of the type int, got '5'"),
        ("steps", 2.5, "steps must be of the type int, got 2.5"),
        ("steps", True, "steps must be of the type int, got True"),
        ("lr", None, "lr must be of the type float, got None"),
        ("flip", "no", "flip must be of the type bool, got 'no'"),
        ("assigner_args", None, r"assigner_args must be of the type dict\[str, Any\], got None"),
        ("seed", -1, "seed must lie in 0 ... 4294967295, got -1"),
        ("seed", 10**19, "seed must lie in 0 ... 4294967295, got 1000"),
    ],
)
def test_an_edited_configuration_is_refused_by_name(finished, tmp_path, name, value, said):
    config = json.loads((finished / runs.CONFIG).read_text())
    runs.write_json(tmp_path / runs.CONFIG, config | {"recipe": config["recipe"] | {name: value}})
    with pytest.raises(ValueError, match=f"config.json: {said}"):
        read_recipe(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"recipe": 3}', '{"recipe": ' + 5000 * "1" + "}"])
def test_what_is_no_configuration_is_named(tmp_path, text):
    (tmp_path / runs.CONFIG).write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        read_recipe(tmp_path)


def test_what_is_no_result_and_no_entry_is_named(finished, tmp_path):
    copy = tmp_path / "rule" / "seed0"
    shutil.copytree(finished, copy)
    (copy / runs.RESULT).write_text('{"scores": {}}')
    with pytest.raises(ValueError, match=r"result\.json must hold an object with scores, positives, seconds, got"):
        run(SHORT, copy, resume=True)
    (copy / "compared.json").write_text("[]")
    with pytest.raises(ValueError, match=r"compared\.json must hold an object with recipe, preset, scores"):
        compare({"rule": read_recipe(copy)}, tmp_path, 1)


@pytest.mark.parametrize(
    "changed",
    [
        lambda whole: {},
        lambda whole: torch.ones(2),
        lambda whole: {"state_dict": {}, "epoch": 3},
        lambda whole: {name: value for name, value in whole.items() if name != "state_dict"},
        lambda whole: whole | {"labelkit": 3},
    ],
)
def test_a_checkpoint_of_somebody_else_is_named(finished, tmp_path, changed):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    torch.save(changed(runs.load_checkpoint(copy / runs.LAST)), copy / runs.LAST)
    with pytest.raises(ValueError, match=r"last\.ckpt is (no checkpoint of a run|not a checkpoint) of labelkit"):
        load_detector(copy, "last")
    with pytest.raises(ValueError, match=r"last\.ckpt is (no checkpoint of a run|not a checkpoint) of labelkit"):
        run(SHORT, copy, resume=True)


class Broken(torch.utils.data.Dataset):
    """What a reading process may meet: a picture that is gone, or its own end."""

    def __getitem__(self, position):
        if position:
            os.kill(os.getpid(), 9)
        raise OSError("image id 7, a.png: gone")


@pytest.mark.parametrize(
    ("start", "said"), [(0, "^image id 7, a.png: gone$"), (1, "1 processes that read pictures is")]
)
def test_a_reading_processs_end_is_a_sentence(start, said):
    batches = Batches(start + 1, 1)
    batches.start = start
    with pytest.raises(OSError, match=said):
        list(ResumableLoader(Broken(), batch_sampler=batches, num_workers=1, multiprocessing_context="fork"))


def test_predict_looks_at_its_folder_first_and_loses_nothing_to_one_picture(finished, tmp_path, monkeypatch):
    pictures = in_folders(tmp_path / "data") / "val"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="could not write into .*file/out"):
        predict(finished, pictures, tmp_path / "file" / "out", progress=lambda files: pytest.fail("begun"))
    out = tmp_path / "out"
    (out / "pictures" / "000000.png").mkdir(parents=True)
    found = predict(finished, pictures / "images", out)
    assert len(found.images) == 2 and json.loads((out / "predictions.json").read_text()) == found.results
    (reason,) = found.failed.values()
    assert "000000.png: found, not drawn: " in reason


def test_a_picture_too_large_for_the_memory_costs_itself(finished, tmp_path, monkeypatch):
    from labelkit.training import predicting

    pictures = in_folders(tmp_path / "data") / "val" / "images"
    detect, errors = predicting._detect, [RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]

    def small(*arguments):
        if errors:
            raise errors.pop()
        return detect(*arguments)

    monkeypatch.setattr(predicting, "_detect", small)
    found = predict(finished, pictures)
    assert [entry["file_name"] for entry in found.images] == ["000001.png"]
    (reason,) = found.failed.values()
    assert "000000.png: out of memory: smaller batches, smaller inputs or tiles need less" in reason
    errors.append(RuntimeError("shapes differ"))  # a fault of the program is none of the picture
    with pytest.raises(RuntimeError, match="shapes differ"):
        predict(finished, pictures)


def test_listed_ids(finished, tmp_path):
    pictures = in_folders(tmp_path / "data") / "val" / "images"
    listed = {
        "images": [{"id": 5.0, "file_name": "000000.png", "width": 64.0, "height": 64}] * 2,
        "categories": [{"id": 3, "name": "square"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(listed))
    found = predict(finished, pictures / "000000.png", annotations=tmp_path / "a.json")
    assert found.images == [{"id": 5, "file_name": "000000.png", "width": 64, "height": 64}]
    listed["images"].append({"id": 5, "file_name": "000001.png"})
    (tmp_path / "a.json").write_text(json.dumps(listed))
    with pytest.raises(ValueError, match="a.json: 5 is the id of '000000.png' and of '000001.png'"):
        predict(finished, pictures, annotations=tmp_path / "a.json")


class Plain(torch.utils.data.Dataset):
    """A data set whose targets hold what torchvision asks for, and no more."""

    classes = ("square",)

    def __init__(self):
        self.squares = squares(2)

    @property
    def targets(self):
        return [{name: target[name] for name in ("boxes", "labels")} for target in self.squares.targets]

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.squares[index][0], self.targets[range(2)[index]]


def test_targets_may_know_nothing_of_crowds(tmp_path):
    result = train(SHORT, tmp_path, data=(Plain(), Plain()), progress=False, accelerator="cpu")
    assert sum(size["gts"] for size in result["positives"].values()) == 4
