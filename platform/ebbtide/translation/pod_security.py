"""What a namespace's Pod Security level refuses of a spec's pods.

All else that ``restricted`` asks for stands in every container here, whatever the spec says: no capability but
NET_BIND_SERVICE, no gaining of privileges, RuntimeDefault, volumes that it takes, nothing of the node's.
Upstream: k8s.io/pod-security-admission policy (check_runAsNonRoot.go, check_runAsUser.go,
check_hostProbesAndhostLifecycle.go), kserve pkg/utils/storage.go (CreateModelcarContainer), knative.dev/serving
pkg/reconciler/revision/resources/deploy.go (readiness is queue-proxy's to ask).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ebbtide.base.problems import Problem
from ebbtide.base.versions import version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import ProfileSpec
    from ebbtide.spec.inference import InferenceSpec
    from ebbtide.translation.plan import Plan, Serving

Level = Literal["privileged", "baseline", "restricted"]
#: From the widest to the narrowest: each refuses what those before it do.
LEVELS: Final[tuple[Level, ...]] = ("privileged", "baseline", "restricted")
#: Probes that name a host are refused from here.
PROBE_HOSTS: Final = (1, 34)


class Rule(NamedTuple):
    """One thing that a pod may have: the level that refuses it first, where a spec says so, the words, the way out."""

    level: Level
    found: Callable[[InferenceSpec, ProfileSpec, Serving], Iterator[Path]]
    words: str
    fix: str


def non_root(spec: InferenceSpec, cluster: ProfileSpec) -> bool:
    """Whether root is refused to the container: as the spec says, or else the profile."""
    said = spec.security.run_as_non_root
    return cluster.pods.run_as_non_root if said is None else said


def _root(spec: InferenceSpec, cluster: ProfileSpec, _: Serving) -> Iterator[Path]:
    if not non_root(spec, cluster):
        yield ("spec", "security", "runAsNonRoot")


def _user(spec: InferenceSpec, cluster: ProfileSpec, _: Serving) -> Iterator[Path]:
    # Where root is refused to the container, SEC005 says so of user 0.
    if spec.security.run_as_uid == 0 and not non_root(spec, cluster):
        yield ("spec", "security", "runAsUid")


def _model_image(spec: InferenceSpec, _: ProfileSpec, serving: Serving) -> Iterator[Path]:
    if serving != "knative" and spec.model is not None and (spec.model.uri or "").startswith("oci://"):
        yield ("spec", "model", "uri")


def _probe_hosts(spec: InferenceSpec, cluster: ProfileSpec, serving: Serving) -> Iterator[Path]:
    if version(cluster.kubernetes.version) < PROBE_HOSTS:
        return
    for field, probe in (
        ("readiness", spec.probes.readiness if serving == "kserve-standard" else None),
        ("liveness", spec.probes.liveness),
        ("startup", spec.probes.startup),
    ):
        if probe is not None and probe.handler.http_get is not None and probe.handler.http_get.host:
            yield ("spec", "probes", field, "handler", "httpGet", "host")


RULES: Final = (
    Rule(
        "restricted",
        _root,
        "may run as root",
        "set security.runAsNonRoot: true, if the image names a user by number, or with runAsUid",
    ),
    Rule("restricted", _user, "runs as user 0", "choose another user"),
    Rule(
        "restricted",
        _model_image,
        "has its model's image beside it, as a container that says nothing of its rights",
        "have the model at another address (s3://, pvc://), or set projects.podSecurity: baseline in the profile",
    ),
    Rule("baseline", _probe_hosts, "has a probe that names a host", "remove host: the pod itself is asked"),
)


def level(spec: InferenceSpec, cluster: ProfileSpec) -> Level:
    """Return the level of the namespace that is made for a spec's project; of others nothing is known."""
    made = spec.project is not None and cluster.projects.manage
    return cluster.projects.pod_security if made else "privileged"


def refused(spec: InferenceSpec, cluster: ProfileSpec, serving: Serving, at: str) -> Iterator[tuple[Path, Rule]]:
    """Yield where a spec's pods have what a namespace of level ``at`` refuses; a level of another name refuses nothing."""
    for rule in RULES:
        if at in LEVELS[LEVELS.index(rule.level) :]:
            for where in rule.found(spec, cluster, serving):
                yield where, rule


def check(plan: Plan) -> Iterator[Problem]:
    """Refuse pods that the namespace of their own project would."""
    spec = plan.spec
    at = level(spec, plan.cluster)
    for where, rule in refused(spec, plan.cluster, plan.serving, at):
        yield Problem(
            "SEC007",
            where,
            f"the pod {rule.words}, which the namespace of project {spec.project} refuses: its pod security level is {at}",
            rule.fix,
        )
