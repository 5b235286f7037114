"""make lab's work: copies are made once and never overwritten; JupyterLab fits where it runs, and ends with the lab."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from labelkit_course import lab


def book(source, text="x"):
    cells = [nbformat.v4.new_markdown_cell(text)]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata={"labelkit": {"source": source}}))


@pytest.fixture
def chapters(tmp_path, monkeypatch):
    folder = tmp_path / "chapters"
    folder.mkdir()
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    (folder / "00_start_here.ipynb").write_text(book("first"))
    (folder / "00_start_here.py").write_text("")
    return folder


def test_chapters_are_copied_and_a_new_one_is_added_later(chapters, work, capsys):
    lab.copy_chapters()
    assert [file.name for file in work.iterdir()] == ["00_start_here.ipynb"]
    (chapters / "01_next.ipynb").write_text(book("first"))
    capsys.readouterr()
    lab.copy_chapters()
    assert (work / "01_next.ipynb").exists()
    assert "Copied" in capsys.readouterr().out


def test_a_learners_file_is_never_overwritten_and_a_newer_chapter_is_named(chapters, work, capsys):
    lab.copy_chapters()
    mine = work / "00_start_here.ipynb"
    mine.write_text(book("first", "my own notes"))
    lab.copy_chapters()
    capsys.readouterr()
    (chapters / "00_start_here.ipynb").write_text(book("second"))
    lab.copy_chapters()
    said = capsys.readouterr().out
    assert "my own notes" in mine.read_text()
    assert "00_start_here.ipynb" in said and "rename yours" in said
    mine.write_text("no notebook at all")
    lab.copy_chapters()
    assert mine.read_text() == "no notebook at all"


def test_the_glossary_is_always_todays(chapters, work):
    (chapters / "glossary.md").write_text("old")
    lab.copy_chapters()
    (chapters / "glossary.md").write_text("new")
    lab.copy_chapters()
    assert (work / "glossary.md").read_text() == "new"


def test_the_explorer_is_written_beside_the_chapters_when_it_is_older_than_its_source(work, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda line, **_: started.append(line[-1]))
    monkeypatch.setattr(lab, "EXPLORER", tmp_path / "explore")
    (tmp_path / "explore" / "__pycache__").mkdir(parents=True)
    work.mkdir()
    source, page = tmp_path / "explore" / "page.py", work / "explorer.html"
    for file, age in ((source, 100), (page, 50), (tmp_path / "explore" / "__pycache__" / "page.pyc", 0)):
        file.write_text("")
        os.utime(file, (time.time() - age,) * 2)
    lab.write_explorer(page)
    assert started == []
    os.utime(source)
    lab.write_explorer(page)
    page.unlink()
    lab.write_explorer(page)
    assert started == [str(page)] * 2


def test_what_writes_the_explorer_writes_it(tmp_path):
    page = tmp_path / "explorer.html"
    subprocess.run([sys.executable, "-c", lab.WRITE_EXPLORER, str(page)], check=True, timeout=300)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_lab_opens_ready_to_read_and_leaves_what_a_learner_changed(work, tmp_path, monkeypatch):
    """Seen in Chromium with JupyterLab 4.6: no question about news, chapter 00 beside its table of contents."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    lab.ready_to_read(work)
    (settings,) = (tmp_path / "venv").rglob("overrides.json")
    assert settings.parts[-4:-1] == ("jupyter", "lab", "settings")
    news = json.loads(settings.read_text())["@jupyterlab/apputils-extension:notification"]
    assert news == {"fetchNews": "false", "checkForUpdates": False}
    (workspace,) = (work / ".labelkit" / "workspaces").iterdir()
    left = json.loads(workspace.read_text())["data"]["layout-restorer:data"]["left"]
    assert left["current"] == "@jupyterlab/toc:plugin" and not left["collapsed"]
    settings.write_text("{}")
    workspace.write_text("{}")
    lab.ready_to_read(work)
    assert settings.read_text() == workspace.read_text() == "{}"


