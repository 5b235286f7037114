"""Training: what a run leaves behind, and that nothing which interrupts it changes where it ends."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import v2

from labelkit.datasets import box_fields
from labelkit.training import Training, load_detector, load_weights, read_recipe, resume, runs
from labelkit.training.measuring import detect, positives_by_size
from labelkit.training.streaming import Batches, ResumableLoader, Stream
from labelkit.training.trainer import loggers
from tests.squares import TINY, run, squares
from tests.training.stopped import Stop


def weights(folder):
    return runs.load_checkpoint(folder / runs.LAST)["state_dict"]


def assert_same_run(folder, other):
    ours, theirs = weights(folder), weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (folder / runs.METRICS).read_text() == (other / runs.METRICS).read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    return folder, run(TINY, folder)


def test_a_run_leaves_everything_in_its_folder(undisturbed):
    folder, result = undisturbed
    assert sorted(os.listdir(folder)) == [
        "config.json",
        "last.ckpt",
        "logs",
        "losses.png",
        "metrics.csv",
        "result.json",
    ]
    assert replace(read_recipe(folder), detections=None, topk_candidates=None).as_dict() == TINY.as_dict()
    assert runs.read_json(folder / runs.RESULT) == result
    assert {"labelkit", "torch", "lightning"} <= set(runs.read_json(folder / runs.CONFIG)["software"])
    lines = (folder / runs.METRICS).read_text().splitlines()
    assert lines[0] == "step,lr,loss,classification,bbox_regression"
    assert [line.split(",")[0] for line in lines[1:]] == [str(step) for step in range(1, 13)]
    assert 0 <= result["scores"]["AP"] <= 1 and result["positives"]["16+"]["positives"] > 0


def test_lightnings_log_says_what_the_metrics_say(undisturbed):
    (version,) = (undisturbed[0] / "logs").iterdir()
    with open(version / "metrics.csv", newline="") as file:
        (row,) = csv.DictReader(file)  # every tenth step; Lightning counts from 0
    with open(undisturbed[0] / runs.METRICS, newline="") as file:
        ours = list(csv.DictReader(file))[9]
    assert row.pop("step") == "9" and ours.pop("step") == "10" and row.keys() - {"epoch"} == ours.keys()
    assert all(float(row[name]) == pytest.approx(float(ours[name]), rel=1e-6) for name in ours)
    assert yaml.safe_load((version / "hparams.yaml").read_text())["steps"] == 12


def test_every_start_has_a_log_of_its_own(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(TINY, folder, callbacks=[Stop(6)])
    run(TINY, folder, resume=True)
    run(TINY, folder, resume=True)  # finished: nothing to log
    assert sorted(os.listdir(folder / "logs")) == ["version_0", "version_1"]


def test_tensorboard_is_written_where_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("labelkit.training.trainer.find_spec", lambda name: None)
    assert [type(logger).__name__ for logger in loggers(tmp_path)] == ["CSVLogger"]
    monkeypatch.undo()
    pytest.importorskip("tensorboard")
    run(TINY, tmp_path / "run")
    (version,) = (tmp_path / "run" / "logs").iterdir()
    assert sum(path.name.startswith("events.out.tfevents") for path in version.iterdir()) == 1
    assert (version / "metrics.csv").is_file()


def test_the_loss_falls(tmp_path):
    run(replace(TINY, steps=25, checkpoint_every=25), tmp_path / "run")
    losses = [float(line.split(",")[2]) for line in (tmp_path / "run" / runs.METRICS).read_text().splitlines()[1:]]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize("stop", [2, 4, 7, 11])
def test_an_interrupted_run_ends_where_an_undisturbed_one_does(undisturbed, tmp_path, monkeypatch, stop):
    folder = tmp_path / "run"
    step = Training.training_step

    def fails(self, batch, batch_idx):
        if batch_idx == stop:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Training, "training_step", fails)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(TINY, folder)
    assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.undo()
    torch.manual_seed(1234)  # nothing depends on where the generator happens to stand
    data = (squares(), squares(4, seed=1))
    resume(folder, data=data, progress=False, accelerator="cpu")
    assert_same_run(folder, undisturbed[0])


KILLED = """
import sys
sys.path.insert(0, {root!r})
from tests.squares import TINY, run
run(TINY, {folder!r}, resume=True)
"""


def test_kill_at_any_moment_and_resume_gives_the_same_weights(undisturbed, tmp_path):
    folder = tmp_path / "killed"
    script = KILLED.format(root=str(Path(__file__).parents[2]), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / runs.LAST).is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / runs.LAST).is_file()
    first = runs.load_checkpoint(folder / runs.LAST)["global_step"]
    assert first in (4, 8, 12)
    run(TINY, folder, resume=True)
    assert_same_run(folder, undisturbed[0])


def test_a_finished_run_is_not_trained_again(undisturbed, monkeypatch):
    monkeypatch.setattr(Training, "training_step", lambda *_: pytest.fail("trained again"))
    assert run(TINY, undisturbed[0], resume=True) == undisturbed[1]


def test_a_folder_holds_one_run(undisturbed):
    folder, _ = undisturbed
    with pytest.raises(ValueError, match="already holds a run"):
        run(TINY, folder)
    with pytest.raises(ValueError, match=r"another configuration: steps=12, lr=0\.002"):
        run(replace(TINY, steps=13, lr=0.1), folder, resume=True)
    with pytest.raises(ValueError, match="holds no run"):
        resume(folder.parent)


def test_a_full_disk_is_named_and_costs_nothing(undisturbed, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    replace_file = os.replace

    def full(source, target):
        if str(target).endswith(runs.LAST) and Path(target).exists():
            raise OSError(28, "No space left on device")
        replace_file(source, target)

    monkeypatch.setattr(runs.os, "replace", full)
    with pytest.raises(OSError, match=r"could not write .*last\.ckpt .*No space left.*is kept"):
        run(TINY, folder)
    assert runs.load_checkpoint(folder / runs.LAST)["global_step"] == 4
    monkeypatch.undo()
    run(TINY, folder, resume=True)
    assert_same_run(folder, undisturbed[0])


def test_a_damaged_checkpoint_stops_the_resume_and_is_named(tmp_path):
    folder = tmp_path / "run"
    run(replace(TINY, steps=4), folder)
    (folder / runs.RESULT).unlink()
    (folder / runs.LAST).write_bytes((folder / runs.LAST).read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"last\.ckpt is not a checkpoint of labelkit, or is damaged"):
        run(replace(TINY, steps=4), folder, resume=True)


def test_a_loss_that_is_not_finite_stops_before_it_is_saved(tmp_path, monkeypatch):
    step = Training.training_step
    monkeypatch.setattr(
        Training, "training_step", lambda self, batch, i: step(self, batch, i) * (float("nan") if i == 5 else 1)
    )
    with pytest.raises(FloatingPointError, match=r"the loss of step 6 is nan: lower lr \(0.002\)"):
        run(TINY, tmp_path / "run")
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_the_trained_detector_comes_back(undisturbed):
    folder, result = undisturbed
    detector, classes = load_detector(folder)
    assert classes == ["square"] and not detector.training
    trained = weights(folder)
    assert all(torch.equal(value, trained[f"detector.{name}"]) for name, value in detector.state_dict().items())
    found = detect(detector, squares(4, seed=1))
    assert len(found) == 4 and all(set(one) == {"boxes", "scores", "labels"} for one in found)


def test_weights_of_frozen_norms_load_into_batch_norms_and_nothing_else_is_let_through():
    frozen, norm = FrozenBatchNorm2d(3), torch.nn.BatchNorm2d(3).eval()
    frozen.running_mean += 0.5
    load_weights(torch.nn.Sequential(norm), {f"0.{name}": value for name, value in frozen.state_dict().items()})
    image = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(norm(image), frozen(image))
    with pytest.raises(ValueError, match=r"missing \['bias'\], unexpected \['extra'\]"):
        load_weights(torch.nn.Linear(2, 2), {"weight": torch.zeros(2, 2), "extra": torch.zeros(1)})


def test_the_best_weights_on_the_way_are_kept(tmp_path):
    result = run(replace(TINY, evaluate_every=4), tmp_path / "run")
    assert [row["step"] for row in result["evaluations"]] == [4, 8, 12]
    kept = runs.load_checkpoint(tmp_path / "run" / runs.BEST)
    best = max(result["evaluations"], key=lambda row: row["AP"])  # the first of equals, as the run keeps it
    assert kept["global_step"] == best["step"] and "optimizer_states" not in kept
    assert load_detector(tmp_path / "run")[1] == ["square"]


def test_measuring_leaves_the_modes_and_the_weights_alone():
    torch.manual_seed(0)
    detector = TINY.build(1).train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    detect(detector, squares(2))
    table = positives_by_size(detector, squares(4))
    assert sum(row["gts"] for row in table.values()) == 8
    assert all(module.training for module in detector.modules())
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_a_region_to_ignore_is_no_starved_object():
    dataset, detector = squares(4), TINY.build(1)
    with_all = positives_by_size(detector, dataset)
    for target in dataset.targets:
        target["iscrowd"][0] = 1
    without = positives_by_size(detector, dataset)
    assert sum(row["gts"] for row in with_all.values()) == 8 and sum(row["gts"] for row in without.values()) == 4


def test_mixed_precision_trains(tmp_path):
    result = run(replace(TINY, steps=3, precision="bf16-mixed"), tmp_path / "run")
    assert result["scores"]["AP"] >= 0
    assert all(value.dtype == torch.float32 for value in weights(tmp_path / "run").values())


def test_order_is_a_function_of_seed_and_position():
    stream = Stream(squares(10), seed=3)
    passes = [[stream.index(p) for p in range(start, start + 10)] for start in (0, 10)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(10)) and passes[0] != passes[1]
    assert [stream.index(p) for p in range(10)] == passes[0]  # also when asked again
    assert [Stream(squares(10), seed=4).index(p) for p in range(10)] != passes[0]


def test_random_transforms_are_a_function_of_seed_and_position():
    clean = v2.SanitizeBoundingBoxes(labels_getter=box_fields)
    steps = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.5), clean])
    stream = Stream(squares(10, transforms=steps), seed=0)
    first, again = stream[5], stream[15]
    torch.manual_seed(99)
    state = torch.get_rng_state()
    torch.testing.assert_close(stream[5], first)
    assert torch.equal(torch.get_rng_state(), state)
    same = next(p for p in range(10, 20) if stream.index(p) == stream.index(5))
    assert not torch.equal(stream[same][0], first[0])  # the same picture looks different in the next pass
    assert again[0].shape == first[0].shape


def test_processes_share_every_batch():
    whole = list(Batches(5, 4))
    shares = [list(Batches(5, 4, rank, 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole == [list(range(4 * s, 4 * s + 4)) for s in range(5)]
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 processes, got 4"):
        Batches(5, 4, 0, 3)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_goes_on_after_the_last_batch_that_was_delivered(workers):
    loader = ResumableLoader(list(range(100)), batch_sampler=Batches(6, 3), num_workers=workers)
    batches = iter(loader)
    seen = [next(batches).tolist() for _ in range(2)]
    state = loader.state_dict()
    rest = ResumableLoader(list(range(100)), batch_sampler=Batches(6, 3), num_workers=workers)
    rest.load_state_dict(state)
    assert seen + [batch.tolist() for batch in rest] == list(Batches(6, 3))
    assert len(rest) == 6
