"""Trimmed recordings of workloads on a real cluster: Kubernetes 1.34, Knative 1.21, KServe 0.20."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ebbtide.cluster.read.inventory import OBJECT_FIELDS, Holder, Live, Supply

FOLDER = Path(__file__).parent / "situations"
NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))


def data(name: str) -> dict[str, Any]:
    recording: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return recording


def read(name: str) -> Live:
    return live(data(name))


def live(found: dict[str, Any]) -> Live:
    supplies = found.get("supplies")
    return Live(
        top=found["top"],
        now=found["now"],
        settings=found.get("settings"),
        service=found.get("service") or (found["top"] if found["top"]["kind"] == "Service" else None),
        supplies=None
        if supplies is None
        else {
            resource: Supply(row["total"], tuple(Holder(*holder) for holder in row["holders"]))
            for resource, row in supplies.items()
        },
        **{field: tuple(found.get(field, ())) for field in OBJECT_FIELDS},
    )
