"""Findings: differences between a cluster and what its profile or the specs need, with the patch that fixes each."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from ebbtide.cluster.client.protocol import Kind
from ebbtide.core.base.bodies import WrittenBy, body
from ebbtide.core.base.problems import Severity
from ebbtide.core.translation.objects import Object

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.spec.inference import Inference
    from ebbtide.core.translation.plan import Plan

Action = Literal["merge", "create"]


def _kind_name(kind: Kind) -> str:
    return kind.name


@body()
class FixPatch:
    """The fix of a finding: a merge patch, or an object to create."""

    action: Action
    kind: Annotated[Kind, WrittenBy(_kind_name)]
    name: str
    namespace: str = ""
    body: Object = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the equivalent kubectl command line."""
        namespace = f" -n {self.namespace}" if self.namespace else ""
        body = shlex.quote(json.dumps(self.body, ensure_ascii=False))
        if self.action == "create":
            return f"kubectl create -f - <<< {body}"
        return f"kubectl patch {self.kind.plural} {self.name}{namespace} --type merge -p {body}"


@body("code severity what means fix patch command")
class Finding:
    """One difference: its code in ``ebbtide docs``, the difference, its effect on the user, and the fix."""

    code: str
    severity: Severity
    what: str
    means: str
    fix: str
    patch: FixPatch | None = None

    @property
    def command(self) -> str:
        """The kubectl command line that fixes it; empty if there is none."""
        return "" if self.patch is None else str(self.patch)


@dataclass(frozen=True, slots=True)
class SpecRequirements:
    """The requirements on a cluster: its profile, and the plans and objects of the specs to run on it."""

    profile: Profile
    #: None if doctor examines the cluster without specs.
    specs: tuple[Inference, ...] | None
    plans: tuple[Plan, ...] = ()
    objects: tuple[Object, ...] = ()
    #: Name and first error of each spec that does not translate.
    refused: tuple[tuple[str, str], ...] = ()
    #: A namespace that the user selected in addition to those of the specs; empty if none.
    selected: str = ""

    @property
    def namespaces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(filter(None, (*(plan.namespace for plan in self.plans), self.selected))))


def make_error_finding(code: str, what: str, means: str, fix: str, patch: FixPatch | None = None) -> Finding:
    """Return a finding that makes applies or workloads fail."""
    return Finding(code, "error", what, means, fix, patch)


def make_warning_finding(code: str, what: str, means: str, fix: str, patch: FixPatch | None = None) -> Finding:
    """Return a finding that does not, on its own, make applies or workloads fail."""
    return Finding(code, "warning", what, means, fix, patch)
