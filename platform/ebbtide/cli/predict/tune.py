"""``ebbtide tune``: find the settings that meet an SLO with the fewest replica-hours, by simulation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ebbtide.cli.base.common import write_json
from ebbtide.cli.base.files import replace_file
from ebbtide.cli.base.options import (
    MAX_INT32,
    Options,
    make_option,
    make_output_option,
    make_parser,
    make_switch,
)
from ebbtide.cli.base.streams import unguard_stream
from ebbtide.cli.base.terminal import exit_with_usage_error, write_report
from ebbtide.cli.predict.simulate import CASE, SPARE, exit_if_refused, exit_with_problems, read_case
from ebbtide.core.base.problems import Problem
from ebbtide.core.readers.reading import KIND
from ebbtide.core.units import parse_positive, parse_whole
from ebbtide.simulator.search import request
from ebbtide.simulator.search.request import PreparedCase
from ebbtide.simulator.traffic.words import KEEPABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ebbtide.core.base.problems import Path as FieldPath
    from ebbtide.core.readers.loaded import LoadedDocument
    from ebbtide.simulator.search.tune import SearchResult

    Changes = Mapping[FieldPath, Any]

INTERRUPTED: Final = 130
OPTIONS: Final = (
    *CASE,
    make_option("--keep", metavar="FIELDS", default="", help="Fields to leave unchanged, as in minReplicas,metric"),
    make_option(
        "--evaluations",
        metavar="N",
        type=make_parser(parse_whole, 1, MAX_INT32),
        default=200,
        help="Approximate number of settings to simulate (default: 200)",
    ),
    make_option(
        "--part",
        metavar="SHARE",
        type=make_parser(parse_positive, 1),
        default=0.5,
        help="Share of the traffic, from its start, to search on; the rest evaluates the result (default: 0.5)",
    ),
    SPARE,
    make_switch("--write", help="Write the recommended settings to the spec file"),
    make_output_option("text", "json"),
)


def run(options: Options) -> int:
    try:
        kept_fields = {name for name in options.keep.split(",") if name}
        if kept_fields - set(KEEPABLE):
            invalid = ", ".join(sorted(kept_fields - set(KEEPABLE)))
            exit_with_usage_error(f"invalid --keep {invalid!r}: must be one of {', '.join(KEEPABLE)}", "tune")
        prepared = read_case(
            options,
            keep=kept_fields,
            evaluations=options.evaluations,
            part=options.part,
            spare=options.spare,
        )
        with exit_if_refused("tune"):
            return _run_search(options, prepared)
    except KeyboardInterrupt:
        # A search that is interrupted returns its best result so far; this is an interrupt before the search.
        sys.stderr.write("Interrupted before the first simulation.\n")
        return INTERRUPTED


def _run_search(options: Options, prepared: PreparedCase) -> int:
    from ebbtide.simulator.engine import report
    from ebbtide.simulator.search import advice
    from ebbtide.simulator.search.tune import address_changes, diff_values

    space = request.open_search(prepared)
    if options.write:
        require_editable(prepared.loaded)
    progress = Progress(options.evaluations)
    try:
        tuned = request.search_settings(prepared, space, progress.show)
    finally:
        progress.end()
    if options.output == "json":
        write_json(request.tuning_to_json(prepared, tuned))
    else:
        head = report.describe_simulation(request.make_report(prepared, {}, {}))
        write_report(advice.make_content(tuned, head, prepared.notes))
    if tuned.result.interrupted:
        if options.write:
            sys.stderr.write(f"Interrupted: {options.spec} is unchanged.\n")
        return INTERRUPTED
    if tuned.chosen is None:
        if options.write:
            sys.stderr.write(f"{options.spec} is unchanged: there is no recommendation.\n")
        return 1
    if options.write:
        changes = diff_values(tuned.chosen.values, tuned.current.values)
        if changes:
            write_specs([(prepared.loaded, address_changes(changes))], "the recommended settings")
        else:
            sys.stderr.write(f"{options.spec} is unchanged.\n")
    return 0


class Progress:
    """The number of evaluations on stderr, with the best cost, if stderr is a terminal."""

    def __init__(self, evaluations: int) -> None:
        self.evaluations = evaluations
        self.done = 0

    def show(self, search: SearchResult) -> None:
        """Rewrite the line after another evaluation."""
        self.done += 1
        # The search may take a few more evaluations than its limit, to verify the best setting on all traffic.
        count = f"{self.done}/{max(self.done, self.evaluations)} settings"
        self._write(f"{count}, best {search.best.cost:.2f} replica-hours" if search.best is not None else count)

    def end(self) -> None:
        """Remove the line."""
        self._write("")

    def _write(self, text: str) -> None:
        if sys.stderr.isatty():
            unguard_stream(sys.stderr).write(f"\r\x1b[K{text}")
            sys.stderr.flush()


class SpecNotEditedError(Exception):
    """A spec file that --write cannot edit."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def require_editable(loaded: LoadedDocument) -> None:
    """Exit unless a document is a native spec in a file, which --write can edit."""
    if problem := find_edit_problem(loaded):
        exit_with_problems(problem)


def find_edit_problem(loaded: LoadedDocument) -> Problem | None:
    """Return why a document is not a native spec in a file, None if it is one."""
    if loaded.name != "stdin" and loaded.reading.native.get("kind") == KIND and not loaded.reading.origins:
        return None
    text = "--write requires a file with kind: Inference"
    return Problem("TUN002", (), text, "convert the spec first: ebbtide convert --to native", document=loaded.name)


def write_specs(edits: Iterable[tuple[LoadedDocument, Changes]], title: str) -> None:
    """Write changes into spec files: all of them or, if one file cannot be edited, none, with a problem and an exit."""
    try:
        edited = [(loaded, changes, edit_spec(loaded, changes)) for loaded, changes in edits]
        for loaded, changes, text in edited:
            write_spec(loaded, changes, text, title)
    except SpecNotEditedError as error:
        exit_with_problems(error.problem)


def edit_spec(loaded: LoadedDocument, changes: Changes) -> str:
    """Return the text of a spec file with changes, with its comments and its layout. Raises SpecNotEditedError."""
    from ebbtide.core.manifests.edit import NotEdited, edit_text

    try:
        return edit_text(Path(loaded.name).read_bytes().decode(), changes)
    except (NotEdited, OSError) as error:
        raise _refuse(loaded, changes, error) from None


def write_spec(loaded: LoadedDocument, changes: Changes, text: str, title: str) -> None:
    """Replace a spec file. Raises SpecNotEditedError."""
    try:
        replace_file(loaded.name, text.encode())
    except OSError as error:
        raise _refuse(loaded, changes, error) from None
    sys.stderr.write(f"Wrote {title} to {loaded.name}.\n")


def _refuse(loaded: LoadedDocument, changes: Changes, error: Exception) -> SpecNotEditedError:
    fix = "edit the file manually: " + ", ".join(f"{path[-1]}: {value}" for path, value in changes.items())
    reason = (error.strerror or "unknown error").lower() if isinstance(error, OSError) else str(error)
    message = f"cannot write the settings: {reason}"
    return SpecNotEditedError(Problem("TUN002", ("spec", "autoscaling"), message, fix, document=loaded.name))
