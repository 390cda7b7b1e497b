"""Fail if the tests leave gaps in the pure core, and report them.

Reads the data of the last run with branch coverage, which covers only the core (``pyproject.toml``).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from coverage import Coverage

#: Number of uncovered lines and branches that are accepted: property tests reach some lines only with some of their examples.
ACCEPTED: Final = 30


def main() -> int:
    """Print the uncovered lines and branches of the core; return 1 if there are more than ``ACCEPTED``."""
    data = Coverage()
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "coverage.json"
        data.json_report(outfile=str(target))
        files = json.loads(target.read_text())["files"]
    gaps = uncovered = 0
    for name, entry in sorted(files.items()):
        missing = [*map(str, entry["missing_lines"]), *(f"{a}->{b}" for a, b in entry["missing_branches"])]
        if missing:
            gaps += 1
            uncovered += len(missing)
            print(f"{name}: {', '.join(missing)}")
    print(f"the core: {uncovered} gaps in {gaps} files" if gaps else "the core: all of it")
    return 1 if uncovered > ACCEPTED else 0


if __name__ == "__main__":
    sys.exit(main())
