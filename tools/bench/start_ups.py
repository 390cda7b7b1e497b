"""Study of the start-up time: replica-hours of the cheapest setting that keeps the SLO, with each start-up time of a list.

    git clone https://github.com/alibaba/ServeGen && git -C ServeGen checkout f891d11
    nice python tools/bench/start_ups.py ServeGen/data

The services, the server and the SLO are those of ``proposals.py``. Every start-up time has its own search, so the comparison is one of
the best setting for each: a faster start permits a lower minimum and a higher threshold.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Final

from proposals import MAXIMUM, list_services, prepare, read_counts

from ebbtide.core.documents import profiles
from ebbtide.core.profile.models import Profile
from ebbtide.simulator.search.judge import MINIMUM
from ebbtide.simulator.search.request import open_search, search_settings

DAYS: Final = 3


def find_lowest_hours(log: bytes, profile: Profile, start_up: str, evaluations: int) -> float | None:
    """Return the replica-hours of the cheapest setting found that keeps the SLO, if there is one."""
    block = {MINIMUM: 1, "maxReplicas": MAXIMUM, "metric": "concurrency", "metricThreshold": 3}
    case = prepare(log, block, profile, start_up=start_up, spare=0.0, evaluations=evaluations, part=1.0)
    best = search_settings(case, open_search(case)).result.best
    return None if best is None else best.cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder data of ServeGen")
    parser.add_argument("--count", type=int, default=24, help="largest number of services")
    parser.add_argument("--start-ups", nargs=2, default=("180s", "45s"), metavar=("SLOW", "FAST"))
    parser.add_argument("--evaluations", type=int, default=60)
    options = parser.parse_args()
    profile, ratios, sums = profiles.load_built_in("full"), list[float](), [0.0, 0.0]
    print(
        f"| Service | {' | '.join(f'Replica-hours, {text}' for text in options.start_ups)} | Difference |", flush=True
    )
    for file in list_services(options.folder, DAYS, options.count, 0, 1):
        log = read_counts(file, DAYS)[0]
        slow, fast = (find_lowest_hours(log, profile, text, options.evaluations) for text in options.start_ups)
        name = f"{file.parent.name}/{file.name.removesuffix('-trace.csv')}"
        if slow is None or fast is None:
            print(f"| {name} | no setting keeps the SLO | | |", flush=True)
            continue
        ratios.append(fast / slow)
        sums = [sums[0] + slow, sums[1] + fast]
        print(f"| {name} | {slow:.1f} | {fast:.1f} | {100 * (fast / slow - 1):+.0f}% |", flush=True)
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) - 1
    print(
        f"{len(ratios)} services: {100 * mean:+.0f}% (geometric mean), {100 * (sums[1] / sums[0] - 1):+.0f}% of the sum"
    )


if __name__ == "__main__":
    main()
