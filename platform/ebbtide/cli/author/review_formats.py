"""Problems in the formats that code review shows at the line: GitHub's workflow commands, and SARIF.

Upstream: docs.github.com, "Workflow commands for GitHub Actions" (``error``, ``warning``, and how they escape); SARIF 2.1.0,
§3.27 (``result``), as github.com/github/codeql-action and GitLab read it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from ebbtide import __version__
from ebbtide.core.base.problems import Problem

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
#: The number of a document in its file, which a problem's document name may have.
NUMBER: Final = re.compile(r"#\d+$")
#: Characters that a workflow command reads as its own, in the order of their replacement.
ESCAPES: Final = (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"))
#: The same in a property, which ends at a comma or a colon.
PROPERTY_ESCAPES: Final = (*ESCAPES, (":", "%3A"), (",", "%2C"))


def write_github(problems: Sequence[Problem]) -> str:
    """Return a workflow command for each problem, which GitHub shows at its line of the pull request."""
    return "".join(
        f"::{row.severity} {_write_properties(row)}::{_escape(_describe(row), ESCAPES)}\n" for row in problems
    )


def _write_properties(row: Problem) -> str:
    title = f"{row.code} {row.path}".rstrip()
    properties = {"file": NUMBER.sub("", row.document), "line": row.line or None, "title": title}
    return ",".join(f"{name}={_escape(str(value), PROPERTY_ESCAPES)}" for name, value in properties.items() if value)


def _escape(text: str, escapes: Sequence[tuple[str, str]]) -> str:
    for character, written in escapes:
        text = text.replace(character, written)
    return text


def _describe(row: Problem) -> str:
    return f"{row.message}\nFix: {row.fix}" if row.fix else row.message


def make_sarif(problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the problems as one run of a SARIF log, with a rule for each code."""
    codes = sorted({row.code for row in problems})
    driver = {"name": "ebbtide", "semanticVersion": __version__, "rules": [{"id": code} for code in codes]}
    results = [
        {
            "ruleId": row.code,
            "ruleIndex": codes.index(row.code),
            "level": row.severity,
            "message": {"text": _describe(row)},
            "locations": [_locate(row)],
        }
        for row in problems
    ]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _locate(row: Problem) -> dict[str, Any]:
    """Return the location of a problem: file and line, and the field as its logical name."""
    place: dict[str, Any] = {"artifactLocation": {"uri": NUMBER.sub("", row.document) or "input"}}
    if row.line:
        place["region"] = {"startLine": row.line}
    location: dict[str, Any] = {"physicalLocation": place}
    if row.path:
        location["logicalLocations"] = [{"fullyQualifiedName": row.path}]
    return location
