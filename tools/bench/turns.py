"""Run commands in turns and print each one's wall times and peak memory as JSON.

A separate process, since a child's peak memory includes that of its parent: this one is small.
"""

import json
import os
import sys
import time


def measure(command: list[str], log: str) -> tuple[float, int]:
    """Run a command, discard its output, and return its wall time in seconds and its peak memory in KiB."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    begun = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - begun
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(command)} ended with {code}, see {log}")
    return seconds, usage.ru_maxrss


def take_turns(commands: dict[str, list[str]], rounds: int, limit: float, log: str) -> dict[str, list[list[float]]]:
    """Run every command once per round, so that a busy machine slows all equally; stop early at the limit."""
    results: dict[str, list[list[float]]] = {name: [] for name in commands}
    end = time.monotonic() + limit
    for done in range(rounds):
        if done and time.monotonic() > end:
            break
        for name, command in commands.items():
            results[name].append([*measure(command, log)])
    return results


if __name__ == "__main__":
    print(json.dumps(take_turns(**json.load(sys.stdin))))
