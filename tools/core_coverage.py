"""Fail if the tests leave gaps in the pure core, or too many lines of the cluster packages and the API uncovered.

Reads the data of the last run with branch coverage, which covers only these packages (``pyproject.toml``).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from coverage import Coverage

PACKAGES: Final = "platform/ebbtide/"
#: Smallest share of covered lines of the packages outside the core, in percent; the first one that a file is in counts.
#: One below 95 where the timing of threads decides whether some lines run.
SHARES: Final = {"cluster/controller": 94.0, "cluster/slo": 95.0, "cluster": 95.0, "server/api": 94.0}
#: Number of uncovered lines and branches of the core that are accepted: property tests reach some lines only with some of their examples.
ACCEPTED: Final = 30


def main() -> int:
    """Print what is uncovered; return 1 if the core has more than ``ACCEPTED`` gaps, or a package less than its share."""
    data = Coverage()
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "coverage.json"
        data.json_report(outfile=str(target))
        files: dict[str, Any] = json.loads(target.read_text())["files"]
    lines = {package: [0, 0] for package in SHARES}
    uncovered = 0
    for name, entry in sorted(files.items()):
        missing = [*map(str, entry["missing_lines"])]
        inside = name.partition(PACKAGES)[2]
        package = next((package for package in SHARES if inside.startswith(f"{package}/")), None)
        if package is not None:
            lines[package][0] += len(entry["executed_lines"])
            lines[package][1] += len(missing)
        else:
            missing += [f"{a}->{b}" for a, b in entry["missing_branches"]]
            uncovered += len(missing)
        if missing:
            print(f"{name}: {', '.join(missing)}")
    print(f"the core: {uncovered} gaps")
    # A package that no test imports has no lines in the data.
    shares = {package: 100 * covered / max(1, covered + missing) for package, (covered, missing) in lines.items()}
    for package, share in shares.items():
        print(f"{package}: {share:.1f}% of the lines")
    return 1 if uncovered > ACCEPTED or any(shares[package] < SHARES[package] for package in SHARES) else 0


if __name__ == "__main__":
    sys.exit(main())
