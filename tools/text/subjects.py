"""Check the subjects of commits: imperative, at most 72 characters, ``Capital ...`` or ``scope: ...``, no period at the end.

python3 tools/text/subjects.py origin/main..HEAD
python3 tools/text/subjects.py .git/COMMIT_EDITMSG
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CHARACTERS: Final = 72
_SUBJECT: Final = re.compile(r"(?:[a-z][\w./, -]*: (?=\S)|(?=[A-Z]))(?P<verb>[\w'-]+)")
#: "Added", "adds", "adding" or an article. A verb that ends so in its base form is in ``BASE_FORMS``.
_NO_IMPERATIVE: Final = re.compile(r"a|an|the|\w+(?:ed|ing|[^su]s)")
BASE_FORMS: Final = frozenset(
    {"alias", "bring", "embed", "exceed", "feed", "need", "proceed", "ring", "seed", "speed", "spring", "string"}
)


def faults(subject: str) -> Iterator[str]:
    """Yield the faults of a subject."""
    if len(subject) > MAX_CHARACTERS:
        yield f"{len(subject)} characters: at most {MAX_CHARACTERS}"
    if subject.endswith("."):
        yield "ends with a period: remove it"
    parts = _SUBJECT.match(subject)
    if parts is None:
        yield "begin with a capital letter, or with a scope as in 'gpu: '"
    elif _NO_IMPERATIVE.fullmatch(parts["verb"].lower()) and parts["verb"].lower() not in BASE_FORMS:
        yield f"'{parts['verb']}' is not an imperative: write 'Add', not 'Added' or 'Adds'"


def main(source: str) -> int:
    """Print the faults of the subjects in a range of revisions, without merges, or of the message in a file."""
    if Path(source).is_file():
        lines = [f"message {Path(source).read_text().partition(chr(10))[0]}"]
    else:
        command = ["git", "log", "--no-merges", "--format=%h %s", source]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    reports = [f"{line}\n  {fault}" for line in lines for fault in faults(line.partition(" ")[2])]
    print(*reports, f"{len(lines)} subjects checked, {len(reports)} faults", sep="\n")
    return bool(reports)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
