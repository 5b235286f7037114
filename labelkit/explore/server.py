"""The explorer as a page of this computer alone: the standard library's server on 127.0.0.1, the library behind it."""

from __future__ import annotations

import errno
import json
import os
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from labelkit.assigners import ASSIGNERS
from labelkit.explore.network import Network
from labelkit.explore.opening import Opened
from labelkit.explore.parts import in_script, script, style
from labelkit.explore.presets import DETECTOR, PRESETS
from labelkit.explore.question import answer
from labelkit.scenes import SCENES
from labelkit.training.rules import SIMILARITIES

HOST = "127.0.0.1"
TRIED = 20  # ports, from the one that is asked for on
LONGEST = 256 * 1024  # bytes of a question
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>labelkit explore</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">
<style>{css}</style></head><body class="lkx-page"><div id="explorer"></div>
<script>{script}</script>
<script>
const ask = async question => {{
  const reply = await fetch("/answer", {{
    method: "POST", headers: {{"Content-Type": "application/json"}}, body: JSON.stringify(question)}});
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.error);
  return found;
}};
const {{scene, image, options}} = {begin};
labelkitExplorer.mount(document.getElementById("explorer"), scene, image, ask, options);
</script></body></html>
"""


def options(network: Network | None) -> dict[str, Any]:
    """What a page offers. With a network also its priors and the rules that ask it, but no picture beside the one that
    it has seen."""
    asked = network is not None
    scenes = {} if asked else SCENES
    return {
        "rules": [name for name, kind in ASSIGNERS.items() if asked or not kind.needs_predictions],
        "priors": [*PRESETS, *([DETECTOR] if asked else [])],
        "similarities": list(SIMILARITIES),
        "scenes": {name: {"size": list(one.size), "objects": one.boxes.tolist()} for name, one in scenes.items()},
        "files": not asked,
        "own": True,
        "url": True,
    }


class ExplorerServer(ThreadingHTTPServer):
    """Serves one scene until it is shut down. `address` is where."""

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would share a port that is taken

    def __init__(self, begun: Opened, port: int):
        self.begun = begun
        super().__init__((HOST, port), Handler)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    @property
    def hosts(self) -> set[str]:
        """What a browser of this computer calls this server; a page elsewhere that found its port says otherwise."""
        ports = ("", ":80") if self.server_port == 80 else (f":{self.server_port}",)  # no browser says 80
        return {name + port for name in (HOST, "localhost") for port in ports}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed while it asked is nobody's fault; of all else there is a traceback."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def open_server(begun: Opened, port: int) -> ExplorerServer:
    """A server at `port`, or at the next one that is free."""
    for number in range(port, min(port + TRIED, 65536)):
        try:
            return ExplorerServer(begun, number)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
    raise OSError(f"no port from {port} to {port + TRIED - 1} is free: name another one with --port")


class Handler(BaseHTTPRequestHandler):
    """GET / and /picture, POST /answer. Every answer is one write."""

    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a silent connection is kept
    disable_nagle_algorithm = True
    server: ExplorerServer

    def do_GET(self) -> None:
        if not self._welcome():
            return
        picture = self.server.begun.picture
        if self.path == "/":
            self._send(HTTPStatus.OK, page(self.server.begun).encode(), "text/html; charset=utf-8")
        elif self.path == "/picture" and picture is not None:
            self._send(HTTPStatus.OK, picture, "image/png")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there are / and /picture, and nothing else")

    def do_POST(self) -> None:
        if not self._welcome():
            return
        if self.path != "/answer":
            self._refuse(HTTPStatus.NOT_FOUND, "questions go to /answer")
            return
        length = ",".join(self.headers.get_all("Content-Length", []))
        if "Transfer-Encoding" in self.headers or not length.isascii() or not length.isdigit():
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "a question must state its Content-Length")
        elif len(length) > 9 or int(length) > LONGEST:
            self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a question has at most {LONGEST} bytes, this one has more"
            )
        else:
            self._answer(self.rfile.read(int(length)))

    def _answer(self, body: bytes) -> None:
        try:
            found = answer(json.loads(body), self.server.begun.network)
        except (ValueError, RecursionError) as error:  # of json's too
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._send(HTTPStatus.OK, json.dumps(found, separators=(",", ":")).encode(), "application/json")

    def _welcome(self) -> bool:
        """Whether the request comes from a page of this server; without it any web page could ask by another name."""
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        if self.command == "GET" and ("Content-Length" in self.headers or "Transfer-Encoding" in self.headers):
            self.close_connection = True  # nobody reads this body, and the next request must not be its text
        if host in self.server.hosts and (origin is None or origin.removeprefix("http://") in self.server.hosts):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, f"this server answers to {self.server.address} alone")
        return False

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self.close_connection = True  # the body of the request may stand unread
        self._send(status, json.dumps({"error": sentence}).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        head = {
            "Content-Type": kind,
            "Content-Length": len(body),
            "Cache-Control": "no-store",
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Connection": "close" if self.close_connection else "keep-alive",
        }
        lines = [f"{self.protocol_version} {status.value} {status.phrase}", *(f"{k}: {v}" for k, v in head.items())]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def log_message(self, *_: Any) -> None:
        """Nothing: a terminal line for each drag helps nobody."""


def page(begun: Opened) -> str:
    """The whole page, with the scene in it."""
    image = None if begun.picture is None else "/picture"
    offered = options(begun.network)
    begin = {"scene": begun.scene, "image": image, "options": offered}
    return PAGE.format(css=style(), script=script(), begin=in_script(begin))
