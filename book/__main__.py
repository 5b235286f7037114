"""Builds the book: python -m book [ROOT] [FOLDER]. Warnings are errors.

ROOT is the checkout whose chapters and documents are shown. FOLDER gets `source`, what Sphinx reads, and `html`.
"""

import os
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

from book import prepare
from labelkit.explore.page import static_page

HERE = Path(__file__).parent


def build(root: Path, folder: Path) -> int:
    """The exit status of the build; 0: all of the book is in `folder`/html."""
    shutil.rmtree(folder, ignore_errors=True)
    source, html = folder / "source", folder / "html"
    prepare.source(root, source)
    workers = str(min(os.cpu_count() or 1, 4))
    options = ["-W", "--keep-going", "-q", "-j", workers, "-c", str(HERE), "-d", str(folder / "doctrees")]
    status = sphinx(["-b", "html", *options, str(source), str(html)])
    if status:
        return status
    put_back(root, html / "_sources")
    (html / "example_report.html").write_text(example_report(), encoding="utf-8")
    (html / "explorer.html").write_text(static_page(), encoding="utf-8")
    print(f"The book is built: {html / 'index.html'}")
    return 0


def put_back(root: Path, downloads: Path) -> None:
    """Sphinx offers what it read for download. A reader wants what is committed, byte for byte."""
    for path in downloads.rglob("*"):
        committed = root / path.relative_to(downloads)
        if path.is_file() and committed.is_file():
            shutil.copyfile(committed, path)


def example_report() -> str:
    """The page that `labelkit audit sky --out FOLDER` writes."""
    from labelkit.audit import audit
    from labelkit.datasets import deep_field

    return audit(deep_field()).html(command="labelkit audit sky --out report")


if __name__ == "__main__":
    arguments = [Path(argument).resolve() for argument in sys.argv[1:]]
    checkout = arguments[0] if arguments else HERE.parent
    sys.exit(build(checkout, arguments[1] if len(arguments) > 1 else checkout / "build" / "book"))
