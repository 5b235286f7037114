"""A run is a folder: its configuration, its metrics, its checkpoints. Every file is there whole or not at all."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

CONFIG, METRICS, LAST, BEST, RESULT = "config.json", "metrics.csv", "last.ckpt", "best.ckpt", "result.json"
KEPT: dict[str, type] = {"recipe": dict, "classes": list}  # by a checkpoint, at least, under "labelkit"


def write_whole(path: str | os.PathLike, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a file beside `path`, then move it into place: a reader never sees half a file.

    The old file stays until the new one is complete and on the disk. A full disk, or no permission, is an
    `OSError` that names the file; what was there before is untouched.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except (OSError, RuntimeError) as error:
        # torch's writer turns a failed write into a RuntimeError of its own, with the OSError behind it.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        kept = "the file that was there before is kept" if os.path.exists(path) else "nothing was written"
        raise OSError(cause.errno, f"could not write {path} ({cause}); {kept}") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Indented, ending in a newline, written whole."""
    text = json.dumps(content, indent=1) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def read_json(path: str | os.PathLike, *keys: str) -> Any:
    """The content, or a `ValueError` that names the file and the place in it. keys: of the object that it must hold."""
    try:
        content = json.loads(Path(path).read_text())
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number of thousands of digits
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if keys and not (isinstance(content, dict) and all(key in content for key in keys)):
        raise ValueError(f"{path} must hold an object with {', '.join(keys)}, got {str(content)[:80]}")
    return content


def write_csv(path: str | os.PathLike, rows: list[dict[str, float]]) -> None:
    """One line a row under the first row's names, written whole."""
    names = list(rows[0]) if rows else []
    lines = [",".join(names)] + [",".join(f"{row[name]:.8g}" for name in names) for row in rows]
    write_whole(path, lambda file: file.write(("\n".join(lines) + "\n").encode()))


def save_checkpoint(checkpoint: dict[str, Any], path: str | os.PathLike) -> None:
    write_whole(path, lambda file: torch.save(checkpoint, file))


def check_writable(folder: str | os.PathLike) -> None:
    """Before hours of work: an `OSError` that names a folder which can't be made or written into. Nothing stays."""
    place = Path(folder)
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=os.fspath(place)):
            pass
    except OSError as error:
        raise OSError(error.errno, f"could not write into {folder} ({error})") from error


def load_run(path: str | os.PathLike, map_location: Any = "cpu") -> dict[str, Any]:
    """`load_checkpoint`, and a `ValueError` for what labelkit's training did not write."""
    content = load_checkpoint(path, map_location)
    ours = content.get("labelkit")
    whole = isinstance(ours, dict) and all(isinstance(ours.get(key), kind) for key, kind in KEPT.items())
    if not whole or not isinstance(content.get("state_dict"), dict):
        raise ValueError(
            f"{path} is no checkpoint of a run of labelkit: it lacks the weights (state_dict) or what a run keeps "
            f"beside them ({', '.join(KEPT)})"
        )
    return content


def load_checkpoint(path: str | os.PathLike, map_location: Any = "cpu") -> dict[str, Any]:
    """Tensors and plain values only (`weights_only=True`): a checkpoint never runs code.

    A file that cannot be read as one is a `ValueError` that names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch's readers and the unpickler raise anything on damaged bytes
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{path} is not a checkpoint of labelkit, or is damaged ({type(error).__name__}: {reason}). "
            "Delete it to start this run again, or put a copy in its place"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a checkpoint of labelkit: it holds a {type(content).__name__}")
    return content