def test_the_workspace_is_where_jupyterlab_looks_for_it(work):
    handler = pytest.importorskip("jupyterlab_server.workspaces_handler")
    assert handler.slugify("course") + handler.WORKSPACE_EXTENSION == lab.WORKSPACE
    assert f"--LabApp.workspaces_dir={work / '.labelkit' / 'workspaces'}" in lab.command(work, [])


def test_pythons_own_folder_is_not_written(work, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "python"))
    lab.ready_to_read(work)
    assert not (tmp_path / "python").exists()


def test_no_browser_is_opened_where_nobody_sits(work, monkeypatch):
    monkeypatch.setattr(lab, "_has_screen", lambda: False)
    assert "--no-browser" in lab.command(work, [])
    monkeypatch.setattr(lab, "_has_screen", lambda: True)
    assert "--no-browser" not in lab.command(work, [])


@pytest.mark.skipif(sys.platform != "linux", reason="only X11 and Wayland say so in the environment")
def test_a_screen_needs_a_terminal_and_a_display(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    assert lab._has_screen()
    monkeypatch.delenv("DISPLAY")
    assert not lab._has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert not lab._has_screen()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there is no root here")
def test_only_root_gets_allow_root_and_further_arguments_come_last(work, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "--allow-root" in lab.command(work, [])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    line = lab.command(work, ["--port=9999"])
    assert "--allow-root" not in line and line[-1] == "--port=9999" and f"--ServerApp.root_dir={work}" in line


def test_the_lab_opens_on_chapter_00(chapters, work):
    lab.copy_chapters()
    assert "--LabApp.default_url=/lab/workspaces/course/tree/00_start_here.ipynb" in lab.command(work, [])


JUPYTERLAB = """import os, pathlib, signal, socket
signal.alarm(60)  # its end if a failing test leaves it behind
server = socket.create_server(("127.0.0.1", 0))
pathlib.Path(os.environ["STARTED"]).write_text(str(server.getsockname()[1]))
while True:
    server.accept()[0].close()
"""


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def soon(happens):
    """Whether it comes true within twenty seconds."""
    end = time.monotonic() + 20
    while not happens() and time.monotonic() < end:
        time.sleep(0.05)
    return happens()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't replace a process")
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ([sys.executable, lab.__file__], signal.SIGKILL),
        ([sys.executable, lab.__file__], signal.SIGTERM),
        # Quotes make make ask a shell, which must not stay between either.
        (["make", "lab", "READY=", f"BIN={Path(sys.executable).parent}", "LAB_ARGS='--port=0'"], signal.SIGTERM),
    ],
)
def test_a_signal_to_the_lab_leaves_nothing_running(start, end, tmp_path):
    """With a JupyterLab that only holds a port; a container's stop is such a signal."""
    if shutil.which(start[0]) is None:
        pytest.skip("there is no make here")
    (tmp_path / "jupyterlab").mkdir()
    (tmp_path / "jupyterlab" / "__init__.py").write_text("")
    (tmp_path / "jupyterlab" / "__main__.py").write_text(JUPYTERLAB)
    started = tmp_path / "started"
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "explorer.html").touch()  # as new as its source: nobody writes it
    environment = {"PYTHONPATH": str(tmp_path), "LABELKIT_WORK": str(tmp_path / "work"), "STARTED": str(started)}
    root = Path(lab.__file__).parents[1]
    process = subprocess.Popen(start, cwd=root, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    assert soon(lambda: started.exists() and started.read_text())
    port = int(started.read_text())
    assert is_open(port)
    process.send_signal(end)
    assert process.wait(timeout=30) != 0
    assert soon(lambda: not is_open(port)), "JupyterLab still runs"


def test_where_a_process_cannot_be_replaced_the_lab_waits_for_jupyterlab(work, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(lab, "write_explorer", lambda page: None)
    monkeypatch.setattr(subprocess, "call", lambda line, env: 7 if "jupyterlab" in line else 0)
    assert lab.main([]) == 7
