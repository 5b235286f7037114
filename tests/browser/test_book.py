"""The book in a browser, wide and narrow, light and dark; and all of its links.

Two chapters are built here, the others as their headings. With LABELKIT_BOOK=build/book/html it is every page of a book
that `make book` has built.
"""

import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import nbformat
import pytest

from labelkit_course import registry
from labelkit_course.paths import ROOT
from tests.browser.test_explorer import middle_of, touch

pytest.importorskip("sphinx", reason="Sphinx is missing: pip install -r requirements.txt")

WHOLE = os.environ.get("LABELKIT_BOOK")
FULL = ("05_retinanet", "09_atss")
SOME = [
    "index", *(f"chapters/{name}" for name in FULL), "chapters/glossary", "docs/board", "docs/example_report",
    "docs/library", "api/index", "api/labelkit.assigners", "api/labelkit.detectors", "search",
]  # fmt: skip
PAGES = [f"{name}.html" for name in SOME]
if WHOLE:
    made = (path.relative_to(WHOLE) for path in Path(WHOLE).rglob("*.html"))
    PAGES = sorted(path.as_posix() for path in made if path.parts[0] != "_static")
LOOKS = [(width, dark) for width in (390, 1400) for dark in (False, True)]

# The pictures and fonts are there, and a page of Sphinx's has taken the theme of the system.
SETTLED = """(theme) => [...document.images].every(i => i.complete) && document.fonts.status === "loaded"
  && (document.documentElement.dataset.theme ?? theme) === theme"""

CONTRAST = Path(__file__).with_name("contrast.js").read_text("utf-8")
# What is wrong with a page as it is shown, in the words of a failing test.
FAULTS = """() => {
  const wrong = [], article = document.querySelector(".bd-article") || document.body;
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) wrong.push(`the page is ${wide} px wide, the window ${innerWidth}`);
  for (const img of document.images) {
    if (!img.alt.trim() || /\\.(png|svg|jpe?g)$/.test(img.alt)) wrong.push(`no alternative text: ${img.src}`);
    if (img.complete && !img.naturalWidth) wrong.push(`no picture: ${img.src}`);
  }
  for (const math of article.querySelectorAll("math")) {
    const box = math.getBoundingClientRect(), room = math.closest(".formula"), what = math.textContent.slice(0, 40);
    if (!math.checkVisibility()) continue;
    if (!box.width || !box.height || math.querySelector("merror")) wrong.push(`a formula is not set: ${what}`);
    if (room && (room.scrollHeight > room.clientHeight + 1 || box.left < room.getBoundingClientRect().left - 1
        || box.width > room.scrollWidth + 1)) wrong.push(`a formula is cut: ${what}`);
    if (room && room.scrollWidth > room.clientWidth + 1 && getComputedStyle(room).overflowX !== "auto")
      wrong.push(`the end of a formula can't be reached: ${what}`);
    if (!room && !math.closest(".pst-scrollable-table-container") && box.right > innerWidth)
      wrong.push(`a formula leaves the window: ${what}`);
  }
  const walk = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    if (walk.currentNode.parentElement.closest("pre, code, math, script, style")) continue;
    const raw = walk.currentNode.data.match(/.{0,30}(\\$|\\|\\s*:?(---|[—–])|\\s\\*+\\w[^*]*\\w\\*+(?!\\w)).{0,30}/);
    if (raw) wrong.push(`raw source is shown: ${raw[0]}`);
  }
  return wrong;
}"""


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The folder of a built book, without warnings."""
    if WHOLE:
        return Path(WHOLE)
    folder = tmp_path_factory.mktemp("book")
    checkout = folder / "checkout"
    for name in ("docs", "data"):
        shutil.copytree(ROOT / name, checkout / name)
    (checkout / "chapters").mkdir()
    for path in [ROOT / "README.md", *(ROOT / "chapters").glob("*.md")]:
        shutil.copy(path, checkout / path.relative_to(ROOT))
    for path in (ROOT / "chapters").glob("*.ipynb"):
        if path.stem in FULL:
            shutil.copy(path, checkout / "chapters")
        else:
            cut = nbformat.read(path, 4)
            cut.cells = cut.cells[:2]
            nbformat.write(cut, checkout / "chapters" / path.name)
    command = [sys.executable, "-m", "book", str(checkout), str(folder / "made")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr
    return folder / "made" / "html"


@pytest.fixture(scope="module")
def site(book):
    """The address of the book on this machine, as if it were published: search reads pages, which a file may not."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=book))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *said):
        pass

    def do_GET(self):  # the pages that are no part of Sphinx's name no icon, and a browser then asks for one
        self.send_error(204) if self.path == "/favicon.ico" else super().do_GET()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_holds_what_a_reader_may_expect(name, site, open_page):
    page = open_page(f"{site}/{name}", width=LOOKS[0][0])
    for width, dark in LOOKS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.wait_for_function(SETTLED, arg="dark" if dark else "light")
        assert page.evaluate(FAULTS) == [] == page.evaluate(CONTRAST), (width, dark)
        ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (max(ground[:3]) < 60) == dark
    assert page.errors == [] and page.outside == []


