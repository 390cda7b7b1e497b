"""Commands of Ebbtide, each in a process forked after its imports: they are most of a short command's processor time.

`python -m e2e.forked NAME` serves on an abstract socket until its stdin ends.
"""

import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from typing import Final, NoReturn

import ebbtide.cli

PRELOADED: Final = (
    *(module.name for module in pkgutil.walk_packages(ebbtide.cli.__path__, "ebbtide.cli.")),
    *("ebbtide.cluster.client.kubernetes", "ebbtide.cluster.doctor.checks", "ebbtide.cluster.read.why"),
    *("ebbtide.cluster.write.apply", "ebbtide.cluster.write.projects", "ebbtide.cluster.slo.prometheus"),
)
"""Modules of the commands, and others that they import when they need them."""
READY: Final = b"ready"
LARGEST: Final = 1 << 20
"""Largest size of a command's arguments, in bytes."""


def run(arguments: Sequence[str], stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run `ebbtide` with these arguments, and return its status and what it printed."""
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
    ):
        given.write(stdin)
        given.seek(0)
        connection.connect(f"\0{_server()}")
        files = [given.fileno(), out.fileno(), err.fileno()]
        socket.send_fds(connection, [json.dumps([*arguments]).encode()], files)
        status = int(connection.recv(8))
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*arguments], status, out.read(), err.read())


@cache
def _server() -> str:
    """Start the server of this process, which ends with it, and return its name."""
    name = f"ebbtide-e2e-{os.getpid()}"
    lifeline, _end_of_this_process = os.pipe()
    ready, announcement = os.pipe()
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "e2e.forked", name],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, lifeline, 0), (os.POSIX_SPAWN_DUP2, announcement, 1)],
    )
    for descriptor in (lifeline, announcement):
        os.close(descriptor)
    begun = os.read(ready, len(READY))
    os.close(ready)
    assert begun == READY, "the process for commands did not start"
    return name


def main(name: str) -> None:
    """Fork a process for each command, and send back its status."""
    for module in PRELOADED:
        importlib.import_module(module)
    # Ctrl-C is for the tests, which then end this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, tuple[int, socket.socket]] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        os.write(1, READY)
        while sys.stdin not in (readable := select.select([listener, sys.stdin, *running], [], [])[0]):
            for ended in running.keys() & readable:
                process, connection = running.pop(ended)
                connection.send(str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])).encode())
                connection.close()
                os.close(ended)
            if listener in readable:
                connection, _ = listener.accept()
                process = os.fork()
                if process == 0:
                    listener.close()
                    _run_command(connection)
                running[os.pidfd_open(process)] = process, connection


def _run_command(connection: socket.socket) -> NoReturn:
    """Run the command that a connection asks for in this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    request, files, _, _ = socket.recv_fds(connection, LARGEST, 3)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.argv[1:] = json.loads(request)
    ebbtide.cli.entry()


if __name__ == "__main__":
    main(*sys.argv[1:])
