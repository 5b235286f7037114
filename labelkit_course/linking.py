"""Links that a built chapter gets: to the chapters and papers that its text names, to its scene, to its neighbours."""

import html
import re
from pathlib import Path

from labelkit_course import chapter

GLOSSARY, EXPLORER = "glossary.md", "explorer.html"
_CODE = re.compile(
    r"(```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\[[^\]]*\]\([^)]*\)|^#.*?$|<[^>]+>)", re.DOTALL | re.MULTILINE
)
_ONE = re.compile(r"\b([Cc]hapter)(\s+)(\d\d?)\b(?!\.\d)")
_SEVERAL = re.compile(r"\b[Cc]hapters\s+\d\d?(?:(?:,\s+|\s+(?:and|or|to)\s+)\d\d?\b)+")
SCENE = re.compile(r"\n+\[scene\]: explorer\.html#(\S+)$", re.MULTILINE)
_SCENE_WORDS = re.compile(r"\[([^\]]*)\]\[scene\]")
_ARXIV = re.compile(r"\barXiv(:|\s+)(\d{4}\.\d{4,5})\b")


def linked(text: str, own: Path) -> str:
    """A text cell with links; code, formulas, headings and what is a link already stay as they are."""
    books = {path.name[:2]: f"{path.stem}.ipynb" for path in chapter.sources(own.parent) if path != own}

    def to_chapter(number: str, words: str) -> str:
        target = books.get(number.zfill(2))
        return f"[{words}]({target})" if target else words

    def one(match: re.Match[str]) -> str:
        return to_chapter(match[3], match[0])

    def several(match: re.Match[str]) -> str:
        return re.sub(r"\d\d?", lambda number: to_chapter(number[0], number[0]), match[0])

    def prose(part: str) -> str:
        part = _ARXIV.sub(lambda m: f"[{m[0]}](https://arxiv.org/abs/{m[2]})", part)
        return _ONE.sub(one, _SEVERAL.sub(several, part))

    parts = _CODE.split(_with_scene(text))
    return "".join(part if index % 2 else prose(part) for index, part in enumerate(parts))


def _with_scene(text: str) -> str:
    """`[this scene][scene]` and the line `[scene]: explorer.html#...` as one link, in HTML and from the server's root.

    JupyterLab shows a page beside the notebook without its scripts, but opens such an address in a tab of its own.
    """
    scene = SCENE.search(text)
    if scene is None:
        return text
    address = html.escape(f"/files/{EXPLORER}#{scene[1]}")
    return _SCENE_WORDS.sub(rf'<a href="{address}">\1</a>', SCENE.sub("", text))


def title(path: Path) -> str:
    """A chapter's title, "05 · Let a threshold decide": the first heading of its text."""
    for cell in chapter.cells(path):
        found = re.match(r"# (.+)", cell.source)
        if cell.cell_type == "markdown" and found:
            return found[1].strip()
    raise ValueError(f"{path.name} has no title")


def navigation(path: Path) -> str:
    """The line that stands at both ends of a chapter: the one before, all of them, the glossary, the next."""
    books = chapter.sources(path.parent)
    place = books.index(path)
    links = [f"[← {title(book)}]({book.stem}.ipynb)" for book in books[max(place - 1, 0) : place]]
    if place:
        links.append(f"[all chapters]({books[0].stem}.ipynb)")
    links.append(f"[glossary]({GLOSSARY})")
    links += [f"[{title(book)} →]({book.stem}.ipynb)" for book in books[place + 1 : place + 2]]
    return " | ".join(links)
