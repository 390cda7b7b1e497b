"""``ebbtide tune``: settings that keep a promise with the fewest replicas, found by simulating them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ebbtide.api.simulation import make_report, name_of
from ebbtide.base.problems import Problem
from ebbtide.cli.common import STDIN, write_json
from ebbtide.cli.options import Options, option, output, switch
from ebbtide.cli.simulate import CASE, case_of, settings_of, stop, told, usage
from ebbtide.simulate.words import KEEPABLE

if TYPE_CHECKING:
    from ebbtide.readers.loaded import Loaded
    from ebbtide.simulate.case import Case
    from ebbtide.simulate.tune import Found, Tuned
    from ebbtide.translation.plan import Plan

INTERRUPTED: Final = 130
BAR: Final = 24
OPTIONS: Final = (
    *CASE,
    option("--keep", metavar="FIELDS", default="", help="fields not to change: minReplicas,metric"),
    option("--evaluations", metavar="N", type=int, default=200, help="settings to simulate; default 200"),
    option(
        "--part",
        metavar="SHARE",
        type=float,
        default=0.5,
        help="the part of the traffic to search on, from its start; the rest scores what was found; default 0.5",
    ),
    switch("--write", help="write what is recommended into the spec's file"),
    output("text", "json", "html"),
)


def run(options: Options) -> int:
    try:
        if not 0 < options.part <= 1:
            usage("--part is a share above 0 and up to 1", "tune")
        if options.evaluations < 1:
            usage("--evaluations is 1 or more", "tune")
        kept = {name for name in options.keep.split(",") if name}
        if kept - set(KEEPABLE):
            usage(f"--keep {', '.join(sorted(kept - set(KEEPABLE)))}: there are {', '.join(KEEPABLE)}", "tune")
        return _run(options, kept, *case_of(options))
    except KeyboardInterrupt:
        # Once a search has begun, it ends with what it knows.
        sys.stderr.write("interrupted before anything was simulated\n")
        return INTERRUPTED


def _run(
    options: Options,
    kept: set[str],
    loaded: Loaded,
    plan: Plan,
    case: Case,
    server: str,
    notes: tuple[str, ...],
) -> int:
    from ebbtide.simulate import advice, report  # noqa: PLC0415 - they need numpy
    from ebbtide.simulate.tune import changes, moved, tune  # noqa: PLC0415 - as above

    if not case.bounds:
        text = "neither the spec nor the command says what is promised"
        stop(Problem("TUN001", ("spec", "slo"), text, "add --slo p95=2s, or slo to the spec", document=loaded.name))
    own = settings_of(case)
    knobs, base, bounds = moved(own, plan.scaling, kept)
    if options.write:
        _writable(options.spec, loaded, own, tuple(base))
    part = case.traffic.seconds * options.part
    progress = Progress(options.evaluations)
    with told(loaded):
        try:
            tuned = tune(case, knobs, base, bounds, part=part, evaluations=options.evaluations, progress=progress.show)
        finally:
            progress.end()
        made = _report(loaded, case, server, notes, tuned)
    if options.output == "html":
        sys.stdout.write(advice.page(tuned, made))
    elif options.output == "json":
        write_json({**advice.as_json(tuned, name_of(loaded)), "notes": list(notes)})
    else:
        notes_text = "".join(f"note: {note}\n" for note in notes)
        sys.stdout.write(advice.text(tuned, report.head(made) + notes_text))
    if tuned.found.interrupted:
        if options.write:
            sys.stderr.write(f"interrupted: {options.spec} stays as it is\n")
        return INTERRUPTED
    if tuned.chosen is None:
        return 1
    if options.write:
        _write(options.spec, loaded, changes(tuned.chosen.values, tuned.own.values))
    return 0


def _report(loaded: Loaded, case: Case, server: str, notes: tuple[str, ...], tuned: Tuned) -> Any:
    """Return the recommended setting, the spec as it is and Knative's defaults as a report on all of the traffic."""
    from ebbtide.simulate.setting import knative_defaults  # noqa: PLC0415 - it needs numpy

    settings = {} if tuned.chosen is None else {"recommended": case.setting(tuned.chosen.values)}
    own = case.setting({})
    settings |= {"the spec as it is": own, "Knative's defaults": knative_defaults(own)}
    return make_report(loaded, case, server, notes, settings, {})


class Progress:
    """A bar on stderr with the time that is left, where stderr is a terminal."""

    def __init__(self, evaluations: int) -> None:
        self.evaluations = evaluations
        self.start = time.monotonic()
        self.done = 0
        self.seen = sys.stderr.isatty()

    def show(self, found: Found) -> None:
        """Draw the bar anew, after one more evaluation."""
        self.done += 1
        if not self.seen:
            return
        part = min(self.done / self.evaluations, 1.0)
        left = (time.monotonic() - self.start) / self.done * max(self.evaluations - self.done, 0)
        bar = ("█" * round(BAR * part)).ljust(BAR, "░")
        best = f", best {found.best.cost:.2f} replica-hours" if found.best is not None else ""
        sys.stderr.write(f"\r\x1b[K{bar} {self.done}/{self.evaluations}, {left:.0f} s left{best}")
        sys.stderr.flush()

    def end(self) -> None:
        if self.seen and self.done:
            sys.stderr.write("\r\x1b[K")


def _writable(name: str, loaded: Loaded, own: dict[str, Any], moved: tuple[str, ...]) -> None:
    """Stop before a search whose findings could not be written: every field that moves is set, and taken out, on trial."""
    from ebbtide.readers.reading import KIND  # noqa: PLC0415 - only to write

    if name == STDIN or loaded.reading.native.get("kind") != KIND or loaded.reading.origins:
        text = "only a file with kind: Inference is written"
        stop(Problem("TUN002", (), text, "turn it into one first: ebbtide convert --to native", document=loaded.name))
    fix = "leave --write out, and write what is recommended yourself"
    _edited(name, loaded, {field: 1 if own.get(field) != 1 else 2 for field in moved}, fix)
    for field in moved:
        if field in own:
            _edited(name, loaded, {field: None}, fix)


def _write(name: str, loaded: Loaded, changes: dict[str, Any]) -> None:
    if not changes:
        sys.stderr.write(f"{name} stays as it is\n")
        return
    fix = "write it yourself: " + ", ".join(f"{key}: {value}" for key, value in changes.items())
    text = _edited(name, loaded, changes, fix)
    try:
        Path(name).write_bytes(text.encode())
    except OSError as error:
        _unwritten(loaded, error, fix)
    sys.stderr.write(f"{name} written\n")


def _edited(name: str, loaded: Loaded, changes: dict[str, Any], fix: str) -> str:
    """Return the file's text with changes of its autoscaling. Raises Wrong."""
    from ebbtide.manifests.edit import NotEdited, edited  # noqa: PLC0415 - only to write
    from ebbtide.simulate.tune import of_scaling  # noqa: PLC0415 - it needs numpy

    try:
        return edited(Path(name).read_bytes().decode(), of_scaling(changes))
    except (NotEdited, OSError) as error:
        _unwritten(loaded, error, fix)


def _unwritten(loaded: Loaded, error: Exception, fix: str) -> NoReturn:
    reason = (error.strerror or "unknown reason").lower() if isinstance(error, OSError) else str(error)
    stop(Problem("TUN002", ("spec", "autoscaling"), f"it cannot be written: {reason}", fix, document=loaded.name))
