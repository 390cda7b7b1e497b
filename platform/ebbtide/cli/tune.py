"""``ebbtide tune``: find the settings that meet an SLO with the fewest replica-hours, by simulation."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ebbtide.cli.common import STDIN, write_json
from ebbtide.cli.files import replace_file
from ebbtide.cli.options import Options, make_option, make_output_option, make_switch
from ebbtide.cli.simulate import CASE, exit_if_refused, exit_with_problems, exit_with_usage_error, read_case
from ebbtide.cli.streams import unguard_stream
from ebbtide.core.base.problems import Problem
from ebbtide.simulator.request import (
    PreparedCase,
    make_report,
    open_search,
    search_settings,
    tuning_to_json,
    workload_name_of,
)
from ebbtide.simulator.words import KEEPABLE

if TYPE_CHECKING:
    from ebbtide.core.readers.loaded import LoadedDocument
    from ebbtide.simulator.tune import SearchResult

INTERRUPTED: Final = 130
BAR: Final = 24
OPTIONS: Final = (
    *CASE,
    make_option("--keep", metavar="FIELDS", default="", help="Fields to leave unchanged, as in minReplicas,metric"),
    make_option(
        "--evaluations",
        metavar="N",
        type=int,
        default=200,
        help="Approximate number of settings to simulate (default: 200)",
    ),
    make_option(
        "--part",
        metavar="SHARE",
        type=float,
        default=0.5,
        help="Share of the traffic, from its start, to search on; the rest evaluates the result (default: 0.5)",
    ),
    make_switch("--write", help="Write the recommended settings to the spec file"),
    make_switch(
        "--start",
        help="Compare what a node with room, the image and the weights on the node save: the cheapest settings with each; "
        "needs phases in --start-up",
    ),
    make_output_option("text", "json"),
)


def run(options: Options) -> int:
    try:
        if not 0 < options.part <= 1:
            exit_with_usage_error("invalid --part: must be above 0 and at most 1", "tune")
        if options.evaluations < 1:
            exit_with_usage_error("invalid --evaluations: must be at least 1", "tune")
        kept_fields = {name for name in options.keep.split(",") if name}
        if kept_fields - set(KEEPABLE):
            invalid = ", ".join(sorted(kept_fields - set(KEEPABLE)))
            exit_with_usage_error(f"invalid --keep {invalid!r}: must be one of {', '.join(KEEPABLE)}", "tune")
        if options.start and options.write:
            exit_with_usage_error("--start compares start-ups: remove --write", "tune")
        prepared = read_case(
            options, keep=kept_fields, evaluations=options.evaluations, part=1.0 if options.start else options.part
        )
        with exit_if_refused("tune"):
            return _compare_starts(options, prepared) if options.start else _run_search(options, prepared)
    except KeyboardInterrupt:
        # A search that is interrupted returns its best result so far; this is an interrupt before the search.
        sys.stderr.write("Interrupted before the first simulation.\n")
        return INTERRUPTED


def _compare_starts(options: Options, prepared: PreparedCase) -> int:
    from ebbtide.simulator import report, starts

    count = len(starts.list_start_ups(prepared))
    if not count:
        form = "--start-up node=90s,pull=20s,weights=15s,load=20s"
        exit_with_usage_error(
            f"--start needs at least one of node, pull and weights in --start-up, as in {form}", "tune"
        )
    progress = ProgressBar(options.evaluations * count)
    try:
        candidates = starts.compare_starts(prepared, progress.show)
    finally:
        progress.end()
    if options.output == "json":
        write_json(starts.starts_to_json(candidates, workload_name_of(prepared.loaded)))
    else:
        head = report.describe_simulation(make_report(prepared, {}, {}))
        sys.stdout.write(starts.render_starts_text(candidates, head))
    if candidates[-1].tuned.result.interrupted:
        return INTERRUPTED
    return 0 if any(candidate.measured is not None for candidate in candidates) else 1


def _run_search(options: Options, prepared: PreparedCase) -> int:
    from ebbtide.simulator import advice, report
    from ebbtide.simulator.tune import diff_values

    space = open_search(prepared)
    if options.write:
        _check_writable(options.spec, prepared, tuple(space.base))
    progress = ProgressBar(options.evaluations)
    try:
        tuned = search_settings(prepared, space, progress.show)
    finally:
        progress.end()
    if options.output == "json":
        write_json(tuning_to_json(prepared, tuned))
    else:
        notes_text = "".join(f"note: {note}\n" for note in prepared.notes)
        head = report.describe_simulation(make_report(prepared, {}, {}))
        sys.stdout.write(advice.render_advice_text(tuned, head + notes_text))
    if tuned.result.interrupted:
        if options.write:
            sys.stderr.write(f"Interrupted: {options.spec} is unchanged.\n")
        return INTERRUPTED
    if tuned.chosen is None:
        return 1
    if options.write:
        _write_settings(options.spec, prepared.loaded, diff_values(tuned.chosen.values, tuned.current.values))
    return 0


class ProgressBar:
    """Progress bar on stderr with the remaining time, if stderr is a terminal."""

    def __init__(self, evaluations: int) -> None:
        self.evaluations = evaluations
        self.start = time.monotonic()
        self.done = 0
        self.is_visible = sys.stderr.isatty()

    def show(self, search: SearchResult) -> None:
        """Redraw the bar after another evaluation."""
        self.done += 1
        if not self.is_visible:
            return
        # The search may take a few more evaluations than its limit, to verify the best setting on all traffic.
        total = max(self.done, self.evaluations)
        share = self.done / total
        remaining_seconds = (time.monotonic() - self.start) / self.done * (total - self.done)
        bar = ("█" * round(BAR * share)).ljust(BAR, "░")
        best = f", best {search.best.cost:.2f} replica-hours" if search.best is not None else ""
        unguard_stream(sys.stderr).write(f"\r\x1b[K{bar} {self.done}/{total}, {remaining_seconds:.0f} s left{best}")
        sys.stderr.flush()

    def end(self) -> None:
        if self.is_visible and self.done:
            unguard_stream(sys.stderr).write("\r\x1b[K")


def _check_writable(name: str, prepared: PreparedCase, fields: tuple[str, ...]) -> None:
    """Exit if the result of the search could not be written: edit a copy of the file in each possible way."""
    from ebbtide.core.readers.reading import KIND

    loaded, spec_settings = prepared.loaded, prepared.autoscaling
    if name == STDIN or loaded.reading.native.get("kind") != KIND or loaded.reading.origins:
        text = "--write requires a file with kind: Inference"
        exit_with_problems(
            Problem("TUN002", (), text, "convert the spec first: ebbtide convert --to native", document=loaded.name)
        )
    fix = "remove --write, and edit the file manually"
    _edit_settings(name, loaded, {field: 1 if spec_settings.get(field) != 1 else 2 for field in fields}, fix)
    for field in fields:
        if field in spec_settings:
            _edit_settings(name, loaded, {field: None}, fix)


def _write_settings(name: str, loaded: LoadedDocument, changes: dict[str, Any]) -> None:
    if not changes:
        sys.stderr.write(f"{name} is unchanged.\n")
        return
    fix = "edit the file manually: " + ", ".join(f"{key}: {value}" for key, value in changes.items())
    text = _edit_settings(name, loaded, changes, fix)
    try:
        replace_file(name, text.encode())
    except OSError as error:
        exit_unwritten(loaded, error, fix)
    sys.stderr.write(f"Wrote the recommended settings to {name}.\n")


def _edit_settings(name: str, loaded: LoadedDocument, changes: dict[str, Any], fix: str) -> str:
    """Return the file's text with changed autoscaling settings; print a problem and exit if the edit fails."""
    from ebbtide.core.manifests.edit import NotEdited, edit_text
    from ebbtide.simulator.tune import address_changes  # it needs numpy

    try:
        return edit_text(Path(name).read_bytes().decode(), address_changes(changes))
    except (NotEdited, OSError) as error:
        exit_unwritten(loaded, error, fix)


def exit_unwritten(loaded: LoadedDocument, error: Exception, fix: str) -> NoReturn:
    """Print why a spec file could not be edited, and exit."""
    reason = (error.strerror or "unknown error").lower() if isinstance(error, OSError) else str(error)
    exit_with_problems(
        Problem("TUN002", ("spec", "autoscaling"), f"cannot write the settings: {reason}", fix, document=loaded.name)
    )
