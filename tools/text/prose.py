"""Lint all prose of the repository with Vale: Markdown as it is, and listings of the text extracted from other files.

``--check`` compares the alerts with ``baseline.toml`` and fails where a file has more or fewer than its row says.
``--lower`` updates the rows after a fix or a move, and rejects if the alerts of a scope grow in number.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, get_args

from text.markup import comment_texts, script_texts, template_texts, yaml_texts
from text.strings import PARAGRAPH, Scope, Text, python_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
VALE: Final = ROOT / "tools/vale/bin/vale"
BASELINE: Final = ROOT / "tools/text/baseline.toml"
SCOPES: Final = get_args(Scope)
#: Generated from texts that are linted at their source, and the rules, which quote what they forbid.
SKIPPED: Final = ("platform/ebbtide/readers/_compiled.py", ".vale/")
SKIPPED_ENDS: Final = ("expected.yaml", "problems.yaml")
#: Folders whose strings people read; elsewhere only docstrings and comments count.
SHOWN: Final = ("platform/",)
VALUES: Final = (".github/", "kustomize/", "policies/")
#: A line whose text no rule reads, with the reason: ``"no such host"  # prose: Go's words``.
_EXCUSED: Final = re.compile(r"(?:#|//) prose: \S")
Counts = dict[str, dict[str, int]]


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


def count(alerts: Iterable[Alert]) -> Counts:
    """Return the number of alerts by scope and file."""
    counts: Counts = {}
    for (scope, path), number in sorted(Counter((alert.scope, alert.path) for alert in alerts).items()):
        counts.setdefault(scope, {})[path] = number
    return counts


def compare(counts: Counts, baseline: Counts) -> Iterator[str]:
    """Yield a line for each file whose number of alerts differs from its row."""
    for scope in SCOPES:
        now, before = counts.get(scope, {}), baseline.get(scope, {})
        for path in sorted({*now, *before}):
            has, may = now.get(path, 0), before.get(path, 0)
            if has != may:
                yield f"{path}: {has} alerts in {scope}, {may} in the baseline"


def write(counts: Counts) -> None:
    """Write the baseline."""
    lines = ["# Alerts of `make prose` that are left to fix, by scope and file. `make prose-lower` writes this file."]
    for scope in SCOPES:
        if scope in counts:
            lines += ["", f"[{scope}]", *(f'"{path}" = {number}' for path, number in counts[scope].items())]
    BASELINE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Lint the repository, and print the output that the options select."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="files or folders, relative to the repository; all by default")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--counts", action="store_true", help="print the counts only")
    mode.add_argument("--list", action="store_true", help="print the extracted texts, without linting them")
    mode.add_argument("--check", action="store_true", help="fail where the baseline differs from the alerts")
    mode.add_argument("--lower", action="store_true", help="update the baseline; no scope may get more alerts")
    options = parser.parse_args(arguments)
    if options.paths and (options.check or options.lower):
        parser.error("--check and --lower read all files: remove the paths")
    roots = {Path(path) for path in options.paths} or {Path()}
    texts, markdown = collect(ROOT, [name for name in list_files(ROOT) if roots & {Path(name), *Path(name).parents}])
    if options.list:
        print(*texts, sep="\n")
        return 0
    alerts = lint(texts, markdown)
    if options.check or options.lower:
        baseline = tomllib.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
        return (check if options.check else lower)(alerts, baseline)
    if not options.counts:
        print(*alerts, "", sep="\n")
    print(table(texts, markdown, alerts))
    return 0


def check(alerts: list[Alert], baseline: Counts) -> int:
    """Print the differences from the baseline, with the alerts of files that have more than their baseline."""
    counts = count(alerts)
    differences = list(compare(counts, baseline))
    for alert in alerts:
        if counts[alert.scope][alert.path] > baseline.get(alert.scope, {}).get(alert.path, 0):
            print(alert)
    if differences:
        print(*differences, "Fix new alerts; after a fix or a move, run: make prose-lower", sep="\n")
    return bool(differences)


def lower(alerts: list[Alert], baseline: Counts) -> int:
    """Write the baseline, unless a scope has more alerts than in the previous one."""
    counts = count(alerts)
    for scope in SCOPES:
        now, before = sum(counts.get(scope, {}).values()), sum(baseline.get(scope, {}).values())
        if now > before and BASELINE.exists():
            print(*compare(counts, baseline), f"{now} alerts in {scope}, {before} before: fix the new ones", sep="\n")
            return 1
    write(counts)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