@pytest.mark.parametrize("width", [390, 1400])
def test_the_first_screen_shows_the_sky_and_the_explorer(width, site, open_page):
    page = open_page(f"{site}/index.html", width=width, height=844)
    picture, frame = (page.locator(what).first.bounding_box() for what in (".bd-article img", ".explorer iframe"))
    assert picture["y"] + picture["height"] < 844 and frame["y"] < 700 and frame["width"] > 340
    frame = page.frame_locator(".explorer iframe")
    assert frame.locator("body").inner_text().strip() and page.errors == [] and page.outside == []


@pytest.mark.parametrize("width, height", [(390, 844), (360, 800), (844, 390)])
def test_a_stranger_on_a_phone_drags_an_object_and_reads_what_it_did(width, height, site, open_page):
    page = open_page(f"{site}/index.html", width=width, height=height, touch=True)
    said, frame = page.locator(".first p", has_text="Label assignment"), page.frame_locator(".explorer iframe")
    assert "each place is told which object to find" in said.inner_text()
    told, hit = frame.locator("[role=status]"), frame.locator(".lkx-object .lkx-hit").first
    told.filter(has_text="min_fg=0.5 gives it 1 place, fcos 1, atss 2, rka 3.").wait_for()
    text, target = said.bounding_box(), hit.bounding_box()
    assert text["y"] + text["height"] < height and round(min(target["width"], target["height"])) >= 44
    if width != 360:  # on the first screen
        assert target["y"] + target["height"] / 2 < height
    hit.scroll_into_view_if_needed()
    scrolled = page.evaluate("scrollY")
    scale = frame.locator(".lkx-object .lkx-box").first.bounding_box()["width"] / 7
    touch(page, middle_of(frame, ".lkx-object .lkx-hit"), (4 * scale, 0))
    told.filter(has_text="min_fg=0.5 gives it 0 places, fcos 0, atss 0, rka 3.").wait_for()
    assert page.evaluate("scrollY") == scrolled
    # Its frame shows all that it holds, so that a finger beside the objects scrolls the page.
    inside = frame.locator("html").evaluate("html => html.scrollHeight - html.clientHeight")
    corner = frame.locator(".lkx-stage").first.bounding_box()
    touch(page, (corner["x"] + 8, corner["y"] + corner["height"] - 8), (0, -120))
    page.wait_for_function("before => scrollY > before", arg=scrolled)
    assert inside <= 0 and page.errors == []


@pytest.mark.parametrize("dark", [False, True])
def test_a_finger_hits_what_it_aims_at_on_the_first_page(dark, site, open_page):
    page = open_page(f"{site}/index.html", width=390, height=844, touch=True, dark=dark)
    aims = ".bd-header-article :is(.btn, label), .words a, .explorer a, td:first-child a"
    small = """all => all.filter(one => one.checkVisibility()).map(one => {
      const {width, height} = (one.closest("tr") ?? one).getBoundingClientRect();
      return [one.outerHTML.slice(0, 60), width, height];
    }).filter(([, width, height]) => width < 44 || height < 44)"""
    assert page.locator(aims).count() > 25 and page.locator(aims).evaluate_all(small) == []
    page.get_by_role("cell", name="ATSS", exact=True).tap(force=True)  # anywhere in the row
    page.wait_for_url("**/09_atss.html")


def test_the_book_opens_without_a_server(book, open_page):
    page = open_page(book / "chapters" / "05_retinanet.html")
    assert page.locator(".bd-article h1").inner_text().startswith("05 ·") and page.locator("math").count() > 10
    assert page.errors == [] and page.outside == []


def test_every_figure_opens_and_closes_by_keyboard(site, open_page):
    page = open_page(f"{site}/chapters/05_retinanet.html", width=390)
    figure = page.locator(".cell_output img").first
    box = page.locator("dialog.zoomed")
    for width, key in ((390, "Enter"), (1400, "Space")):
        page.set_viewport_size({"width": width, "height": 900})
        for close in ("Escape", "Enter"):
            figure.focus()
            page.keyboard.press(key)
            box.wait_for()
            assert box.locator("img").get_attribute("alt") == figure.get_attribute("alt")
            assert box.locator("img").bounding_box()["width"] > figure.bounding_box()["width"]
            page.keyboard.press(close)
            box.wait_for(state="hidden")
            assert figure.evaluate("figure => figure === document.activeElement")
    figure.click()
    box.click()
    box.wait_for(state="hidden")
    assert page.errors == []
    assert page.locator(".bd-article img:not([tabindex='0'][role='button'])").count() == 0


