"""Render the charts of components whose modules have no other manifests."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from e2e.build import BuildError, build, program
from e2e.components import COMPONENTS
from e2e.install.manifests import Object, parse

NAMESPACED = {"ConfigMap", "Deployment", "Job", "Role", "RoleBinding", "Service", "ServiceAccount"}
"""Kinds of the charts that are in a namespace."""


def render(name: str, chart: Path, namespace: str, settings: Object, values: str = "") -> list[Object]:
    """Return the objects of a chart in the order of their kinds, with the values of a file of its values and of `settings`.

    Raises:
        BuildError: helm could not be built, or it refused the chart.

    """
    build(COMPONENTS["helm"])
    merged = yaml.safe_dump(_merge(yaml.safe_load(values) or {}, settings))
    command: Sequence[str] = (
        *(str(program("helm")), "template", name, str(chart), f"--namespace={namespace}"),
        *("--include-crds", "--values=-"),
    )
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, input=merged, env={"HOME": "/nonexistent"}
    )
    if done.returncode:
        raise BuildError(f"helm does not render the chart of {name}: {done.stderr.strip()}")
    return [_place(item, namespace) for item in parse(done.stdout)]


def _place(item: Object, namespace: str) -> Object:
    """Return an object with the namespace that helm would give it."""
    if item["kind"] in NAMESPACED:
        item["metadata"].setdefault("namespace", namespace)
    return item


def _merge(values: Object, changes: Object) -> Object:
    return values | {
        key: _merge(values[key], value) if isinstance(value, dict) and isinstance(values.get(key), dict) else value
        for key, value in changes.items()
    }
