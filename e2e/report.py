"""Print what the cases measured in the last run, a row each, as the suite left it in `.cluster/figures`."""

import json
import sys

from rich.console import Console
from rich.table import Table

from e2e.conftest import FIGURES


def main() -> int:
    records = [json.loads(file.read_text()) for file in sorted(FIGURES.glob("*.json"))]
    table = Table("case", "test", "passed", "seconds", "seen", title="e2e cases")
    for record in sorted(records, key=lambda record: (record["case"], record["test"])):
        seen = {key: value for key, value in record.items() if key not in {"case", "test", "passed", "seconds"}}
        table.add_row(
            record["case"],
            record["test"],
            "yes" if record["passed"] else "NO",
            f"{record['seconds']:.0f}",
            ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in seen.items()),
        )
    # A file has no width.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0


def _short(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
