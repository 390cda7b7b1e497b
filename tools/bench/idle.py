"""Measure the bytes that an idle browser tab receives from the demo server, by path, for this version and another one.

This is a report, not a test: the exit code is always 0. Chromium opens the page, and nothing moves or types in it. The bytes
are those on the network: compressed bodies with their heads, and the event stream. The demo's workloads have traffic all the
time. ``--against`` is a checkout of another version, which runs with the same packages.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, sync_playwright

HERE: Final = Path(__file__).resolve().parents[2]
GOAL_KILOBYTES: Final = 20.0
SETTLE_MILLISECONDS: Final = 20_000
CHROMIUM: Final = os.environ.get("EBBTIDE_CHROMIUM") or "/usr/bin/chromium"


def start_server(stack: ExitStack, checkout: Path) -> str:
    """Start the demo server of a checkout and return its one-time URL."""
    log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve() / "platform")}
    command = [sys.executable, "-m", "ebbtide", "serve", "--demo", "--port", "0"]
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    stack.callback(server.terminate)
    while server.poll() is None:
        if match := re.search(r"^Open (\S+)", log.read_text(encoding="utf-8"), re.MULTILINE):
            with suppress(OSError), socket.create_connection(("127.0.0.1", urlsplit(match[1]).port or 0)):
                return match[1]
        time.sleep(0.1)
    raise SystemExit(log.read_text(encoding="utf-8"))


def measure(browser: Browser, url: str, path: str, seconds: float) -> tuple[Counter[str], Counter[str]]:
    """Return the bytes and the number of responses by path, of a tab that has been open for some seconds."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    size: Counter[str] = Counter()
    count: Counter[str] = Counter()
    session = context.new_cdp_session(page)
    paths: dict[str, str] = {}

    def request(event: dict[str, Any]) -> None:
        paths[event["requestId"]] = urlsplit(event["request"]["url"]).path

    def add(event: dict[str, Any]) -> None:
        size[paths.get(event["requestId"], "")] += event["encodedDataLength"]

    def head(event: dict[str, Any]) -> None:
        of = paths.get(event["requestId"], "")
        count[of] += 1
        size[of] += event["response"]["encodedDataLength"]

    session.on("Network.requestWillBeSent", request)
    session.on("Network.responseReceived", head)
    session.on("Network.dataReceived", add)
    session.send("Network.enable")
    page.goto(urlsplit(url)._replace(path=path, query="").geturl())
    page.locator("body[data-heard]").wait_for()
    page.wait_for_timeout(SETTLE_MILLISECONDS)
    size.clear()
    count.clear()
    page.wait_for_timeout(seconds * 1_000)
    context.close()
    return size, count


def main(arguments: list[str] | None = None) -> int:
    """Run the measurement and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", default="/workloads/team-a/chat", help="page to open")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of each measurement")
    parser.add_argument("--against", type=Path, help="checkout of another version")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-quic"]
        )
        for name, checkout in {"before": options.against, "now": HERE}.items():
            if checkout is None:
                continue
            size, count = measure(browser, start_server(stack, checkout), options.path, options.seconds)
            minute = size.total() / 1_000 / options.seconds * 60
            print(f"{name}: {minute:.1f} kB a minute{'' if minute <= GOAL_KILOBYTES else ', over the goal'}")
            for path, amount in size.most_common():
                print(
                    f"  {path:50}{count[path]:5} responses{amount / 1_000:10.1f} kB in {options.seconds:g} s",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
