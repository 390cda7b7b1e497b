"""Print one spec, its Service, its cost and its reasons on one screen: 50 lines of at most 80 columns."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any, Final

from ebbtide.core import manifests
from ebbtide.core.documents import profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.documents.texts import load_text

ROOT: Final = Path(__file__).parent.parent
SPEC: Final = "docs/specs/chat.yaml"
#: An example price of one GPU for one hour.
GPU_HOUR: Final = 2.50
WIDTH: Final = 80
#: Fields of the container that every service has, whatever the spec sets.
CONSTANT: Final = {"name", "ports", "securityContext"}


def select_fields(service: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a Knative Service's template that depend on the spec."""
    template = service["spec"]["template"]
    pod = template["spec"]
    containers = [
        {key: value for key, value in container.items() if key not in CONSTANT} for container in pod["containers"]
    ]
    return {
        "metadata": {"annotations": template["metadata"]["annotations"]},
        "spec": {**pod, "containers": containers},
    }


def indent(text: str) -> str:
    """Return text in lines of at most ``WIDTH`` columns, indented."""
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="      ")


def format_demo() -> str:
    """Return the text of the demo."""
    batch = Batch(profiles.load_built_in("full"))
    text = (ROOT / SPEC).read_bytes()
    (loaded,) = load_text(text, SPEC, batch.profile)
    objects, result, _ = batch.add_document(loaded)
    assert result is not None
    plan = result.plan
    assert plan is not None
    assert plan.gpu is not None
    low, high = (replicas * plan.gpu.portion for replicas in (plan.scaling.minimum, plan.scaling.maximum))
    cost = (
        f"{low:g} to {high:g} GPU: {plan.scaling.minimum} to {plan.scaling.maximum} replicas of {plan.gpu.portion} "
        f"GPU. At {GPU_HOUR:.2f} per GPU-hour: {low * GPU_HOUR:.2f} when idle, at most {high * GPU_HOUR:.2f} an hour"
    )
    reasons = [
        indent(f"{row.subject}: {row.value}, because {row.because.partition(';')[0]}")
        for row in plan.decisions
        if row.subject != "user"
    ]
    service = manifests.write_document(select_fields(objects[-1]))
    return "\n".join(
        [
            f"SPEC  {SPEC}",
            textwrap.indent(text.decode().rstrip(), "  "),
            f"SERVICE  spec.template of ebbtide render --profile full {SPEC}",
            textwrap.indent(service.rstrip(), "  "),
            "COST",
            indent(cost),
            f"REASONS  ebbtide explain --profile full {SPEC}",
            *reasons,
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(f"{format_demo()}\n")
