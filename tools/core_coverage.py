"""Fail if the tests do not cover every line and branch of the pure core; report the coverage of other packages.

Reads the data of the last run with branch coverage.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from coverage import Coverage

#: Packages that must be covered completely: the translation with all layers below it, and the autoscalers.
CORE: Final = ("autoscaler/", "base/", "spec/", "profile/", "translation/", "readers/", "adopt/", "documents/")


def main() -> int:
    """Print the uncovered lines and branches; return 1 if the core has any."""
    data = Coverage()
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "coverage.json"
        total = data.json_report(outfile=str(target))
        files = json.loads(target.read_text())["files"]
    bad = 0
    for name, entry in sorted(files.items()):
        inside = name.partition("ebbtide/")[2]
        missing = [*map(str, entry["missing_lines"]), *(f"{a}->{b}" for a, b in entry["missing_branches"])]
        if missing and inside.startswith(CORE):
            bad += 1
            print(f"{name}: {', '.join(missing)}")
    print(f"{total:.1f} % of everything; the core: " + (f"{bad} files with gaps" if bad else "all of it"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
