"""A finding: something on a cluster that is not as its profile or the specs need it, and the patch that fixes it."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from ebbtide.base.bodies import Written, body
from ebbtide.base.problems import Severity
from ebbtide.cluster.client.protocol import ClusterError, Kind, MissingError
from ebbtide.translation.objects import Object

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.profile.models import Profile
    from ebbtide.spec.inference import Inference
    from ebbtide.translation.plan import Plan

Action = Literal["merge", "create", "delete"]


def _name(kind: Kind) -> str:
    return kind.name


@body()
class Patch:
    """What mends a finding: a merge into an object, an object to create, or one to delete."""

    action: Action
    kind: Annotated[Kind, Written(_name)]
    name: str
    namespace: str = ""
    body: Object = field(default_factory=dict)

    def __str__(self) -> str:
        """Return it as the line of kubectl that does the same."""
        where = f" -n {self.namespace}" if self.namespace else ""
        what = f"{self.kind.plural} {self.name}"
        if self.action == "delete":
            return f"kubectl delete {what}{where}"
        body = shlex.quote(json.dumps(self.body, ensure_ascii=False))
        if self.action == "create":
            return f"kubectl create -f - <<< {body}"
        return f"kubectl patch {what}{where} --type merge -p {body}"


@body("code severity what means fix patch command")
class Finding:
    """One thing that is not as it should be: a code of ``ebbtide docs``, what it means for the user, what to do."""

    code: str
    severity: Severity
    what: str
    means: str
    fix: str
    patch: Patch | None = None

    @property
    def command(self) -> str:
        """The line of kubectl that fixes it; empty where none does."""
        return "" if self.patch is None else str(self.patch)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What specs come to on the cluster of a profile: their plans, their objects, and where they go."""

    profile: Profile
    #: None where doctor is asked about the cluster alone.
    specs: tuple[Inference, ...] | None
    plans: tuple[Plan, ...] = ()
    objects: tuple[Object, ...] = ()
    #: The specs that do not translate, each with the first error.
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that the specs go to."""
        return tuple(dict.fromkeys(plan.namespace for plan in self.plans))


def error(code: str, what: str, means: str, fix: str, patch: Patch | None = None) -> Finding:
    """Return a finding that breaks something."""
    return Finding(code, "error", what, means, fix, patch)


def warning(code: str, what: str, means: str, fix: str, patch: Patch | None = None) -> Finding:
    """Return a finding that breaks nothing by itself."""
    return Finding(code, "warning", what, means, fix, patch)


def fetch(cluster: Cluster, kind: Kind, name: str, namespace: str = "") -> Object | None:
    """Return an object, None where there is none, an empty one where it cannot be seen."""
    try:
        return cluster.get(kind, name, namespace)
    except MissingError:
        return None
    except ClusterError:
        return {}
