"""Trimmed recordings of workloads on a real cluster: Kubernetes 1.34, Knative 1.21, KServe 0.20.

Those named kai- are of KAI 0.17 on Kubernetes 1.37 and Knative 1.24.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ebbtide.cluster.read.inventory import LiveWorkload, ResourceHolder, ResourceSupply
from ebbtide.cluster.read.queues import UNREAD

FOLDER = Path(__file__).parent / "situations"
NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))
#: The lists of a workload's objects.
OBJECT_FIELDS = ("revisions", "scalers", "deployments", "hpas", "pods", "events", "quotas", "claims")


def data(name: str) -> dict[str, Any]:
    recording: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return recording


def read(name: str) -> LiveWorkload:
    return live(data(name))


def live(recording: dict[str, Any]) -> LiveWorkload:
    supplies = recording.get("supplies")
    return LiveWorkload(
        top=recording["top"],
        now=recording["now"],
        settings=recording.get("settings"),
        queues=UNREAD,
        service=recording.get("service") or (recording["top"] if recording["top"]["kind"] == "Service" else None),
        supplies=None
        if supplies is None
        else {
            resource: ResourceSupply(row["total"], tuple(ResourceHolder(*holder) for holder in row["holders"]))
            for resource, row in supplies.items()
        },
        **{field: tuple(recording.get(field, ())) for field in OBJECT_FIELDS},
    )
