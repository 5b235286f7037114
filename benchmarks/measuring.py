"""How a row of the benchmark is measured: two sides in one run, on one thread, with the memory of each.

A time is the median of several calls, the two sides taking turns. On the CPU it is the processor's time, which other
work on the machine disturbs least; on a GPU it is the clock's, until the device has finished. Memory is the peak above
what was held before a side's first call: resident memory on the CPU (Linux), allocated memory on a GPU. Absolute times
depend on the machine and on its allocator, since fresh pages are dear: read the ratios.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Call = Callable[[], Any]  # labels as a tensor, where they are to be compared
LONGEST = 50  # calls of one side
MOST = {True: 25_000_000, False: 90_000_000}  # pairs that a peer is asked for in a quick run, and in a whole one


class Meter:
    """Times and peak memory of calls, on the CPU or on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.gpu = device.type == "cuda"

    def milliseconds(self, call: Call) -> float:
        clock = time.perf_counter if self.gpu else time.process_time
        start = clock()
        call()
        if self.gpu:
            torch.cuda.synchronize()
        return 1000 * (clock() - start)

    def first(self, call: Call) -> tuple[Any, float, float]:
        """What the call gives, its milliseconds, and its peak memory in MiB: NaN where the system does not tell."""
        result: list[Any] = []
        held = self._held()
        spent = self.milliseconds(lambda: result.append(call()))
        return result[0], spent, self._peak() - held

    def _held(self) -> float:
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated() / 2**20
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return math.nan
        return _status("VmRSS")

    def _peak(self) -> float:
        return torch.cuda.max_memory_allocated() / 2**20 if self.gpu else _status("VmHWM")


def _status(key: str) -> float:
    """A line of this process's status in MiB; NaN where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith(key)), math.nan)


def row(section: str, method: str, priors: str, gts: int, peer: str | None, **measured: Any) -> dict[str, Any]:
    """A line of the results. Times are in ms, memory in MiB; None where there is no peer, or nothing was compared.

    ratio: the peer's time over ours, so above 1 we are faster. differ: labels that differ between the two sides.
    """
    nothing = {"peer_ms": None, "ratio": None, "peer_mib": None, "differ": None}
    place = {"section": section, "method": method, "priors": priors, "gts": gts, "peer": peer}
    return place | nothing | measured


def side_by_side(ours: Call, theirs: Call | None, meter: Meter, seconds: float, compared: str = "all") -> dict:
    """Both sides' times, memory and labels. compared: "all" labels, the "positive" ones, or "none".

    A side whose first call takes longer than `seconds` is not called again.
    """
    got, took, ours_mib = meter.first(ours)
    peer_times: list[float] = []
    measured: dict[str, Any] = {"ours_mib": _short(ours_mib)}
    if theirs is not None:
        wanted, spent, peer_mib = meter.first(theirs)
        if compared != "none":
            least = -1 if compared == "positive" else -2
            measured["differ"] = int((got.clamp(min=least) != wanted.clamp(min=least)).sum())
        measured["peer_mib"] = _short(peer_mib)
        peer_times = [spent] if spent > 1000 * seconds else []
        del wanted
    del got
    peer_once, once = theirs is None or bool(peer_times), took > 1000 * seconds
    times = [took] if once else []
    while len(times) < 5 and not once or (sum(times) + sum(peer_times) < 1000 * seconds and len(times) < LONGEST):
        if not peer_once:
            peer_times.append(meter.milliseconds(theirs))
        times.append(meter.milliseconds(ours))
    measured["ours_ms"] = _short(statistics.median(times))
    if peer_times:
        measured["peer_ms"] = _short(statistics.median(peer_times))
        measured["ratio"] = _short(statistics.median(peer_times) / statistics.median(times))
    return measured


def _short(value: float) -> float | None:
    """Four digits, as many as a median has at best; None for NaN, which JSON has no word for."""
    return None if math.isnan(value) else float(f"{max(value, 0.0):.4g}")
