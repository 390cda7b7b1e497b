"""Findings: differences between a cluster and what its profile or the specs need, with the patch that fixes each."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from ebbtide.cluster.client.protocol import Kind
from ebbtide.core.base.bodies import WrittenBy, body
from ebbtide.core.base.problems import Severity
from ebbtide.core.documents.problem_texts import read_problem_texts
from ebbtide.core.translation.objects import Object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ebbtide.cluster.doctor.observed import ObservedCluster
    from ebbtide.core.profile.models import Profile, ProfileSpec
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
    #: True before an apply: only what these plans use is examined.
    applied: bool = False

    @property
    def namespaces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(filter(None, (*(plan.namespace for plan in self.plans), self.selected))))


class Difference(NamedTuple):
    """A difference that a check found, with the names and numbers of the cluster.

    ``fix`` is set if it names objects, values or commands of this cluster; otherwise the fix of the code's section applies.
    """

    what: str
    fix: str = ""
    patch: FixPatch | None = None
    #: A severity other than that of the check.
    severity: Severity | None = None


class Check(NamedTuple):
    """A check: its code in problems.md, the function that finds the differences, and what it needs."""

    code: str
    find: Callable[[ObservedCluster, SpecRequirements], Iterable[Difference]]
    severity: Severity = "error"
    #: True for a profile that has what is checked; by default each has.
    needs: Callable[[ProfileSpec], bool] | None = None
    #: True for a plan that depends on the result: an apply of such a plan runs the check first.
    concerns: Callable[[Plan], bool] | None = None
    #: True if an applied workload waits until the fix, so that an apply need not be refused.
    waits: bool = False


def run_checks(checks: Iterable[Check], observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Yield the differences that the checks find, with the effect and the fix from the section of each code."""
    for check in checks:
        if check.needs is None or check.needs(requirements.profile.spec):
            for what, fix, patch, severity in check.find(observed, requirements):
                text = read_problem_texts()[check.code]
                yield Finding(
                    check.code,
                    severity or check.severity,
                    what,
                    _as_clause(text.effect),
                    fix or _as_clause(text.fix),
                    patch,
                )


def _as_clause(sentence: str) -> str:
    """Return a sentence of the page as a part of a line: without its period, its capital and its backticks."""
    return (sentence[0].lower() + sentence[1:]).removesuffix(".").replace("`", "")
