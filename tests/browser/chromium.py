"""Which Chromium drives the tests in a browser, and how to get one. `make browser` runs this file first."""

import shutil
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = """There is no Chromium on PATH, so the tests in a browser are skipped. Any of these brings one:
  Debian:   sudo apt install chromium
  Ubuntu:   Google Chrome's package for Ubuntu; Chromium comes as a snap, which cannot read the tests' files
  Fedora:   sudo dnf install chromium
  macOS:    brew install --cask chromium
  Windows:  winget install Google.Chrome, then add the folder of chrome.exe to PATH"""


def find() -> str | None:
    """The path of the first browser that this machine has."""
    return next(filter(None, map(shutil.which, NAMES)), None)


if __name__ == "__main__":
    sys.exit(None if find() else MISSING)
