"""The rules by which a namespace's Pod Security level rejects a spec's pods.

Every rendered container meets the other rules of ``restricted``, whatever the spec says: no capability except
NET_BIND_SERVICE, no privilege escalation, seccomp RuntimeDefault, only allowed volume types, no host namespaces or ports.
Upstream: k8s.io/pod-security-admission policy (check_runAsNonRoot.go, check_runAsUser.go,
check_hostProbesAndhostLifecycle.go), kserve pkg/utils/storage.go (CreateModelcarContainer), knative.dev/serving
pkg/reconciler/revision/resources/deploy.go (queue-proxy runs the readiness probe).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Fix, Path, Problem, remove_field
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.modes import SERVING_MODES
from ebbtide.core.translation.plan import Plan, Serving

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec
    from ebbtide.core.spec.inference import InferenceSpec

Level = Literal["privileged", "baseline", "restricted"]
#: From the least to the most restrictive: each rejects everything that the levels before it reject.
LEVELS: Final[tuple[Level, ...]] = ("privileged", "baseline", "restricted")
#: The Kubernetes version from which probes with a host are rejected.
PROBE_HOSTS: Final = (1, 34)


class PodSecurityRule(NamedTuple):
    """A property of a pod: the first level that rejects it, the fields of a spec that cause it, its wording, the fix."""

    level: Level
    find_paths: Callable[[InferenceSpec, ProfileSpec, Serving], Iterator[Path]]
    words: str
    fix: str
    fixes: tuple[Fix, ...] = ()


def requires_non_root(spec: InferenceSpec, cluster: ProfileSpec) -> bool | None:
    """Return whether the container must not run as root, or None if a model's serving runtime decides.

    KServe merges the spec's value over the runtime's, and its own runtimes set true (kserve config/runtimes,
    pkg/controller/v1beta1/inferenceservice/utils/utils.go, MergeRuntimeContainers).
    """
    security = spec.security
    if security.run_as_non_root is not None:
        return security.run_as_non_root
    by_runtime = spec.model is not None and security.run_as_uid != 0
    return (cluster.pods.run_as_non_root and spec.defaults != "none") or (None if by_runtime else False)


def _find_root(spec: InferenceSpec, cluster: ProfileSpec, _: Serving) -> Iterator[Path]:
    if requires_non_root(spec, cluster) is False:
        yield ("spec", "security", "runAsNonRoot")


def _find_root_user(spec: InferenceSpec, cluster: ProfileSpec, _: Serving) -> Iterator[Path]:
    # If the container must not run as root, SEC005 reports user 0.
    if spec.security.run_as_uid == 0 and requires_non_root(spec, cluster) is False:
        yield ("spec", "security", "runAsUid")


def _find_missing_defaults(spec: InferenceSpec, _: ProfileSpec, __: Serving) -> Iterator[Path]:
    if spec.defaults == "none":
        yield ("spec", "defaults")


def _find_root_containers(spec: InferenceSpec, _: ProfileSpec, __: Serving) -> Iterator[Path]:
    for field, items in (("sidecars", spec.sidecars), ("initContainers", spec.init_containers)):
        for index, item in enumerate(items):
            security = item.get("securityContext")
            if get_at(security, "runAsNonRoot") is False or get_at(security, "runAsUser") == 0:
                yield ("spec", field, index, "securityContext")


def _find_model_image(spec: InferenceSpec, cluster: ProfileSpec, serving: Serving) -> Iterator[Path]:
    modelcar = cluster.kserve.oci_models == "modelcar"
    if modelcar and serving != "knative" and spec.model is not None and (spec.model.uri or "").startswith("oci://"):
        yield ("spec", "model", "uri")


def _find_probe_hosts(spec: InferenceSpec, cluster: ProfileSpec, serving: Serving) -> Iterator[Path]:
    if parse_version(cluster.kubernetes.version) < PROBE_HOSTS:
        return
    for field, probe in (
        ("readiness", None if SERVING_MODES[serving].revisions else spec.probes.readiness),
        ("liveness", spec.probes.liveness),
        ("startup", spec.probes.startup),
    ):
        if probe is not None and probe.handler.http_get is not None and probe.handler.http_get.host:
            yield ("spec", "probes", field, "handler", "httpGet", "host")


RULES: Final = (
    PodSecurityRule(
        "restricted",
        _find_missing_defaults,
        "has no restricted security context",
        "remove defaults: none, or set projects.podSecurity: privileged in the profile",
    ),
    PodSecurityRule(
        "restricted",
        _find_root,
        "may run as root",
        "set security.runAsNonRoot: true, together with runAsUid unless the image sets a numeric user",
    ),
    PodSecurityRule("restricted", _find_root_user, "runs as user 0", "set runAsUid to a user other than 0"),
    PodSecurityRule(
        "restricted",
        _find_root_containers,
        "has a container that may run as root",
        "set runAsNonRoot: true and a runAsUser other than 0 in securityContext",
    ),
    PodSecurityRule(
        "restricted",
        _find_model_image,
        "runs the model's image as an additional container without a security context",
        "store the model at another address (s3://, pvc://), or set projects.podSecurity: baseline in the profile",
    ),
    PodSecurityRule(
        "baseline",
        _find_probe_hosts,
        "has a probe that sets host",
        "remove host: without it, the probe goes to the pod itself",
        remove_field(),
    ),
)


def find_namespace_level(spec: InferenceSpec, cluster: ProfileSpec) -> Level:
    """Return the level of the namespace that Ebbtide creates for the spec's project, else ``privileged``: it is unknown."""
    managed = spec.project is not None and cluster.projects.manage
    return cluster.projects.pod_security if managed else "privileged"


def find_refused_fields(
    spec: InferenceSpec, cluster: ProfileSpec, serving: Serving, at: str
) -> Iterator[tuple[Path, PodSecurityRule]]:
    """Yield the fields of a spec that a namespace of level ``at`` rejects, with the rule. An unknown level rejects nothing."""
    for rule in RULES:
        if at in LEVELS[LEVELS.index(rule.level) :]:
            for path in rule.find_paths(spec, cluster, serving):
                yield path, rule


def check(plan: Plan) -> Iterator[Problem]:
    """Reject pods that the project's namespace would reject."""
    spec = plan.spec
    namespace_level = find_namespace_level(spec, plan.cluster)
    for path, rule in find_refused_fields(spec, plan.cluster, plan.serving, namespace_level):
        message = (
            f"the pod {rule.words}, which is forbidden in the namespace of project {spec.project}: its Pod Security level "
            f"is {namespace_level}"
        )
        yield Problem("SEC007", path, message, rule.fix, fixes=rule.fixes)
