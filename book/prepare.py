"""Lays out what Sphinx reads: the notebooks prepared, the documents with links that hold, a page for each module."""

import re
import shutil
from importlib import import_module
from pathlib import Path

import nbformat

from book import folding, notebooks
from book.modules import MODULES

HERE = Path(__file__).parent
DOCUMENTS = ("board", "library", "speed", "scale")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def source(root: Path, folder: Path) -> None:
    """Fill `folder` from the checkout `root`."""
    for name in ("chapters", "docs", "api"):
        (folder / name).mkdir(parents=True)
    for path in sorted((root / "chapters").glob("*.ipynb")):
        nbformat.write(notebooks.prepared(path), folder / "chapters" / path.name)
    shutil.copytree(root / "data", folder / "data", ignore=_all_but_pictures)
    _page(root, "chapters/glossary.md", folder)
    for name in DOCUMENTS:
        _page(root, f"docs/{name}.md", folder)
    for name in MODULES:
        (folder / "api" / f"{name}.rst").write_text(module_page(name), encoding="utf-8")
    (folder / "api" / "index.md").write_text(_contents(), encoding="utf-8")
    shutil.copy(HERE / "example_report.md", folder / "docs")
    (folder / "index.md").write_text(landing((root / "README.md").read_text(encoding="utf-8")), "utf-8")


def _all_but_pictures(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".png") and not (Path(folder) / name).is_dir()]


def _page(root: Path, name: str, folder: Path) -> None:
    text = (root / name).read_text(encoding="utf-8").replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    (folder / name).write_text(folding.details(with_links(text, Path(name).parent, folder)), encoding="utf-8")


def with_links(text: str, home: Path, folder: Path) -> str:
    """A document's text, with the README as the landing page; a link to what the book lacks becomes its words."""

    def kept(link: re.Match[str]) -> str:
        bang, words, target = link.groups()
        target = target.replace("README.md", "index.md") if target == "../README.md" else target
        name = target.split("#")[0]
        held = not name or name.startswith("http") or name in ("../index.md", *(f"{page}.md" for page in DOCUMENTS))
        return f"{bang}[{words}]({target})" if held or (folder / home / name).is_file() else words

    return _LINK.sub(kept, text)


def landing(readme: str) -> str:
    """The first page: the README's picture, the explorer in a frame, the README's table of chapters."""
    picture = re.search(r"!\[([^\]]*)\]\(data/sky\.png\)", readme)
    chapters = re.search(r"## The chapters\n(.*?)\n## ", readme, re.DOTALL)
    if not picture or not chapters:
        raise ValueError("README.md has no picture of the sky, or no table of the chapters, to begin the book with")
    frame = (HERE / "explorer.md").read_text(encoding="utf-8")
    page = (HERE / "index.md").read_text(encoding="utf-8")
    parts = {"PICTURE": picture[1], "EXPLORER": frame, "CHAPTERS": chapters[1].strip()}
    return re.sub(r"@(PICTURE|EXPLORER|CHAPTERS)@", lambda match: parts[match[1]], page)


def module_page(name: str) -> str:
    """The page of a module: what it says of itself, and its public names."""
    return f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n"


def _contents() -> str:
    said = {name: (import_module(name).__doc__ or "").split("\n")[0] for name in MODULES}
    rows = "\n".join(f"- [`{name}`]({name}.rst): {sentence}" for name, sentence in said.items())
    pages = "\n".join(MODULES)
    return f"# The library by module\n\n{rows}\n\n```{{toctree}}\n:hidden:\n{pages}\n```\n"
