"""Kueue's settings, and the quotas of projects in its ClusterQueues.

Upstream: kubernetes-sigs/kueue v0.17.0 config/components/manager (the ConfigMap), apis/config/v1beta2/defaults.go (without a
list of frameworks, only ``batch/job`` is enabled), apis/kueue/v1beta2/clusterqueue_types.go,
pkg/controller/jobs/deployment/deployment_controller.go (the framework ``deployment`` enables ``pod`` for pods of Deployments),
pkg/controller/jobs/pod/pod_webhook.go (pods in other namespaces than those of ``managedJobsNamespaceSelector`` start immediately),
pkg/controller/core/workload_controller.go (``waitForPodsReady`` evicts), pkg/controller/jobs/pod/pod_controller.go (which deletes);
CHANGELOG/CHANGELOG-0.19.md and pull request 11855 (``waitForPodsReady`` is on by default), pkg/features/kube_features.go of 0.19.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from ebbtide.core.base import keys, quantities
from ebbtide.core.base.annotations import parse_whole_seconds
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.versions import parse_version
from ebbtide.core.manifests.reader import read_documents
from ebbtide.core.profile.models import NodePool
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.quotas.kueue import read_amounts

KUEUE_NAMESPACE: Final = "kueue-system"
KUEUE_MAP: Final = "kueue-manager-config"
#: The key of the ConfigMap that contains the configuration.
KUEUE_KEY: Final = "controller_manager_config.yaml"
#: Each of these frameworks holds back Knative's pods: Knative copies the labels of a revision to its Deployment.
POD_FRAMEWORKS: Final = frozenset({"pod", "deployment"})
DEFAULT_FRAMEWORKS: Final = ("batch/job",)
#: The version from which ``waitForPodsReady`` is on by default, its timeout, and the feature gate that turns it off.
WAITS_SINCE: Final = (0, 19)
DEFAULT_TIMEOUT: Final = "30m"
NO_WAITS: Final = "DisableWaitForPodsReady"


class KueueSettings(NamedTuple):
    """The settings of Kueue that decide which pods it holds back, and how long they may take to become ready."""

    frameworks: tuple[str, ...]
    #: The label selector of the namespaces; empty: Kueue's default, which excludes only its own and ``kube-system``.
    namespaces: Mapping[str, Any]
    #: Seconds after which Kueue deletes an admitted pod that is not ready, None if it does not.
    ready_seconds: int | None


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _Integrations(_Part):
    frameworks: list[str] | None = None


class _Requirement(_Part):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] | None = None


class _Selector(_Part):
    match_labels: dict[str, str] | None = None
    match_expressions: list[_Requirement] | None = None


class _Waits(_Part):
    #: The switch of v1beta1.
    enable: bool | None = None
    timeout: str | None = None


class _Configuration(_Part):
    """The part of Kueue's configuration that ``KueueSettings`` needs."""

    integrations: _Integrations | None = None
    managed_jobs_namespace_selector: _Selector | None = None
    wait_for_pods_ready: _Waits | None = None
    feature_gates: dict[str, bool] | None = None


def read_settings(text: str, version: str) -> KueueSettings | None:
    """Return the settings of a configuration; None if it is not valid, so that Kueue cannot read it either.

    ``version`` is Kueue's, empty if it is unknown: then a setting without a value is off.
    """
    document = next(read_documents(text, KUEUE_MAP), None)
    try:
        configuration = _Configuration.model_validate(document and document.data)
    except ValidationError:
        return None
    integrations, waits = configuration.integrations, configuration.wait_for_pods_ready
    selector = configuration.managed_jobs_namespace_selector
    if version and parse_version(version) >= WAITS_SINCE:
        timeout = (waits and waits.timeout) or DEFAULT_TIMEOUT
        is_off = (waits and waits.enable is False) or (configuration.feature_gates or {}).get(NO_WAITS, False)
        waits = None if is_off else _Waits(timeout=timeout)
    return KueueSettings(
        tuple((integrations and integrations.frameworks) or DEFAULT_FRAMEWORKS),
        {} if selector is None else selector.model_dump(by_alias=True, exclude_none=True),
        parse_whole_seconds(waits.timeout) if waits is not None and waits.enable is not False else None,
    )


def observe_kueue_quotas(
    queues: Iterable[Object], pools: Iterable[dict[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the quota of each project with a ClusterQueue, in the profile's format."""
    node_pools = [NodePool.model_validate(pool) for pool in pools]
    for queue in queues:
        project = get_at(queue, "metadata", "labels", keys.PROJECT)
        if not project:
            continue
        amounts, borrows = read_amounts(queue)
        cpu, memory, gpus = amounts.get("cpu"), amounts.get("memory"), _count_gpus(amounts, node_pools)
        yield (
            project,
            {
                **({} if gpus is None else {"gpus": gpus}),
                **({} if cpu is None else {"cpu": (quantities.parse_nano(cpu) or 0) / quantities.NANO}),
                **({} if memory is None else {"memory": memory}),
                "overQuota": borrows,
                "overQuotaWeight": quantities.parse_whole_quantity(
                    get_at(queue, "spec", "fairSharing", "weight", default="1")
                ),
            },
        )


def _count_gpus(amounts: dict[str, str], pools: Iterable[NodePool]) -> float | None:
    """Return the quota in GPUs, from the first node pool whose resources have one."""
    for pool in pools:
        backend = BACKENDS[pool.backend]
        for resource, per_gpu in (backend.quota or backend.advertises)(pool).items():
            if resource in amounts:
                return quantities.drop_zero_fraction(
                    (quantities.parse_whole_quantity(amounts[resource]) or 0) / per_gpu
                )
    return None
