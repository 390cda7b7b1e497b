"""The page that ``ebbtide open`` shows first: a private file that leads the browser to the URL with the one-time key.

Other accounts of the machine can read the arguments of a process, so the browser gets the address of the file instead of
the URL. Upstream: html.spec.whatwg.org (meta element, refresh).
"""

from __future__ import annotations

import html
import signal
import socket
import sys
import time
import webbrowser
from threading import Thread, Timer
from typing import Any, Final

from ebbtide.cli.base import terminal
from ebbtide.cli.base.files import create_private_file, remove_private_file

#: Seconds for the server to listen, and for the browser to read the file.
LISTEN_SECONDS: Final = 30.0
READ_SECONDS: Final = 60.0
PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}">
<title>Ebbtide</title>
<a href="{url}">Open Ebbtide</a>
</html>
"""


class FirstPage:
    """The private file, which exists until it is removed, and at most 60 s after the browser was started."""

    def __init__(self, url: str) -> None:
        """Write a page that leads to a URL.

        Raises:
            OSError: the file cannot be written.
        """
        self.file = create_private_file("open.html", PAGE.format(url=html.escape(url)).encode())
        self._timer = Timer(READ_SECONDS, self.remove)
        self._timer.daemon = True

    def open(self, place: tuple[Any, ...]) -> None:
        """Open the page in the browser when a server listens at a place, without waiting for it."""
        Thread(target=self._open_when_ready, args=(place,), daemon=True).start()

    def _open_when_ready(self, place: tuple[Any, ...]) -> None:
        deadline = time.monotonic() + LISTEN_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(place[:2], 1.0).close()
                break
            except OSError:
                time.sleep(0.1)
        # A browser in the terminal, or a script, runs until the user leaves it.
        self._timer.start()
        if self.file.exists() and not webbrowser.open(self.file.as_uri()):
            terminal.write_stderr("No browser found: open the printed URL")

    def remove(self) -> None:
        """Remove the file."""
        self._timer.cancel()
        remove_private_file(self.file)


def exit_on_signals() -> None:
    """Let the signals of ``kill`` and of a closed terminal raise ``SystemExit``, so that the file is removed."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # ignored under nohup
        # The server handles SIGTERM while it runs.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
