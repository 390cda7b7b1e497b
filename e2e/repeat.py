"""Repeat the few cases that failed, each alone, and name those that pass then.

    python -m e2e.repeat [options of pytest]

A case that fails twice fails the run. One that passes the second time is printed, so that its cause is searched for: on a
machine of two cores, a neighbor's load can exceed any limit of time. More failures than `MOST` are not repeated.
"""

import json
import subprocess
import sys
from typing import Final

from e2e.paths import ROOT

FAILED: Final = ROOT / ".cluster/pytest/v/cache/lastfailed"
MOST: Final = 6


def main() -> int:
    """Return 0 if every case that failed passes now."""
    failed = [test for test in json.loads(FAILED.read_text() if FAILED.exists() else "{}") if test.startswith("e2e/")]
    if not 0 < len(failed) <= MOST:
        print(f"{len(failed)} cases failed: nothing is repeated")
        return 1
    command = [sys.executable, "-m", "pytest", *sys.argv[1:], *failed]
    again = subprocess.run(command, cwd=ROOT, check=False)
    for test in failed if again.returncode == 0 else ():
        print(f"passed only when repeated: {test}")
    return again.returncode


if __name__ == "__main__":
    sys.exit(main())
