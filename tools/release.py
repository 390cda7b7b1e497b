"""Check that a tag can be released, and print its release notes: ``python tools/release.py v0.1.0``.

The tag must equal the version in ``ebbtide/__init__.py``, and ``make changelog`` must have assembled the changelog.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
VERSION: Final = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
TITLE: Final = "## "


def notes(root: Path, tag: str) -> str:
    """Return the changelog's section of a tag's version; raise a ``ValueError`` with the reason if there is none."""
    match = VERSION.search((root / "platform" / "ebbtide" / "__init__.py").read_text(encoding="utf-8"))
    version = match[1] if match else "unknown"
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, and the version is {version}: the tag must be v{version}")
    unreleased = sorted(path.name for path in (root / "changes").glob("*.md") if path.name != "README.md")
    if unreleased:
        raise ValueError(
            f"CHANGELOG.md lacks {', '.join(unreleased)}: run `make changelog` and commit it before the tag"
        )
    # The first part is the text before all sections.
    sections = (root / "CHANGELOG.md").read_text(encoding="utf-8").split(f"\n{TITLE}")[1:]
    for section in sections:
        title, _, text = section.partition("\n")
        if title.split(" ")[0] == version:
            return f"{text.strip()}\n"
    raise ValueError(f"CHANGELOG.md has no section for {version}: run `make changelog` and commit it before the tag")


def main(arguments: list[str]) -> int:
    """Print the release notes, or the error."""
    try:
        sys.stdout.write(notes(ROOT, arguments[0]))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
