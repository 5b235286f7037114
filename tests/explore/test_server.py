"""The server answers this computer's own page, and says in a sentence why it answers nothing else."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from labelkit.explore import server as serving
from labelkit.explore.opening import opened
from labelkit.explore.question import answer
from tests.cli import calling
from tests.explore.network import BOXES, LABELS, SIZE, opinionated, picture

QUESTION = {"id": 7, "size": [64, 64], "priors": "course-points", "objects": [[10, 10, 30, 30]], "rules": ["fcos"]}


WITHOUT_EXTRAS = """
import sys
sys.modules |= dict.fromkeys(("lightning", "matplotlib", "anywidget", "skimage", "sklearn", "yaml"))
from labelkit.cli.app import main
main()
"""


def test_a_browser_does_not_say_port_80():
    hosts = serving.ExplorerServer.hosts.fget
    assert hosts(SimpleNamespace(server_port=80)) == {"127.0.0.1", "127.0.0.1:80", "localhost", "localhost:80"}
    assert hosts(SimpleNamespace(server_port=8770)) == {"127.0.0.1:8770", "localhost:8770"}


@pytest.fixture(scope="module")
def server():
    begun = opened("size=64,64&objects=10,10,30,30")
    with serving.open_server(begun._replace(picture=b"a picture"), 8990) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def request(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(serving.HOST, server.server_port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    headers = {"Host": f"127.0.0.1:{server.server_port}"} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    if body is not None and "Content-Length" not in headers:
        headers["Content-Length"] = str(len(body))
    for name, text in headers.items():
        connection.putheader(name, text)
    connection.endheaders(body)
    reply = connection.getresponse()
    found = reply.status, reply.read(), reply.headers
    connection.close()
    return found


def refused(server, *arguments, **headers):
    status, body, _ = request(server, *arguments, **headers)
    return status, json.loads(body)["error"]


def test_it_answers_what_the_library_answers(server):
    status, body, headers = request(server, "POST", "/answer", json.dumps(QUESTION).encode())
    assert status == 200 and json.loads(body) == answer(QUESTION) and headers["Content-Type"] == "application/json"


def test_the_page_is_whole_and_asks_nothing_of_others(server):
    status, body, headers = request(server, "GET", "/")
    text = body.decode()
    assert status == 200 and "labelkitExplorer.mount" in text and '"objects": [[10.0, 10.0, 30.0, 30.0]]' in text
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|@import|url\(", text)
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert request(server, "GET", "/picture")[1] == b"a picture"
    assert request(server, "GET", "/", Host=f"localhost:{server.server_port}")[0] == 200


def test_a_scene_cannot_end_the_script_that_holds_it():
    begun = opened()
    text = serving.page(begun._replace(scene=begun.scene | {"heat": "</script><script>alert(1)"}))
    assert "alert(1)" in text and "</script><script>alert" not in text


def test_another_name_or_another_page_is_refused(server):
    for headers in ({"Host": "evil.example:8990"}, {"Host": f"127.0.0.1.evil.example:{server.server_port}"}):
        assert refused(server, "GET", "/", **headers)[0] == 403
        status, sentence = refused(server, "POST", "/answer", json.dumps(QUESTION).encode(), **headers)
        assert status == 403 and f"answers to {server.address} alone" in sentence
    body = json.dumps(QUESTION).encode()
    assert refused(server, "POST", "/answer", body, Origin="http://evil.example")[0] == 403
    assert request(server, "POST", "/answer", body, Origin=server.address.rstrip("/"))[0] == 200


def test_too_much_is_refused_before_it_is_read(server):
    for length in (str(serving.LONGEST + 1), "9" * 5000):
        status, sentence = refused(server, "POST", "/answer", Content_Length=length)
        assert status == 413 and f"at most {serving.LONGEST} bytes" in sentence
    for length in ("-1", "many"):
        assert refused(server, "POST", "/answer", Content_Length=length)[0] == 411


def test_with_a_detector_it_answers_for_the_rules_that_ask_one():
    begun = opened(image=picture(), boxes=BOXES, labels=LABELS, detector=opinionated())
    question = {"id": 1, "size": list(SIZE), "priors": "detector", "objects": BOXES.tolist(), "rules": ["tal", "paa"]}
    with serving.open_server(begun, 8990) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        status, body, _ = request(running, "POST", "/answer", json.dumps(question).encode())
        assert status == 200 and json.loads(body) == answer(question, begun.network)
        status, said = refused(running, "POST", "/answer", json.dumps(question | {"priors": "fcos"}).encode())
        assert status == 400 and said.startswith("tal asks for the network's predictions")
        text = request(running, "GET", "/")[1].decode()
        assert '"detector"]' in text and '"poto"' in text and '"files": false' in text
        running.shutdown()


def test_without_a_detector_it_offers_none_of_these(server):
    text = request(server, "GET", "/")[1].decode()
    assert '"detector"' not in text and '"poto"' not in text and '"files": true' in text


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff{}", "codec can't decode"),
        (b"[" * 100_000, "recursion"),
        (b"[]", "a question must be an object"),
        (json.dumps(QUESTION | {"rules": ["max"]}).encode(), "assigner must be one of"),
        (json.dumps(QUESTION | {"objects": [[1, 1, float("inf"), 4]]}).encode(), "must be a number"),
    ],
)
def test_a_malformed_question_is_answered_with_a_sentence(server, body, sentence):
    status, said = refused(server, "POST", "/answer", body)
    assert status == 400 and sentence in said
    assert request(server, "POST", "/answer", json.dumps(QUESTION).encode())[0] == 200


def said(server, text):
    """All that the server says to these bytes, until it ends the connection."""
    with socket.create_connection((serving.HOST, server.server_port), timeout=20) as connection:
        connection.sendall(text.format(host=f"Host: 127.0.0.1:{server.server_port}").encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("GET /picture HTTP/1.1\r\n{host}\r\nContent-Length: 99\r\n\r\nGET / HTTP/1.1\r\n{host}\r\n\r\n", 200),
        ("GET /picture HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\nGET / HTTP/1.1\r\n{host}\r\n\r\n", 200),
        (
            "POST /answer HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"
            "[]GET / HTTP/1.1\r\n{host}\r\n\r\n",
            411,
        ),
        ("POST /answer HTTP/1.1\r\n{host}\r\nContent-Length: 2\r\nContent-Length: 1\r\n\r\n[]", 411),
    ],
)
def test_a_body_is_never_taken_for_a_request(server, text, status):
    answers = said(server, text)
    assert answers.startswith(f"HTTP/1.1 {status} ".encode()) and answers.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in answers


def test_a_page_that_goes_away_leaves_no_traceback(server, capsys, monkeypatch):
    handled, handle = threading.Event(), serving.ExplorerServer.handle_error
    monkeypatch.setattr(serving.ExplorerServer, "handle_error", lambda *given: (handle(*given), handled.set()))
    connection = socket.create_connection((serving.HOST, server.server_port))
    head = f"POST /answer HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nContent-Length: 50\r\n\r\n"
    connection.sendall(head.encode())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ended by a reset
    connection.close()
    assert handled.wait(20) and capsys.readouterr().err == ""


def test_other_paths_do_not_exist(server):
    for path in ("/../labelkit/__init__.py", "/answer", "/picture/"):
        assert refused(server, "GET", path)[0] == 404
    assert refused(server, "POST", "/", b"{}")[0] == 404


def test_an_answer_is_one_write(server, monkeypatch):
    sizes, write = [], socket.SocketIO.write
    monkeypatch.setattr(socket.SocketIO, "write", lambda self, data: sizes.append(len(data)) or write(self, data))
    monkeypatch.setattr(
        "socketserver._SocketWriter.write", lambda self, data: sizes.append(len(data)) or self._sock.sendall(data)
    )
    body = json.dumps(QUESTION | {"heat": "iou", "chosen": 0}).encode()
    status, found, _ = request(server, "POST", "/answer", body)
    assert status == 200 and len(sizes) == 1 and sizes[0] > len(found) > 2000


def test_it_listens_on_this_computer_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1" and server.address == f"http://127.0.0.1:{server.server_port}/"


def test_a_taken_port_is_passed_over(server):
    with serving.open_server(opened(), server.server_port) as second:
        assert server.server_port < second.server_port < server.server_port + serving.TRIED


def test_the_command_says_where_it_is_and_ends_when_it_is_told(server):
    command = [sys.executable, "-c", WITHOUT_EXTRAS, "explore", "--no-browser", "--port", str(server.server_port)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "BROWSER": "false"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        address = running.stdout.readline().strip()
        port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)[1])
        assert port > server.server_port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=30)
        assert running.returncode == 0 and "Ended." in said and "Traceback" not in said
    finally:
        running.kill()


@pytest.mark.parametrize("arguments, port", [((), 8770), (("--no-browser", "--port", "9000"), 9000)])
def test_it_opens_a_browser_unless_told_not_to_and_ends_with_ctrl_c(arguments, port, monkeypatch):
    asked, visited = [], []

    class Interrupted(contextlib.nullcontext):
        address = "http://127.0.0.1/"

        def serve_forever(self):
            raise KeyboardInterrupt

    running = Interrupted()
    running.enter_result = running
    monkeypatch.setattr(serving, "open_server", lambda begun, port: asked.append(port) or running)
    monkeypatch.setattr("webbrowser.open", visited.append)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    result = calling.call("explore", *arguments)
    assert result.exit_code == 0 and result.stdout == "http://127.0.0.1/\n" and "Ended." in result.stderr
    assert asked == [port] and visited == ([] if arguments else [running.address])


def test_a_picture_that_cannot_be_read_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "open_server", lambda *_: pytest.fail("it started"))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "boxes.json").write_text("[]")
    for arguments, sentence in (
        ([tmp_path / "broken.png"], "broken.png: cannot be read: it is no picture"),
        ([tmp_path / "none.png"], "none.png: cannot be read"),
        (["--annotations", tmp_path / "boxes.json"], "must hold an object"),
        (["--port", "0"], "--port must be from 1 to 65535"),
    ):
        result = calling.call("explore", *arguments, "--no-browser")
        assert result.exit_code == 1 and sentence in result.stderr and "Traceback" not in result.output
