"""Fail if the tests leave gaps in the pure core; report them, and the coverage of everything.

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
#: Number of uncovered lines and branches that are accepted: property tests reach some lines only with some of their examples.
ACCEPTED: Final = 30


def main() -> int:
    """Print the uncovered lines and branches of the core; return 1 if there are more than ``ACCEPTED``."""
    data = Coverage()
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "coverage.json"
        total = data.json_report(outfile=str(target))
        files = json.loads(target.read_text())["files"]
    gaps = uncovered = 0
    for name, entry in sorted(files.items()):
        missing = [*map(str, entry["missing_lines"]), *(f"{a}->{b}" for a, b in entry["missing_branches"])]
        if missing and name.partition("ebbtide/")[2].startswith(CORE):
            gaps += 1
            uncovered += len(missing)
            print(f"{name}: {', '.join(missing)}")
    core = f"{uncovered} gaps in {gaps} files" if gaps else "all of it"
    print(f"{total:.1f}% of everything; the core: {core}")
    return 1 if uncovered > ACCEPTED else 0


if __name__ == "__main__":
    sys.exit(main())
