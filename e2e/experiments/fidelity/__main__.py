"""`python -m e2e.experiments.fidelity run|compare`: replay requests on the cluster, and hold the prediction against what came."""

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from e2e.experiments.fidelity import show
from e2e.experiments.fidelity.compare import Comparison, compare, own_starts, verdicts
from e2e.experiments.fidelity.kinds import REPLAYS
from e2e.experiments.fidelity.record import Record, RecordError, read
from e2e.paths import CLUSTERS, DEFAULT, HERE

RECORDS: Final = CLUSTERS / "fidelity"
CLUSTER_FAILED: Final = 3


def main() -> int:
    """Run the command: 0 where the goal was met, 1 where it was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m e2e.experiments.fidelity", description="The simulator held against a cluster."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="replay on the running cluster, and compare")
    run.add_argument("--provider", default="", help="kind, local or existing; else kind where an engine answers")
    run.add_argument("--name", default=DEFAULT, help="the cluster's name")
    run.add_argument("--runs", type=int, default=1, help="how often; a quarter of an hour each")
    run.add_argument("--only", action="append", choices=[replay.kind for replay in REPLAYS], help="not all kinds")
    again = actions.add_parser("compare", help="compare what was recorded before with what is predicted now")
    again.add_argument("records", nargs="+", type=Path, metavar="FILE")
    again.add_argument("--until", type=float, metavar="SECONDS", help="only the first part of each")
    for action in (run, again):
        action.add_argument(
            "--hindsight", action="store_true", help="predict with the starts that were seen, not with those before"
        )
        action.add_argument("-o", "--output", choices=["text", "markdown"], default="text")
    options = parser.parse_args()
    try:
        records = _recorded(options) if options.action == "run" else _read(options)
        return _compared(records, options.output, hindsight=options.hindsight)
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was recorded before is kept", file=sys.stderr)
        return 130


def _read(options: argparse.Namespace) -> Iterator[Record]:
    for file in options.records:
        record = read(file)
        yield record if options.until is None else record.until(options.until)


def _compared(records: Iterator[Record], form: str, *, hindsight: bool) -> int:
    found: list[Comparison] = []
    for record in records:
        found.append(compare(record, own_starts(record) if hindsight else ()))
        if form == "text":
            print(show.text(found[-1]), flush=True)
    if form == "markdown" or len(found) > 1:
        print(show.markdown(found))
    reached = verdicts(found)
    print(show.verdict(reached), end="")
    return 0 if all(one.holds for one in reached) else 1


def _recorded(options: argparse.Namespace) -> Iterator[Record]:
    """Yield what is recorded, and keep it in files."""
    # The packages for a cluster are missing where records are only read.
    from e2e.experiments.fidelity.replay import run  # noqa: PLC0415 - as above
    from e2e.kubectl import KubectlError  # noqa: PLC0415 - as above
    from e2e.providers import choose  # noqa: PLC0415 - as above
    from e2e.providers.protocol import ProviderError  # noqa: PLC0415 - as above
    from e2e.stage import Stage  # noqa: PLC0415 - as above

    replays = [replay for replay in REPLAYS if not options.only or replay.kind in options.only]
    try:
        provider = choose(options.provider, options.name)
        stage = Stage(provider, provider.kubectl(), HERE / "experiments" / "fidelity", "fidelity")
        try:
            for records in run(stage, replays, options.runs, lambda line: print(line, file=sys.stderr, flush=True)):
                for record in records:
                    file = RECORDS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{record.head.kind}.jsonl"
                    record.write(file)
                    print(f"recorded {file}", file=sys.stderr, flush=True)
                    yield record
        finally:
            stage.clean()
    except (ProviderError, KubectlError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(CLUSTER_FAILED)


if __name__ == "__main__":
    sys.exit(main())
