"""Another account of the machine, with the server on loopback: it gets nothing without the printed URL."""

from __future__ import annotations

import html
import os
import pwd
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE: Final = re.compile(r"Open (http://127\.0\.0\.1:\d+/)\?key=([A-Za-z0-9_-]{43}) \(valid once\)")
WORKLOADS: Final = "api/ebbtide/v1/workloads"
WORKLOAD: Final = f"{WORKLOADS}/research/nightly"
#: Sends one request from a process of another account, and prints the status code.
REQUEST: Final = """
import encodings.idna, http.client, os, socket, sys
method, address, path, uid = sys.argv[1:]
os.setgid(int(uid)); os.setuid(int(uid))
if address.startswith("/"):
    link = socket.socket(socket.AF_UNIX)
    try:
        link.connect(address)
    except PermissionError:
        sys.exit(print("denied"))
else:
    link = socket.create_connection(("127.0.0.1", int(address)))
connection = http.client.HTTPConnection("127.0.0.1")
connection.sock = link
connection.request(method, path)
print(connection.getresponse().status)
"""


#: Calls the command line with a shorter simulated past, which would take seconds of each start.
SHORT: Final = """
import functools, sys
from ebbtide.cli import entry
from ebbtide.sandbox import services
services.demo_world = functools.partial(services.demo_world, hours=0.05)
sys.exit(entry())
"""


class Demo:
    """A running ``ebbtide serve --demo``: its output lines so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def wait_for(self, pattern: re.Pattern[str]) -> re.Match[str]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if match := pattern.search(line):
                return match
        raise AssertionError("".join(self.lines))


@contextmanager
def demo(*words: str, name: str = "serve", **environment: str) -> Iterator[Demo]:
    command = [sys.executable, "-c", SHORT, name, "--demo", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        watchdog = threading.Timer(180, process.kill)
        watchdog.start()
        try:
            yield Demo(process)
            process.send_signal(signal.SIGINT)
            process.wait(30)
        finally:
            watchdog.cancel()
            process.kill()


def visitor(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, timeout=60, transport=httpx.HTTPTransport(retries=10), follow_redirects=True)


def request_as_nobody(method: str, address: str, path: str) -> str:
    return run_as_nobody(REQUEST, method, address, path)


def run_as_nobody(program: str, *words: str) -> str:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another account")
    uid = str(pwd.getpwnam("nobody").pw_uid)
    # The process starts as root, since the other account may be unable to read the interpreter's folder.
    command = [sys.executable, "-I", "-c", program, *words, uid]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Demo, str, str]]:
    with demo("--port", "0") as server:
        match = server.wait_for(LINE)
        yield server, match[1], match[2]


def test_another_account_gets_401_for_every_path(served: tuple[Demo, str, str]) -> None:
    _, address, _ = served
    with visitor(address) as client:
        client.get("readyz")
    port = address.rstrip("/").rpartition(":")[2]
    assert request_as_nobody("GET", port, "/healthz") == "200"
    assert request_as_nobody("DELETE", port, f"/{WORKLOAD}") == "401"
    assert request_as_nobody("GET", port, f"/{WORKLOADS}") == "401"
    assert request_as_nobody("GET", port, "/api/v1/workloads") == "401"
    # The page leads to its sign-in.
    assert request_as_nobody("GET", port, "/workloads") == "303"


def test_the_printed_url_works_once_and_the_session_serves_page_and_api(served: tuple[Demo, str, str]) -> None:
    server, address, key = served
    with visitor(address) as client, visitor(address) as second, visitor(address) as third:
        assert client.get("/workloads").url.path == "/login"
        assert client.get(f"/?key={'x' * 43}").status_code == 422
        client.head(f"/?key={key}")
        page = client.get(f"/?key={key}")
        assert (page.url.path, page.url.query, page.status_code) == ("/overview", b"", 200)
        assert client.get(WORKLOAD).status_code == 200
        assert client.get("api/ebbtide/v1/whoami").json()["name"] == "you"
        # The same URL in another browser does nothing; the server has printed the next one.
        assert second.get(f"/?key={key}").status_code == 422
        assert second.get(WORKLOADS).status_code == 401
        next_key = server.wait_for(LINE)[2]
        assert next_key != key
        assert third.get(f"/?key={next_key}").url.path == "/overview"
        # A page of another site cannot use the session.
        crossing = {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"}
        assert client.delete(WORKLOAD, headers=crossing).status_code == 403
        assert client.get(WORKLOAD).status_code == 200
        assert not any(key in line for line in server.lines if not LINE.search(line))


def test_a_unix_socket_is_open_to_its_account_alone(tmp_path: Path) -> None:
    path = tmp_path / "ebbtide.sock"
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    with demo("--unix-socket", str(path)) as server:
        server.wait_for(re.compile(rf"Serving on {re.escape(str(path))} "))
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=60
        ) as client:
            # On a busy machine, reading the cluster takes longer than a request waits for it.
            while client.get("/readyz").status_code != 200:
                time.sleep(0.1)
            assert client.get("/workloads").status_code == 200
            assert client.get(f"/{WORKLOAD}").status_code == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert request_as_nobody("GET", str(path), f"/{WORKLOADS}") == "denied"
    assert not path.exists()


# `ebbtide open`, which hands the key to a browser.

OPENING: Final = re.compile(
    r"Opening the browser.*open (http://127\.0\.0\.1:\d+/)\?key=([A-Za-z0-9_-]{43}) \(valid once\)"
)
#: A browser that records its arguments and its environment, and keeps running.
BROWSER: Final = """#!/bin/sh
{ tr '\\0' '\\n' < /proc/$$/cmdline; echo; env; } > "$RECORD.part"
mv "$RECORD.part" "$RECORD"
exec sleep 5
"""
#: Prints the arguments of all processes that another account can read, then an attempt to read a file.
SPY: Final = """
import os, pathlib, sys
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        print(file.read_text().replace("\\0", " "))
    except OSError:
        pass
