"""The work: pictures in portions of a fixed size, counted here or by several processes, with one answer.

A portion is the same however many workers there are, and its rows are sorted afterwards, so the answer is too.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import torch

from labelkit.audit.counting import Counter, Part

PORTION = 1024  # pictures at most: enough that those of one size meet
PORTIONS = 32  # at least, where there are enough pictures: so often does a progress bar move
FEW = 16  # pictures of a portion at least
AHEAD = 2  # portions that wait for each worker

Job = tuple[int, np.ndarray]  # which counter, which pictures


def portions(images: np.ndarray) -> list[np.ndarray]:
    """The pictures in their order, some at a time."""
    size = min(PORTION, max(FEW, -(-len(images) // PORTIONS)))
    return [images[start : start + size] for start in range(0, len(images), size)]


def work(counters: Sequence[Counter], jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Part]]:
    """The jobs with what was counted, as they are done. A worker that is gone is a `ChildProcessError`."""
    if workers <= 1 or len(jobs) <= 1:
        for which, images in jobs:
            yield (which, images), counters[which].count(images)
        return
    # A copy of this process where the system can: it needs no second import and shares the table.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _start, (list(counters),))
    running: dict[Future, Job] = {}
    ahead = iter(jobs)
    try:
        for job in ahead:
            running[pool.submit(_count, *job)] = job
            while len(running) >= AHEAD * workers:
                yield from _done(running)
        while running:
            yield from _done(running)
    except BrokenProcessPool as error:
        raise ChildProcessError(
            f"one of the {workers} processes that count is gone: the memory may not suffice for so many, take fewer "
            "workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _done(running: dict[Future, Job]) -> Iterator[tuple[Job, Part]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        yield running.pop(future), future.result()


_counters: list[Counter] = []  # of this worker


def _start(counters: list[Counter]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started the workers ends them
    torch.set_num_threads(1)
    _counters[:] = counters


def _count(which: int, images: np.ndarray) -> Part:
    return _counters[which].count(images)
