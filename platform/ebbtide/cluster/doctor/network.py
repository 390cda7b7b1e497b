"""Checks of the network around a service: Prometheus, the gateway, domain claims, network policies.

Upstream: knative.dev/networking pkg/apis/networking (ClusterDomainClaim).
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import ClusterError, ForbiddenError
from ebbtide.cluster.doctor.findings import Check, Difference, FixPatch
from ebbtide.cluster.doctor.observed import KSERVE_MAP, KSERVE_NAMESPACE
from ebbtide.cluster.slo.proxy import count_disconnected_activators, proxy_path
from ebbtide.cluster.slo.queries import GATEWAYS as HISTOGRAMS
from ebbtide.cluster.slo.queries import find_gateway_job
from ebbtide.core.base.exporters import EXPORTERS
from ebbtide.core.base.ingress import INGRESS_GATEWAYS
from ebbtide.core.base.metrics import MAX_SCRAPE_SECONDS, SCRAPE_TOLERANCE
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.profile.metric_names import find_scrape_job
from ebbtide.core.profile.projects import find_default_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.doctor.findings import SpecRequirements
    from ebbtide.cluster.doctor.observed import ObservedCluster
    from ebbtide.core.profile.models import ProfileSpec
    from ebbtide.core.translation.plan import Plan

USUAL_GATEWAY: Final = "istio.ingress.networking.knative.dev"
#: KServe's default for ``kserveIngressGateway``.
DEFAULT_GATEWAY: Final = "kserve/kserve-ingress-gateway"
DEFAULT_CLASS: Final = "ingressclass.kubernetes.io/is-default-class"
CLAIMS: Final = "autocreate-cluster-domain-claims"


def _check_prometheus(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    host = (urlsplit(requirements.profile.spec.metrics.prometheus).hostname or "").split(".")
    if len(host) < 3 or host[2] != "svc":  # noqa: PLR2004 - name, namespace, svc
        return
    if observed.fetch(kube.SERVICE, host[0], host[1]) is None:
        yield Difference(f"Prometheus not found: the profile expects Service {host[0]} in namespace {host[1]}")


def _check_label_proxy(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Yield a prom-label-proxy that does not answer, or that is none.

    It answers a query without a namespace with status 400 (github.com/prometheus-community/prom-label-proxy v0.14.0
    injectproxy/routes.go, ``HTTPFormEnforcer``), and a Prometheus with the result.
    """
    url = requirements.profile.spec.metrics.prometheus_proxy
    if url is None:
        yield Difference("the profile has no address of prom-label-proxy")
    elif (path := proxy_path(url)) is not None:
        query = f"{path}/api/v1/query?query=vector(1)"
        try:
            observed.cluster.read(f"{query}&namespace=default")
        except ForbiddenError:
            return
        except ClusterError as error:
            yield Difference(
                f"prom-label-proxy at {url} does not answer through the API server: {error}",
                severity="warning",
            )
            return
        with suppress(ClusterError):
            observed.cluster.read(query)
            yield Difference(
                f"{url} answers a query without a namespace, so it is not a prom-label-proxy that limits queries"
            )


