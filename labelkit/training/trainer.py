"""Lightning's Trainer as every run uses it: one device unless told otherwise, whole files, few words, plain Ctrl-C."""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from labelkit.training import runs
from labelkit.training.recipe import Recipe

LOGS = "logs"  # in a run's folder
LOG_EVERY = 10  # steps


class WholeFiles(TorchCheckpointIO):
    """Checkpoints by temporary file and rename; plain values only; an unreadable one is named."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        runs.save_checkpoint(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        return runs.load_run(path, map_location or "cpu")


def make_trainer(recipe: Recipe, progress: bool, options: dict[str, Any]) -> L.Trainer:
    """Under torchrun, devices and nodes are torchrun's."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // local
        options = {"devices": local, "num_nodes": nodes, "strategy": "ddp"} | options
    defaults = {
        "devices": 1,
        "logger": False,
        "log_every_n_steps": min(LOG_EVERY, recipe.steps),
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": progress,
    }
    return L.Trainer(
        **defaults | options,
        max_epochs=1,
        max_steps=recipe.steps,
        precision=cast(Any, recipe.precision),  # Lightning says which it knows
        gradient_clip_val=recipe.clip,
        plugins=[WholeFiles()],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def loggers(folder: Path) -> list[Logger]:
    """Lightning's CSV log, and TensorBoard's where it is installed, in one new `logs/version_N` of the folder."""
    as_csv = CSVLogger(folder, name=LOGS)
    if find_spec("tensorboard") is None:
        return [as_csv]
    return [as_csv, TensorBoardLogger(folder, name=LOGS, version=as_csv.version, default_hp_metric=False)]


@contextmanager
def quiet() -> Iterator[None]:
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
def interruptible() -> Iterator[None]:
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
