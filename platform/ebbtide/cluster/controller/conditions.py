"""The status of a custom resource: phase, replicas, problems, and conditions that kubectl, Argo CD and Flux can wait for.

``Ready`` is always there. ``Reconciling`` and ``Stalled`` are there only while they are true. Upstream:
github.com/kubernetes-sigs/cli-utils pkg/kstatus (README.md, status/generic.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from ebbtide.cluster.controller.events import MESSAGE_LENGTH
from ebbtide.cluster.read.inventory import format_timestamp
from ebbtide.cluster.read.status import Status
from ebbtide.core.base.problems import ERROR, MAX_PROBLEMS, Problem
from ebbtide.core.translation.objects import Object

#: Phase of a resource whose spec has errors.
INVALID: Final = "Invalid"
#: Phases in which the workload needs no further work.
AT_REST: Final = frozenset({"Running", "Stopped", "Completed"})


class Failure(NamedTuple):
    """The reason why the controller did not apply a spec: one word, and a sentence. ``retried`` if it tries again."""

    reason: str
    message: str
    retried: bool = False


def make_status(
    resource: Object,
    before: Object,
    *,
    problems: Sequence[Problem],
    objects: Sequence[Object],
    now: float,
    live: Status | None = None,
    failure: Failure | None = None,
    applied: Object | None = None,
    project: str = "",
) -> Object:
    """Return a resource's status, with None for what it lost. Conditions that did not change keep the time of ``before``."""
    generation = resource["metadata"].get("generation", 1)
    started = ("Updating" if before.get("objects") else "Creating", "the objects are being applied")
    if live is not None and failure is None and applied is None and live.phase in AT_REST:
        # A rollout of one replica at a time has begun, and the live objects are still those of the former document.
        live = replace(live, phase="Updating", why=started[1])
    phase, reason = _find_phase(live, failure, started)
    status: Object = {
        "phase": phase,
        "reason": reason,
        "observedGeneration": generation,
        "conditions": _make_conditions(before, live, failure, started, generation, format_timestamp(now)),
        "problems": [_write_problem(problem) for problem in problems[:MAX_PROBLEMS]],
        "objects": list(objects),
        "applied": applied,
        "project": project or resource["metadata"]["namespace"],
        "gpus": "",
        "pods": "",
        "url": "",
        "replicas": None,
    }
    if live is not None:
        replicas = live.replicas
        status |= {
            "project": live.project or live.namespace,
            "gpus": live.gpus,
            "pods": f"{replicas.ready}/{replicas.wanted}",
            "url": live.url,
            "replicas": {
                "ready": replicas.ready,
                "desired": replicas.wanted,
                "minimum": replicas.minimum,
                "maximum": replicas.maximum,
            },
        }
    return status


def _find_phase(live: Status | None, failure: Failure | None, started: tuple[str, str]) -> tuple[str, str]:
    if failure is not None:
        phase = INVALID if failure.reason == "InvalidSpec" else live.phase if live is not None else "Failed"
        return phase, failure.message[:MESSAGE_LENGTH]
    return started if live is None else (live.phase, live.why)


def _make_conditions(
    before: Object, live: Status | None, failure: Failure | None, started: tuple[str, str], generation: int, time: str
) -> list[Object]:
    rows: list[tuple[str, str, str, str]]
    if failure is not None:
        last = ("Reconciling" if failure.retried else "Stalled", "True", failure.reason, failure.message)
        rows = [("Ready", "False", failure.reason, failure.message), last]
    elif live is None:
        rows = [("Ready", "False", *started), ("Reconciling", "True", *started)]
    else:
        ready = live.phase == "Running"
        said = live.why or ("the workload is ready" if ready else live.phase)
        rows = [("Ready", "True" if ready else "False", live.phase, said)]
        if live.phase == "Failed" and live.settled:
            rows.append(("Stalled", "True", live.phase, said))
        elif live.phase not in AT_REST:
            rows.append(("Reconciling", "True", live.phase, said))
    known = {row["type"]: row for row in before.get("conditions") or ()}
    return [
        {
            "type": name,
            "status": holds,
            "observedGeneration": generation,
            "lastTransitionTime": known[name]["lastTransitionTime"]
            if name in known and known[name]["status"] == holds
            else time,
            "reason": reason,
            "message": message[:MESSAGE_LENGTH],
        }
        for name, holds, reason, message in rows
    ]


def explain_problems(problems: Iterable[Problem]) -> Failure:
    """Return the failure of a spec with errors: the first one, and the number of the others."""
    errors = [problem for problem in problems if problem.severity == ERROR]
    first, more = errors[0], len(errors) - 1
    text = f"{first.code} {first.path or 'document'}: {first.message}{f'; {first.fix}' if first.fix else ''}"
    others = f" ({more} more {'error' if more == 1 else 'errors'} in status.problems)" if more else ""
    return Failure("InvalidSpec", f"{text}{others}")


def _write_problem(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "severity": problem.severity,
        "field": problem.path,
        "message": problem.message,
        "fix": problem.fix,
    }
