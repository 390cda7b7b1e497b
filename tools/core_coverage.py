"""Fail if the tests cover too little of the pure core; report its gaps, and the coverage of other packages.

Reads the data of the last run with branch coverage.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from coverage import Coverage

#: Packages of the pure core: the translation with all layers below it, and the autoscalers.
CORE: Final = ("autoscaler/", "base/", "spec/", "profile/", "translation/", "readers/", "adopt/", "documents/")
#: Percentage of the core's lines and branches that must be covered. The aim is 100: each gap is printed.
REQUIRED: Final = 98.5


def main() -> int:
    """Print the uncovered lines and branches of the core; return 1 if less than ``REQUIRED`` percent are covered."""
    data = Coverage()
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "coverage.json"
        total = data.json_report(outfile=str(target))
        files = json.loads(target.read_text())["files"]
    bad = covered = possible = 0
    for name, entry in sorted(files.items()):
        inside = name.partition("ebbtide/")[2]
        missing = [*map(str, entry["missing_lines"]), *(f"{a}->{b}" for a, b in entry["missing_branches"])]
        if inside.startswith(CORE):
            summary = entry["summary"]
            covered += summary["covered_lines"] + summary["covered_branches"]
            possible += summary["num_statements"] + summary["num_branches"]
        if missing and inside.startswith(CORE):
            bad += 1
            print(f"{name}: {', '.join(missing)}")
    share = 100 * covered / possible
    gaps = f"{share:.2f} %, {bad} files with gaps" if bad else "all of it"
    print(f"{total:.1f} % of everything; the core: {gaps}")
    return 1 if share < REQUIRED else 0


if __name__ == "__main__":
    sys.exit(main())