def _check_gateway_histogram(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    named, found = requirements.profile.spec.metrics.gateway_latency, observed.gateway_histogram
    if found and named is None:
        yield Difference(
            f"Prometheus has {found}, the gateway's histogram, but the profile does not name it",
            f"set metrics.gatewayLatency: {found} in the profile",
        )
    elif found == "" and (named is None or named in HISTOGRAMS):
        yield Difference(
            f"Prometheus has no response times of the gateway{f': {named} has no values' if named else ''}",
            "add a monitor for the gateway (kustomize/metrics has Kourier's), then set metrics.gatewayLatency in the profile "
            f"to one of {', '.join(HISTOGRAMS)}, or to the gateway's own histogram",
        )


def _check_exporters(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    metrics = requirements.profile.spec.metrics
    for name, jobs in observed.exporter_jobs.items():
        exporter = EXPORTERS[name]
        job = (find_gateway_job(requirements.profile) if name == "gateway" else find_scrape_job(metrics, name)).job
        shared = sorted(jobs.get(job, set()) & observed.project_namespaces)
        if job in jobs and not shared:
            continue
        if shared:
            what = f"the scrape job {job} of {exporter.title} also scrapes pods of projects, in namespace {shared[0]}"
        elif job:
            what = f"Prometheus has series of {exporter.title} from job {' and '.join(sorted(jobs))}, and none from job {job}"
        else:
            continue
        settings = observed.propose_job(name)
        yield Difference(
            what,
            f"set metrics.exporters.{name} in the profile to {json.dumps(settings)}"
            if settings
            else f"scrape {exporter.title} with a separate job, as the monitors of kustomize/metrics do, and name the job in "
            f"metrics.exporters.{name} of the profile",
        )


def _check_scrape_intervals(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    spec = requirements.profile.spec
    namespaces = {*observed.project_namespaces, find_default_namespace(spec.projects)}
    for (job, namespace), seconds in sorted(observed.scrape_intervals.items()):
        if namespace not in namespaces:
            continue
        what = f"Prometheus scrapes the pods of namespace {namespace} every {seconds:.0f} s (job {job})"
        if seconds > MAX_SCRAPE_SECONDS * SCRAPE_TOLERANCE:
            yield Difference(what, f"scrape them every {MAX_SCRAPE_SECONDS} s or more often")
        elif spec.metrics.adapter == "keda" and seconds > spec.metrics.scrape_interval_seconds * SCRAPE_TOLERANCE:
            yield Difference(
                f"{what}, and metrics.scrapeIntervalSeconds of the profile is {spec.metrics.scrape_interval_seconds}",
                f"set metrics.scrapeIntervalSeconds: {math.ceil(seconds / 5) * 5} in the profile",
            )


def _check_activators(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    try:
        count = count_disconnected_activators(observed.cluster.read, requirements.profile.spec.metrics.prometheus)
    except ClusterError:
        return
    if count:
        yield Difference(f"{count_noun(count, 'activator')} of Knative cannot reach the autoscaler")


def _check_gateway(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Difference]:
    network = observed.read_map("config-network")
    if network is None:
        return
    name = network.get("ingress-class") or USUAL_GATEWAY
    gateway = INGRESS_GATEWAYS.get(name)
    if gateway is not None and observed.fetch(kube.SERVICE, gateway.service, gateway.namespace) is None:
        yield Difference(
            f"Knative's ingress class is {name}, but its Service {gateway.service} was not found in namespace {gateway.namespace}"
        )


def _check_domain_claims(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    network = observed.read_map("config-network")
    if network is None or network.get(CLAIMS) == "true":
        return
    for mapping in requirements.objects:
        if mapping["kind"] != "DomainMapping" or "namespace" not in mapping["metadata"]:
            continue
        host, namespace = mapping["metadata"]["name"], mapping["metadata"]["namespace"]
        claim = observed.fetch(kube.DOMAIN_CLAIM, host)
        if claim is None:
            body = {
                "apiVersion": kube.DOMAIN_CLAIM.api_version,
                "kind": kube.DOMAIN_CLAIM.name,
                "metadata": {"name": host},
                "spec": {"namespace": namespace},
            }
            yield Difference(
                f"no ClusterDomainClaim assigns the host name {host} to namespace {namespace}",
                patch=FixPatch("create", kube.DOMAIN_CLAIM, host, body=body),
            )
        elif get_at(claim, "spec", "namespace") != namespace:
            yield Difference(
                f"a ClusterDomainClaim assigns the host name {host} to namespace {get_at(claim, 'spec', 'namespace')}",
                "use another host name, or ask the owner of that namespace to delete the claim",
            )


def _find_missing_ingress(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Find services of KServe Standard whose URLs nothing serves: without a route, an ingress class or a gateway.

    Upstream: kserve pkg/controller/v1beta1/inferenceservice/reconcilers/ingress/kube_ingress_reconciler.go and
    httproute_reconciler.go; pkg/apis/serving/v1beta1/configmap.go (IngressConfig and its defaults).
    """
    names = ", ".join(plan.name for plan in requirements.plans if _is_standard(plan))
    if not names or observed.read_map(KSERVE_MAP, KSERVE_NAMESPACE) is None:
        return
    ingress = observed.read_kserve("ingress")
    chosen = str(ingress.get("ingressClassName") or "")
    if ingress.get("disableIngressCreation") is True:
        yield Difference(
            f"KServe creates no route to {names}: disableIngressCreation is true in inferenceservice-config"
        )
    elif ingress.get("enableGatewayApi") is True:
        namespace, _, name = str(ingress.get("kserveIngressGateway") or DEFAULT_GATEWAY).partition("/")
        if observed.fetch(kube.GATEWAY, name, namespace) is None:
            yield Difference(f"KServe routes {names} through Gateway {namespace}/{name}, which was not found")
    elif not _has_ingress_class(observed, chosen):
        yield Difference(
            f"KServe creates Ingresses {f'of class {chosen}' if chosen else 'without a class'} for {names}, but "
            f"{f'IngressClass {chosen} was not found' if chosen else 'no IngressClass is the default'}"
        )


def _is_standard(plan: Plan) -> bool:
    return plan.serving == "kserve-standard"


def _has_ingress_class(observed: ObservedCluster, name: str) -> bool:
    """Return whether an IngressClass exists, or with an empty name, whether one is the default; True if unknown."""
    if name:
        return observed.fetch(kube.INGRESS_CLASS, name) is not None
    try:
        classes = observed.cluster.list(kube.INGRESS_CLASS).items
    except ForbiddenError:
        return True
    return any(get_at(row, "metadata", "annotations", DEFAULT_CLASS) == "true" for row in classes)


def _check_network_policies(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    for namespace in requirements.namespaces:
        try:
            policies = observed.cluster.list(kube.NETWORK_POLICY, namespace).items
        except ForbiddenError:
            continue
        closed = [
            policy
            for policy in policies
            # An empty selector selects all pods.
            if not get_at(policy, "spec", "podSelector", default={})
            and "Ingress" in get_at(policy, "spec", "policyTypes", default=["Ingress"])
        ]
        if closed and not any(get_at(policy, "spec", "ingress", default=[]) for policy in policies):
            names = ", ".join(policy["metadata"]["name"] for policy in closed)
            yield Difference(
                f"network polic{'y' if len(closed) == 1 else 'ies'} {names} in namespace {namespace} "
                f"den{'ies' if len(closed) == 1 else 'y'} all ingress to its pods"
            )


def _uses_prometheus(profile: ProfileSpec) -> bool:
    # The profile has an address even without a Prometheus.
    return profile.metrics.adapter != "none"


def _uses_label_proxy(profile: ProfileSpec) -> bool:
    projects = profile.projects
    return "proxy" in {projects.queries, *(project.queries for project in projects.known.values())}


CHECKS: Final = (
    Check("DOC018", _check_prometheus, "warning", needs=_uses_prometheus),
    Check("DOC073", _check_label_proxy, needs=_uses_label_proxy),
    Check("DOC027", _check_gateway_histogram, "warning"),
    Check("DOC074", _check_exporters, "warning"),
    Check("DOC075", _check_scrape_intervals, "warning"),
    Check("DOC072", _check_activators),
    Check("DOC019", _check_gateway),
    Check("DOC020", _check_domain_claims),
    Check("DOC038", _find_missing_ingress, "warning", concerns=_is_standard),
    Check("DOC021", _check_network_policies),
)