try:
    print(open(sys.argv[1]).read())
except PermissionError:
    print("denied")
"""


@contextmanager
def opened(tmp_path: Path) -> Iterator[tuple[Demo, str, str, Path]]:
    """Start ``ebbtide open``; yield the server, its address, the key, and the file that the browser got."""
    browser, record, runtime = tmp_path / "browser", tmp_path / "record", tmp_path / "runtime"
    browser.write_text(BROWSER)
    browser.chmod(0o755)
    runtime.mkdir()
    for folder in (runtime, tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    environment = {"BROWSER": str(browser), "RECORD": str(record), "XDG_RUNTIME_DIR": str(runtime)}
    with demo("--port", "0", name="open", **environment) as server:
        match = server.wait_for(OPENING)
        deadline = time.monotonic() + 120
        while not record.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert match[2] not in record.read_text()
        words = record.read_text().partition("\n\n")[0].split("\n")
        assert words[-1].startswith("file:///"), words
        yield server, match[1], match[2], Path(words[-1].removeprefix("file://"))


def test_the_browser_gets_the_key_in_a_private_file(tmp_path: Path) -> None:
    with opened(tmp_path) as (server, address, key, file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        seen = run_as_nobody(SPY, str(file)) if os.geteuid() == 0 else "denied"
        assert key not in seen
        assert seen.endswith("denied")
        url = html.unescape(file.read_text().partition("url=")[2].partition('"')[0])
        assert url == f"{address}?key={key}"
        with visitor(address) as client:
            assert client.get(url).url.path == "/overview"
        # The key was used.
        server.wait_for(LINE)
        assert [*(tmp_path / "runtime").iterdir()] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_private_file_is_removed_when_the_command_ends(tmp_path: Path, number: signal.Signals) -> None:
    # Tests that run under nohup ignore the signal, and so would the command.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with opened(tmp_path) as (server, _, _, file):
            signal.signal(number, before)
            assert file.exists()
            server.process.send_signal(number)
            server.process.wait(60)
            assert [*(tmp_path / "runtime").iterdir()] == []
    finally:
        signal.signal(number, before)
