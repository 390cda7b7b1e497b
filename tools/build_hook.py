"""Hatchling build hook that fails if the page's libraries are missing in an sdist, or in a wheel that is built from one.

A wheel that pip builds from a Git checkout may lack them: `pip install git+https://…`, pre-commit and the GitHub Action need
the command line only. `ebbtide serve` then says that its pages work without scripts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WEB: Final = Path("platform", "ebbtide", "server", "web")
#: The template call that refers to a file under ``static``.
ASSET: Final = re.compile(r"""asset\(['"]([^'"]+)['"]\)""")


class Assets(BuildHookInterface):  # type: ignore[type-arg] # its parameter is a builder's configuration, which this ignores
    """Check that each file that a page loads exists."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Check before the build; an editable install reads the work tree, where ``make assets`` can follow later."""
        if self.target_name == "wheel" and (Path(self.root) / ".git").exists():
            return
        web = Path(self.root) / WEB
        names = {name for page in web.rglob("*.html") for name in ASSET.findall(page.read_text(encoding="utf-8"))}
        missing = sorted(name for name in names if not (web / "static" / name).is_file())
        if missing and version != "editable":
            raise FileNotFoundError(f"the page's libraries are missing: {', '.join(missing)}; run `make assets`")
