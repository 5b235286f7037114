"""Training with PyTorch Lightning: our module and data; loop, precision, devices and resume are Lightning's."""

import logging
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torch.utils.data import Dataset

import labelkit
from labelkit import plot
from labelkit.datasets import collate
from labelkit.training import runs
from labelkit.training.measuring import measure, positives_by_size
from labelkit.training.recipe import Recipe
from labelkit.training.streaming import Batches, ResumableLoader, Stream, seed_for


class WholeFiles(TorchCheckpointIO):
    """Checkpoints by temporary file and rename; plain values only; an unreadable one is named."""

    def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
        runs.save_checkpoint(checkpoint, path)

    def load_checkpoint(self, path, map_location=None, weights_only=True) -> dict[str, Any]:
        return runs.load_checkpoint(path, map_location or "cpu")


class Training(L.LightningModule):
    """The detector, its optimiser, and a row of `history` for every step: step, lr, each loss, their sum."""

    def __init__(self, recipe: Recipe, train_set: Dataset, val_set: Dataset, folder: Path | None = None):
        super().__init__()
        self.recipe, self.train_set, self.val_set, self.folder = recipe, train_set, val_set, folder
        torch.manual_seed(recipe.seed)
        self.detector = recipe.build(len(train_set.classes))
        self.history: list[dict[str, float]] = []
        self.evaluations: list[dict[str, float]] = []
        self.seconds = {"training": 0.0, "processor": 0.0}  # by the clock, and of this process on all its cores
        self._recent: list[dict[str, Any]] = []

    def train_dataloader(self) -> ResumableLoader:
        recipe = self.recipe
        batches = Batches(recipe.steps, recipe.batch_size, self.trainer.global_rank, self.trainer.world_size)
        stream = Stream(self.train_set, recipe.seed)
        return ResumableLoader(stream, batch_sampler=batches, collate_fn=collate, num_workers=recipe.workers)

    def configure_optimizers(self) -> dict[str, Any]:
        recipe = self.recipe
        parameters = [p for p in self.detector.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=recipe.lr, total_steps=max(recipe.steps, 2), pct_start=recipe.warmup
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Whatever draws during a step (a random image size) is a function of seed and step.
        torch.manual_seed(seed_for(self.recipe.seed, batch_idx))
        self._began = time.perf_counter(), time.process_time()

    def training_step(self, batch: tuple[list[Tensor], list[dict]], batch_idx: int) -> Tensor:
        losses = self.detector(*batch)
        weights = {"bbox_regression": self.recipe.box_weight}
        total = sum(weights.get(name, 1.0) * value for name, value in losses.items())
        row = {"loss": total, **losses}
        lr = self.optimizers().param_groups[0]["lr"]
        self._recent.append({"step": batch_idx + 1, "lr": lr} | {name: value.detach() for name, value in row.items()})
        self.log("loss", total.detach(), prog_bar=True)
        return total

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seconds["training"] += time.perf_counter() - self._began[0]
        self.seconds["processor"] += time.process_time() - self._began[1]
        step, recipe = batch_idx + 1, self.recipe
        last = step == recipe.steps
        if not math.isfinite(float(outputs["loss"])):
            raise FloatingPointError(f"the loss of step {step} is {float(outputs['loss'])}: lower lr ({recipe.lr})")
        if recipe.evaluate_every and (step % recipe.evaluate_every == 0 or last):
            self._evaluate(step)
        if self.folder is not None and (step % recipe.checkpoint_every == 0 or last):
            self._save(self.folder / runs.LAST)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._take_in_recent()
        checkpoint["labelkit"] = {
            "version": labelkit.__version__,
            "recipe": self.recipe.as_dict(),
            "classes": list(self.train_set.classes),
            "history": self.history,
            "evaluations": self.evaluations,
            "seconds": self.seconds,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        ours = checkpoint["labelkit"]
        self.history, self.evaluations, self.seconds = ours["history"], ours["evaluations"], ours["seconds"]

    def _save(self, path: Path, weights_only: bool = False) -> None:
        self.trainer.save_checkpoint(path, weights_only=weights_only)
        if self.trainer.is_global_zero:
            runs.write_csv(self.folder / runs.METRICS, self.history)

    def _evaluate(self, step: int) -> None:
        scores = measure(self.detector, self.val_set, self.recipe.batch_size)
        best = max((row["AP"] for row in self.evaluations), default=-math.inf)
        self.evaluations.append({"step": step, **scores})
        self.log("AP", scores["AP"], prog_bar=True)
        if self.folder is not None and scores["AP"] > best:
            self._save(self.folder / runs.BEST, weights_only=True)

    def _take_in_recent(self) -> None:
        self.history += [{name: float(value) for name, value in row.items()} for row in self._recent]
        self._recent.clear()


def train(
    recipe: Recipe,
    folder: str | os.PathLike,
    *,
    resume: bool = False,
    data: tuple[Dataset, Dataset] | None = None,
    progress: bool = True,
    **trainer_options: Any,
) -> dict[str, Any]:
    """Train, write everything into `folder`, and return what `result.json` holds.

    The folder gets the configuration, `metrics.csv` (a row a step), `last.ckpt` (to resume from), `best.ckpt`
    (where `evaluate_every` measures on the way; otherwise the last is the best), `losses.png` and `result.json`.
    With `resume=True` a run goes on from its last checkpoint, to the weights that it would have had without the
    interruption; a finished run is not trained again.

    Args:
        data: (training set, set to measure on) instead of the recipe's.
        trainer_options: for Lightning's `Trainer`: accelerator, devices, logger, callbacks, ... Under torchrun,
            devices and nodes are torchrun's.

    Raises:
        ValueError: the folder holds another run, or one and `resume` is False.
    """
    folder = Path(folder)
    _claim(folder, recipe, resume)
    train_set, val_set = data or recipe.load()
    if len(train_set) == 0:
        raise ValueError("the training set is empty")
    module = Training(recipe, train_set, val_set, folder)
    last, finished = folder / runs.LAST, (folder / runs.RESULT).is_file()
    with _quiet(), _interruptible():
        trainer = _trainer(recipe, progress, trainer_options)
        trainer.fit(module, ckpt_path=last if last.is_file() else None, weights_only=True)
    return runs.read_json(folder / runs.RESULT) if finished else _finish(module, trainer, folder)


def resume(folder: str | os.PathLike, **options: Any) -> dict[str, Any]:
    """Go on with the run in `folder`, whose configuration it holds."""
    return train(read_recipe(folder), folder, resume=True, **options)


def read_recipe(folder: str | os.PathLike) -> Recipe:
    """The configuration of the run in `folder`."""
    path = Path(folder) / runs.CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} holds no run: there is no {path}")
    return Recipe.from_dict(runs.read_json(path)["recipe"])


def load_detector(folder: str | os.PathLike, which: str = "best") -> tuple[torch.nn.Module, list[str]]:
    """The trained detector of a run in evaluation mode, on the CPU, and its classes' names.

    which: "best" (the last where none was measured on the way) or "last".
    """
    if which not in ("best", "last"):
        raise ValueError(f"which must be 'best' or 'last', got {which!r}")
    best = Path(folder) / runs.BEST
    path = best if which == "best" and best.is_file() else Path(folder) / runs.LAST
    checkpoint = runs.load_checkpoint(path)
    recipe = replace(Recipe.from_dict(checkpoint["labelkit"]["recipe"]), weights=None)
    detector = recipe.build(len(checkpoint["labelkit"]["classes"]))
    load_weights(detector, {name.removeprefix("detector."): v for name, v in checkpoint["state_dict"].items()})
    return detector.eval(), checkpoint["labelkit"]["classes"]


def load_weights(detector: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Load, also into batch norms what was saved from torchvision's frozen ones, which do not count batches.

    A pretrained detector has frozen norms; rebuilt without its weights it has batch norms, which compute the same in
    evaluation mode.
    """
    missing, unexpected = detector.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.endswith(".num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"these weights are of another detector: missing {missing}, unexpected {unexpected}")


def _claim(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Write the configuration, or see that the folder's is this one. One of several processes speaks for all."""
    if rank_zero_only.rank:
        return
    path = folder / runs.CONFIG
    if path.is_file():
        if not resume:
            raise ValueError(f"{folder} already holds a run: resume it, or choose another folder")
        there = runs.read_json(path)["recipe"]
        differ = [f"{key}={there.get(key)!r}" for key, value in recipe.as_dict().items() if there.get(key) != value]
        if differ:
            raise ValueError(f"{folder} holds a run with another configuration: {', '.join(differ)}")
        return
    software = {"labelkit": labelkit.__version__, "torch": torch.__version__, "lightning": L.__version__}
    runs.write_json(path, {"recipe": recipe.as_dict(), "software": software})


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what Lightning says of every run: devices, tips, and that data is loaded in this process."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated.*")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C as Python means it: Lightning makes an exit of it, and leaves the signal ignored."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)


def _trainer(recipe: Recipe, progress: bool, options: dict[str, Any]) -> L.Trainer:
    if "LOCAL_WORLD_SIZE" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // local
        options = {"devices": local, "num_nodes": nodes, "strategy": "ddp"} | options
    defaults = {
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": progress,
    }
    return L.Trainer(
        **defaults | options,
        max_epochs=1,
        max_steps=recipe.steps,
        precision=recipe.precision,
        gradient_clip_val=recipe.clip,
        plugins=[WholeFiles()],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def _finish(module: Training, trainer: L.Trainer, folder: Path) -> dict[str, Any]:
    """Measure the final weights once, write the result and the picture of the losses."""
    recipe = module.recipe
    began = time.perf_counter()
    scores = measure(module.detector, module.val_set, recipe.batch_size)
    seconds = module.seconds | {"measuring": time.perf_counter() - began}
    result = {
        "parameters": sum(p.numel() for p in module.detector.parameters()),
        "scores": scores,
        "positives": positives_by_size(module.detector, module.train_set),
        "evaluations": module.evaluations,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    if trainer.is_global_zero:
        draw_losses(module.history, folder / "losses.png")
        runs.write_json(folder / runs.RESULT, result)
    return result


def draw_losses(history: list[dict[str, float]], path: Path) -> None:
    """The course of every loss over the steps."""
    names = [name for name in history[0] if name not in ("step", "lr")]
    fig, (ax,) = plot.figure(width=6, height=3.5)
    plot.losses(ax, {name: [row[name] for row in history] for name in names})
    runs.write_whole(path, lambda file: fig.savefig(file, format="png", dpi=120))