def test_hints_and_answers_are_folded_and_open_by_keyboard(site, open_page):
    page = open_page(f"{site}/chapters/05_retinanet.html#exercise-05-2", width=390)
    folds = page.locator("details.sd-dropdown")
    assert page.locator("details.sd-dropdown[open]").count() == 0
    exercises = registry.of_chapter("05")
    titles = [text.strip() for text in folds.locator("summary").all_inner_texts()]
    assert titles.count("Solution") == len(exercises)
    assert sum(title.startswith("Hint ") for title in titles) == sum(len(exercise.hints) for exercise in exercises)
    heading = page.locator("h3", has_text="Exercise 05.2").bounding_box()
    assert -10 < heading["y"] < 300  # the address leads there
    solution = folds.filter(has_text="Solution").filter(has_text="def my_class_targets")
    for width in (390, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        assert not solution.locator("pre").is_visible()
        solution.locator("summary").focus()
        page.keyboard.press("Enter")
        assert solution.locator("pre").is_visible() and "course.todo" not in solution.inner_text()
        page.keyboard.press("Enter")


def test_code_that_only_imports_or_draws_is_folded(site, open_page):
    page = open_page(f"{site}/chapters/05_retinanet.html")
    assert page.get_by_text("Show the code").count() > 10
    assert not page.get_by_text("from labelkit.assigners import MaxIoU").first.is_visible()
    assert page.get_by_text("def label_of_one_anchor").first.is_visible()


def test_search_finds_a_phrase(site, open_page):
    page = open_page(f"{site}/search.html?q=low-quality+rule")
    found = page.locator("#search-results ul.search li a").first
    found.wait_for()
    assert page.locator("#search-results a[href*='05_retinanet']").count() > 0
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(SETTLED, arg=scheme)
        assert page.evaluate(CONTRAST) == []
    page.goto(f"{site}/index.html")
    button = page.locator(".search-button-field:visible, .search-button:visible")
    for width in (1400, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.locator("input[type=search]:visible").count() == 0  # one field, behind one button
        assert button.count() == 1
    button.click()
    page.locator("input[type=search]:visible").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.keyboard.type("centre-ness")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=centre-ness*")
    page.locator("#search-results ul.search li a").first.wait_for()
    assert page.errors == [] and page.outside == []


def test_a_download_is_the_committed_notebook_byte_for_byte(site, open_page):
    names = [path.stem for path in (ROOT / "chapters").glob("*.ipynb")] if WHOLE else FULL
    page = open_page(f"{site}/chapters/{names[0]}.html")
    for name in names:
        page.goto(f"{site}/chapters/{name}.html")
        address = page.locator("a[href*='_sources/'][href$='.ipynb']").first.evaluate("link => link.href")
        with urlopen(address) as response:
            assert response.read() == (ROOT / "chapters" / f"{name}.ipynb").read_bytes()


def test_the_code_of_a_chapter_leads_to_the_pages_of_the_library(book):
    text = (book / "chapters" / "05_retinanet.html").read_text("utf-8")
    assert text.count('class="sphinx-codeautolink-a" href="../api/') > 60
    assert 'href="../api/labelkit.assigners.html#labelkit.assigners.MaxIoU"' in text


def test_a_shared_link_has_its_preview(book):
    text = (book / "chapters" / "05_retinanet.html").read_text("utf-8")
    for name in ("og:title", "og:description", "og:image", "og:image:alt"):
        assert f'property="{name}"' in text


def test_a_field_that_holds_a_function_is_no_method(book):
    parts = Anchors.of(book / "api" / "labelkit.detectors.html").ids
    assert "labelkit.detectors.LossRule" in parts and "labelkit.detectors.LossRule.class_loss" not in parts


class Anchors(HTMLParser):
    """The links and the addresses of a page."""

    def __init__(self):
        super().__init__()
        self.links, self.ids = [], {"", "top"}

    @classmethod
    def of(cls, path):
        self = cls()
        self.feed(path.read_text("utf-8"))
        return self

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.add(given.get("id") or "")
        self.links += [given[key] for key in ("href", "src") if given.get(key)]


def test_every_link_leads_somewhere(book):
    pages = {path: Anchors.of(path) for path in book.rglob("*.html") if "_static" not in path.parts}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = pages[target].ids if target in pages else {unquote(parts.fragment)}
            state = target.name == "explorer.html"  # its fragment is a scene
            if not target.exists() or (not state and unquote(parts.fragment) not in there):
                broken.append((str(path.relative_to(book)), link))
    assert not broken and len(pages) > 40
