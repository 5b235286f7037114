"""Training with PyTorch Lightning: our module and data; loop, precision, devices and resume are Lightning's."""

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

import labelkit
from labelkit import plot
from labelkit.datasets import BoxDataset, check_trainable, collate
from labelkit.detectors import progressive_weights
from labelkit.detectors.second_head import SECOND
from labelkit.training import runs
from labelkit.training.building import teach
from labelkit.training.ceiling import settle, warn_of_ceiling
from labelkit.training.folder import (
    alone_in,
    check_goes_on,
    check_same_data,
    claim,
    fingerprint,
    holds_run,
    kept_of_data,
    read_recipe,
)
from labelkit.training.measuring import Scores, measure, positives_by_size
from labelkit.training.naming import run_folder
from labelkit.training.recipe import Recipe
from labelkit.training.rules import described
from labelkit.training.sets import check_same_classes
from labelkit.training.streaming import Batches, ResumableLoader, Staying, Stream, seed_for
from labelkit.training.trainer import interruptible, loggers, make_trainer, quiet


class Training(L.LightningModule):
    """The detector, its optimiser, and a row of `history` for every step: step, lr, each loss, their sum."""

    def __init__(self, recipe: Recipe, train_set: BoxDataset, val_set: BoxDataset, folder: Path | None = None) -> None:
        super().__init__()
        self.recipe, self.train_set, self.val_set, self.folder = recipe, train_set, val_set, folder
        torch.manual_seed(recipe.seed)
        self.detector = recipe.build(len(train_set.classes))
        self.data = fingerprint(train_set)
        self.history: list[dict[str, float]] = []
        self.evaluations: list[Scores] = []
        self.seconds = {"training": 0.0, "processor": 0.0}  # by the clock, and of this process on all its cores
        self._recent: list[dict[str, Any]] = []
        self._warming_up = False

    def train_dataloader(self) -> ResumableLoader:
        recipe = self.recipe
        batches = Batches(recipe.steps, recipe.batch_size, self.trainer.global_rank, self.trainer.world_size)
        stream = Stream(self.train_set, recipe.seed)
        return ResumableLoader(stream, batch_sampler=batches, collate_fn=collate, num_workers=recipe.workers)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if self.recipe.assign_on is None:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        images, targets = batch
        return super().transfer_batch_to_device(images, device, dataloader_idx), Staying(targets)

    def configure_optimizers(self) -> OptimizerLRScheduler:
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
        self._teach(self.recipe.warms_up(batch_idx))

    def on_train_end(self) -> None:
        self._teach(warming_up=False)

    def _teach(self, warming_up: bool) -> None:
        if warming_up is not self._warming_up:
            teach(self.detector, self.recipe, warming_up)
            self._warming_up = warming_up

    def training_step(self, batch: tuple[list[Tensor], Sequence[dict]], batch_idx: int) -> Tensor:
        images, targets = batch
        losses = self.detector(images, list(targets))
        total = sum(self._weight(name, batch_idx) * value for name, value in losses.items())
        row = {name: value.detach() for name, value in {"loss": total, **losses}.items()}
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        self._recent.append({"step": batch_idx + 1, "lr": lr} | row)
        self.log("loss", row.pop("loss"), prog_bar=True)
        self.log_dict({"lr": lr} | row)
        return total

    def _weight(self, name: str, step: int) -> float:
        """Of a loss in the sum: of the box loss, times of the head in this step."""
        weight = self.recipe.box_weight if name.removeprefix(SECOND) == "bbox_regression" else 1.0
        if self.recipe.second_weights == "equal":
            return weight
        first, second = progressive_weights(step, self.recipe.steps)
        return weight * (second if name.startswith(SECOND) else first)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seconds["training"] += time.perf_counter() - self._began[0]
        self.seconds["processor"] += time.process_time() - self._began[1]
        step, recipe = batch_idx + 1, self.recipe
        last = step == recipe.steps
        if not math.isfinite(float(outputs["loss"])):
            raise FloatingPointError(f"the loss of step {step} is {float(outputs['loss'])}: lower lr ({recipe.lr})")
        if step % recipe.checkpoint_every == 0 or last:
            self._check_weights(step)
        if recipe.evaluate_every and (step % recipe.evaluate_every == 0 or last):
            self._evaluate(step)
        if step % recipe.checkpoint_every == 0 or last:
            self._save(runs.LAST)

    def _check_weights(self, step: int) -> None:
        """Before they are kept: a finite loss may have gradients that are not, and a run cannot go on from these."""
        state = self.detector.state_dict()
        finite = torch.stack([value.isfinite().all() for value in state.values()]).tolist()
        if wrong := [name for name, sound in zip(state, finite, strict=True) if not sound]:
            raise FloatingPointError(f"after step {step} {wrong[0]} is not finite: lower lr ({self.recipe.lr})")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._take_in_recent()
        checkpoint["labelkit"] = {
            "version": labelkit.__version__,
            "recipe": self.recipe.as_dict(),
            **kept_of_data(self.train_set),
            "data": self.data,
            "history": self.history,
            "evaluations": self.evaluations,
            "seconds": self.seconds,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        ours = checkpoint["labelkit"]
        if "data" in ours and checkpoint["global_step"] < self.recipe.steps:
            check_same_data(self.folder, ours["data"], self.data)
        self.history, self.evaluations, self.seconds = ours["history"], ours["evaluations"], ours["seconds"]

    def _save(self, name: str, weights_only: bool = False) -> None:
        if self.folder is None:
            return
        self.trainer.save_checkpoint(self.folder / name, weights_only=weights_only)
        if self.trainer.is_global_zero:
            runs.write_csv(self.folder / runs.METRICS, self.history)

    def _evaluate(self, step: int) -> None:
        """Measure, and keep the weights where AP is the best so far; undefined (nothing to find) is never best."""
        scores = measure(self.detector, self.val_set, self.recipe.batch_size, self.recipe.tiling)
        before = [row["AP"] for row in self.evaluations]
        self.evaluations.append({"step": step, **scores})
        ap = scores["AP"]
        if ap is None:
            return
        self.log("AP", ap, prog_bar=True)
        if ap > max((value for value in before if value is not None), default=-math.inf):
            self._save(runs.BEST, weights_only=True)

    def _take_in_recent(self) -> None:
        self.history += [{name: float(value) for name, value in row.items()} for row in self._recent]
        self._recent.clear()


def train(
    recipe: Recipe,
    folder: str | os.PathLike | None = None,
    *,
    assigner: Callable | None = None,
    resume: bool = False,
    data: tuple[BoxDataset, BoxDataset] | None = None,
    progress: bool = True,
    **trainer_options: Any,
) -> dict[str, Any]:
    """Train, write everything into `folder`, and return what `result.json` holds.

    The folder (runs/DATA-ASSIGNER-ARGUMENTS-seedSEED if not said) gets the configuration, `metrics.csv` (a row a step),
    `last.ckpt` (to resume from), `best.ckpt` (where `evaluate_every` measures on the way; otherwise the last is the
    best), `losses.png`, `result.json`, and `logs`: a `version_N` for every start, with Lightning's CSV log, and
    TensorBoard's where that is installed.
    With `resume=True` a run goes on from its last checkpoint, to the weights that it would have had without the
    interruption; a finished run is not trained again. Nothing is written before rule, data and detector are there;
    a folder with a configuration alone is free.

    Args:
        assigner: a rule in hand, instead of the recipe's; the recipe that is written names it.
        data: (training set, set to measure on) instead of the recipe's. The first is taken as it is: a recipe's
            `tile` cuts the pictures to measure on, and `labelkit.datasets.Tiles` those to train on.
        trainer_options: for Lightning's `Trainer`: accelerator, devices, logger, callbacks, ... Under torchrun,
            devices and nodes are torchrun's.

    Raises:
        ValueError: the folder holds another run, or one and `resume` is False, or another process trains there; the
            recipe or its data are at fault, or are not those with which the run began.
    """
    if assigner is not None:
        name, arguments = described(assigner)
        recipe = replace(recipe, assigner=name, assigner_args=arguments)
    if folder is None:
        folder = run_folder(recipe.data, recipe.assigner, recipe.assigner_args, recipe.seed)
    folder = Path(folder)
    check_goes_on(folder, recipe, resume)
    if holds_run(folder):
        recipe = read_recipe(folder)
    recipe.rules()  # before data are loaded
    train_set, val_set = data or recipe.load()
    check_trainable(train_set)
    check_same_classes(train_set, val_set)
    recipe = settle(recipe, train_set.targets, val_set.targets)
    warn_of_ceiling(val_set.targets, recipe.detections or 0, "the detector returns (detections)")
    module = Training(recipe, train_set, val_set, folder)
    last, finished = folder / runs.LAST, (folder / runs.RESULT).is_file()
    with quiet(), interruptible():
        trainer = make_trainer(recipe, progress, {"logger": [] if finished else loggers(folder)} | trainer_options)
        with alone_in(folder) if trainer.is_global_zero else nullcontext():
            check_goes_on(folder, recipe, resume)  # again: another run may have ended there meanwhile
            claim(folder, recipe)
            for logger in trainer.loggers:
                logger.log_hyperparams(recipe.as_dict())
            trainer.fit(module, ckpt_path=last if last.is_file() else None, weights_only=True)
            return read_result(folder) if finished else _finish(module, trainer, folder)


def read_result(folder: Path) -> dict[str, Any]:
    """What a finished run wrote at its end."""
    return runs.read_json(folder / runs.RESULT, "scores", "positives", "seconds")


def resume(folder: str | os.PathLike, **options: Any) -> dict[str, Any]:
    """Go on with the run in `folder`, whose configuration it holds."""
    return train(read_recipe(folder), folder, resume=True, **options)


def _finish(module: Training, trainer: L.Trainer, folder: Path) -> dict[str, Any]:
    """Measure the final weights once, write the result and the picture of the losses."""
    recipe = module.recipe
    began = time.perf_counter()
    scores = measure(module.detector, module.val_set, recipe.batch_size, recipe.tiling)
    seconds = module.seconds | {"measuring": time.perf_counter() - began}
    result = {
        "parameters": sum(p.numel() for p in module.detector.parameters()),
        "scores": scores,
        "positives": positives_by_size(module.detector, module.train_set),
        "evaluations": module.evaluations,
        "pictures": _folder_of(module.val_set),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    if trainer.is_global_zero:
        draw_losses(module.history, folder / "losses.png")
        runs.write_json(folder / runs.RESULT, result)
    return result


def _folder_of(dataset: BoxDataset) -> str | None:
    """Where the pictures lie, for data that lie in a folder."""
    folder = getattr(dataset, "folder", None)
    return None if folder is None else str(folder)


def draw_losses(history: list[dict[str, float]], path: Path) -> None:
    """The course of every loss over the steps."""
    names = [name for name in history[0] if name not in ("step", "lr")]
    fig, (ax,) = plot.figure(width=6, height=3.5)
    plot.losses(ax, {name: [row[name] for row in history] for name in names})
    runs.write_whole(path, lambda file: fig.savefig(file, format="png", dpi=120))
