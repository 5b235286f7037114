"""`labelkit version`: the version, and with --json those of Python and of what it computes with."""

import platform
from importlib import metadata

import labelkit
from labelkit.cli.output import AsJson, print_json


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if not as_json:
        print(labelkit.__version__)
        return
    print_json(
        {"labelkit": labelkit.__version__, "python": platform.python_version()}
        | {name: _installed(name) for name in ("torch", "torchvision", "lightning")}
    )


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
