"""The whole benchmark: every row, on the screen and as JSON that stays. `make bench` is this.

    python benchmarks/run.py [--quick] [--device cuda] [--only batches] [--json out.json]

A module of rows has `rows(device, quick)`, which yields dicts as `measuring.row` makes them. Without --only they go to
benchmarks/results/DATE-MACHINE.json, with the machine and its load, the versions and the commit; `report.py` builds
docs/speed.md from the newest one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import labelkit

HERE = Path(__file__).resolve().parent
MODULES = ("assignment", "one_to_one", "batches", "scaling", "audit", "suppression", "counted")
FORMAT = 1


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were taken on."""
    gpu = {}
    if device.type == "cuda":
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
        gpu = {"gpu": torch.cuda.get_device_name(device), "driver": driver, "cuda": torch.version.cuda}
    load = [round(value, 1) for value in os.getloadavg()]
    return {"processor": _processor(), "cores": os.cpu_count(), "load at start": load, "threads": 1} | gpu


def _processor() -> str:
    """As the system names it; Python itself does not know on Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    named = re.search(r"model name\s*:\s*(.+)", text)
    return named[1].strip() if named else platform.machine()


def header(device: torch.device, quick: bool) -> dict[str, Any]:
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    versions = {name: version(name) for name in ("torch", "torchvision", "numpy", "scipy")}
    versions |= {"python": platform.python_version(), "labelkit": labelkit.__version__}
    return {
        "format": FORMAT,
        "date": date.today().isoformat(),
        "device": device.type,
        "quick": quick,
        "commit": commit or None,
        "machine": machine(device),
        "versions": versions,
    }


def rows(device: torch.device, quick: bool, modules: Sequence[str] = MODULES) -> Iterator[dict[str, Any]]:
    """Those of every module."""
    for name in modules:
        for row in import_module(name).rows(device, quick):
            print(row["section"], row["method"], row["priors"], row["gts"], sep=" | ", file=sys.stderr)
            yield row


def show(found: list[dict[str, Any]]) -> None:
    """A table for each section, whatever its rows say."""
    for section in dict.fromkeys(row["section"] for row in found):
        own = [_flat(row) for row in found if row["section"] == section]
        columns = [key for key in dict.fromkeys(key for row in own for key in row) if key != "section"]
        table = Table(*columns, title=section)
        for row in own:
            table.add_row(*("-" if row.get(key) is None else str(row[key]) for key in columns))
        Console(width=160).print(table)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= {f"{key}, {name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="few calls, no peer that needs seconds")
    parser.add_argument("--only", choices=MODULES, nargs="+", help="the rows of these modules")
    parser.add_argument("--json", type=Path, help="where the results go")
    given = parser.parse_args()
    torch.set_num_threads(1)
    device, start = torch.device(given.device), time.process_time()
    result = header(device, given.quick)
    found = list(rows(device, given.quick, given.only or MODULES))
    show(found)
    result |= {"seconds of the processor": round(time.process_time() - start), "rows": found}
    named = result["machine"].get("gpu", result["machine"]["processor"])
    slug = re.sub(r"[^a-z0-9]+", "-", named.lower()).strip("-")
    path = given.json or (None if given.only else HERE / "results" / f"{result['date']}-{slug}.json")
    if path:
        path.parent.mkdir(exist_ok=True)
        lines = ",\n".join("  " + json.dumps(row) for row in found)
        text = json.dumps(result | {"rows": []}, indent=1)
        path.write_text(text.replace('"rows": []', f'"rows": [\n{lines}\n ]') + "\n", encoding="utf-8")
        print(f"written: {path}")


if __name__ == "__main__":
    main()
