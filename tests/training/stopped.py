"""Started by torchrun: train as `labelkit train` does, and stop at a step as Ctrl-C would. Arguments: DATA OUT STEP."""

import sys

from lightning.pytorch.callbacks import Callback

from labelkit.training import train
from labelkit.training.recipe import Recipe


class Stop(Callback):
    """Ctrl-C after a step, in every process."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx + 1 == self.step:
            raise KeyboardInterrupt


def recipe(data):
    return Recipe(data=data, assigner="atss", steps=6, batch_size=4, checkpoint_every=2)


if __name__ == "__main__":
    data, out, step = sys.argv[1], sys.argv[2], int(sys.argv[3])
    try:
        train(recipe(data), out, progress=False, accelerator="cpu", callbacks=[Stop(step)])
    except KeyboardInterrupt:
        print("stopped at", step)
