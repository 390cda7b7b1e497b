"""Lint all prose of the repository with Vale: Markdown as it is, and listings of the text extracted from other files.

The exit code is 1 if there are alerts.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, get_args

from text.markup import comment_texts, script_texts, template_texts, yaml_texts
from text.strings import PARAGRAPH, Scope, Text, python_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
VALE: Final = ROOT / "tools/vale/bin/vale"
SCOPES: Final = get_args(Scope)
#: Generated from texts that are linted at their source, and the rules, which quote what they forbid.
SKIPPED: Final = ("platform/ebbtide/core/readers/_compiled.py", ".vale/")
SKIPPED_ENDS: Final = ("expected.yaml", "problems.yaml")
#: Folders whose strings people read; elsewhere only docstrings and comments count.
SHOWN: Final = ("platform/",)
VALUES: Final = (".github/", "kustomize/", "policies/")
#: A line whose text no rule reads, with the reason: ``"no such host"  # prose: Go's words``.
_EXCUSED: Final = re.compile(r"(?:#|//) prose: \S")


@dataclass(frozen=True, slots=True, order=True)
class Alert:
    """One alert, at the place that the text is from."""

    path: str
    line: int
    scope: Scope
    rule: str
    message: str
    #: The index of the extracted text; -1 in Markdown.
    text: int = -1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.scope}] {self.message} ({self.rule})"


def list_files(root: Path) -> list[str]:
    """Return the files that are or can be added to Git, without links."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted({name for name in names if name and (root / name).is_file() and not (root / name).is_symlink()})


def readers(path: str) -> Iterator[Callable[[str, str], Iterator[Text]]]:
    """Yield the functions that extract texts from a file, selected by its name."""
    name = path.rpartition("/")[2]
    suffix = Path(name).suffix
    is_visible = path.startswith(SHOWN)
    if suffix == ".py":
        yield partial(python_texts, strings=is_visible)
    elif suffix == ".html" and is_visible:
        yield template_texts
    elif suffix == ".js" and is_visible:
        yield script_texts
    elif suffix == ".go":
        yield partial(comment_texts, mark="//")
    elif suffix in {".sh", ".toml", ".yaml", ".yml"} or name in {"Containerfile", "Makefile"} or path == ".ci/run":
        yield partial(comment_texts, mark="#")
    if suffix in {".json", ".yaml", ".yml"} and path.startswith(VALUES):
        yield yaml_texts


def collect(root: Path, names: list[str]) -> tuple[list[Text], list[str]]:
    """Return the texts of all files, and the Markdown files."""
    texts: list[Text] = []
    for name in names:
        reads = [] if name.startswith(SKIPPED) or name.endswith(SKIPPED_ENDS) else list(readers(name))
        if reads:
            source = (root / name).read_text(encoding="utf-8")
            excused = {number for number, line in enumerate(source.split("\n"), 1) if _EXCUSED.search(line)}
            texts += [text for read in reads for text in read(name, source) if excused.isdisjoint(text.span)]
    return texts, [name for name in names if name.endswith(".md")]


def lint(texts: list[Text], markdown: list[str]) -> list[Alert]:
    """Return Vale's alerts, in order of their places."""
    with TemporaryDirectory() as folder:
        index: dict[str, list[tuple[int, int]]] = {}
        for scope in SCOPES[1:]:
            listing = Path(folder, f"{scope}.txt")
            places, lines = index.setdefault(str(listing), []), []
            for number, text in enumerate(texts):
                if text.scope == scope:
                    places += [*((number, line) for line, _ in text.lines), (-1, 0), (-1, 0)]
                    lines += [*(line for _, line in text.lines), PARAGRAPH, ""]
            listing.write_text("\n".join(lines), encoding="utf-8")
        command = [str(VALE), "--config=.vale.ini", "--no-global", "--no-exit", "--output=JSON", *index, *markdown]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    alerts = []
    for path, reports in json.loads(done.stdout or "{}").items():
        for report in reports:
            rule, message = report["Check"], report["Message"]
            if path in index:
                number, line = index[path][report["Line"] - 1]
                alerts.append(Alert(texts[number].path, line, texts[number].scope, rule, message, number))
            else:
                alerts.append(Alert(path, report["Line"], "markdown", rule, message))
    return sorted(alerts)


def table(texts: list[Text], markdown: list[str], alerts: list[Alert]) -> str:
    """Return the counts by scope as a table; a Markdown text is a nonempty line."""
    rows = [("scope", "files", "texts", "with alerts", "share", "alerts")]
    lines = sum(
        bool(line.strip()) for name in markdown for line in (ROOT / name).read_text(encoding="utf-8").split("\n")
    )
    for scope in SCOPES:
        scope_texts = [text for text in texts if text.scope == scope]
        scope_alerts = [alert for alert in alerts if alert.scope == scope]
        files, count = (
            (len(markdown), lines)
            if scope == "markdown"
            else (len({text.path for text in scope_texts}), len(scope_texts))
        )
        wrong = len({alert.text if alert.text >= 0 else (alert.path, alert.line) for alert in scope_alerts})
        rows.append((scope, f"{files}", f"{count}", f"{wrong}", f"{wrong / max(count, 1):.1%}", f"{len(scope_alerts)}"))
    return "\n".join(f"{row[0]:<12}" + "".join(f"{cell:>13}" for cell in row[1:]) for row in rows)


def main(arguments: list[str]) -> int:
    """Lint the repository, and print the output that the options select."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="files or folders, relative to the repository; all by default")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--counts", action="store_true", help="print the counts only")
    mode.add_argument("--list", action="store_true", help="print the extracted texts, without linting them")
    options = parser.parse_args(arguments)
    roots = {Path(path) for path in options.paths} or {Path()}
    texts, markdown = collect(ROOT, [name for name in list_files(ROOT) if roots & {Path(name), *Path(name).parents}])
    if options.list:
        print(*texts, sep="\n")
        return 0
    alerts = lint(texts, markdown)
    if not options.counts:
        print(*alerts, "", sep="\n")
    print(table(texts, markdown, alerts))
    return bool(alerts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
