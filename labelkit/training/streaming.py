"""Training items in an order that is a function of seed and step: nothing that interrupts a run can change it."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


@runtime_checkable
class Items(Protocol):
    """Something with a length whose items have numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def seed_for(seed: int, number: int) -> int:
    """A seed for one epoch, step or item of a run."""
    return seed * 1_000_003 + number


class Stream(Dataset):
    """A data set as an endless shuffled sequence: what stands at position p is a function of the seed and p alone.

    Every pass over the data has an order of its own. Random transforms draw from torch's generator, which is seeded
    for every position, so that neither workers, nor a resume, nor the number of processes changes a picture.
    """

    def __init__(self, dataset: Items, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def index(self, position: int) -> int:
        """Which item of the data set stands there."""
        epoch, place = divmod(position, len(self.dataset))
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(seed_for(self.seed, epoch))
            self._order = epoch, torch.randperm(len(self.dataset), generator=generator)
        return int(self._order[1][place])

    def __getitem__(self, position: int) -> tuple[Tensor, dict]:
        index = self.index(position)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(self.seed, position))  # torch.manual_seed takes 3 ms
            return self.dataset[index]


class Batches:
    """Positions of this process's share of every batch, from step `start` on; the length is that of the whole run."""

    def __init__(self, steps: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if batch_size % world_size:
            raise ValueError(f"batch_size must be a multiple of the {world_size} processes, got {batch_size}")
        self.steps, self.batch_size, self.start = steps, batch_size, 0
        self.share = batch_size // world_size
        self.first = rank * self.share

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            begin = step * self.batch_size + self.first
            yield list(range(begin, begin + self.share))


class Staying(Sequence):
    """Items that stay on their device: of a batch, DDP moves every tensor that stands in a list, a tuple or a dict."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]


class ResumableLoader(DataLoader):
    """A loader that Lightning's checkpoint can set back to the batch after the last one trained on."""

    @property
    def batches(self) -> Batches:
        return cast(Batches, self.batch_sampler)

    def __iter__(self) -> Any:  # batches one after another; DataLoader promises a private class of its own
        try:
            for batch in super().__iter__():
                self.batches.start += 1
                yield batch
        except (OSError, ValueError, RuntimeError) as error:
            told = _of_worker(error, self.num_workers)
            if told is None:
                raise
            raise told from error

    def state_dict(self) -> dict[str, int]:
        return {"step": self.batches.start}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batches.start = state["step"]


def _of_worker(error: Exception, workers: int) -> Exception | None:
    """What a reading process raised, without its traceback in the words; a sentence for one that is gone."""
    text = str(error)
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker (pid"):
        return ChildProcessError(
            f"one of the {workers} processes that read pictures is gone ({text.partition(chr(10))[0]}): memory, or the "
            "shared memory of a container, may not suffice for so many; take fewer workers"
        )
    name = type(error).__name__
    if not text.startswith(f"Caught {name} in DataLoader worker"):
        return None
    return type(error)(text.rpartition(f"\n{name}: ")[2].strip())
