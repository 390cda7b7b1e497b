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
from ebbtide.cluster.doctor.findings import FixPatch, make_error_finding, make_warning_finding
from ebbtide.cluster.doctor.observed import KSERVE_MAP, KSERVE_NAMESPACE
from ebbtide.cluster.read.inventory import KNATIVE_NAMESPACE
from ebbtide.cluster.slo.proxy import count_disconnected_activators, proxy_path
from ebbtide.cluster.slo.queries import GATEWAYS as HISTOGRAMS
from ebbtide.cluster.slo.queries import find_gateway_job
from ebbtide.core.autoscaler.floor import VALUE_AGE_SECONDS
from ebbtide.core.base.exporters import EXPORTERS
from ebbtide.core.base.ingress import INGRESS_GATEWAYS
from ebbtide.core.base.metrics import MAX_SCRAPE_SECONDS, SCRAPE_TOLERANCE
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.profile.metric_names import find_scrape_job
from ebbtide.core.profile.projects import find_default_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.doctor.findings import Finding, SpecRequirements
    from ebbtide.cluster.doctor.observed import ObservedCluster

USUAL_GATEWAY: Final = "istio.ingress.networking.knative.dev"
#: KServe's default for ``kserveIngressGateway``.
DEFAULT_GATEWAY: Final = "kserve/kserve-ingress-gateway"
DEFAULT_CLASS: Final = "ingressclass.kubernetes.io/is-default-class"
CLAIMS: Final = "autocreate-cluster-domain-claims"


def _check_prometheus(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    metrics = requirements.profile.spec.metrics
    if metrics.adapter == "none":
        # The profile has an address even without a Prometheus.
        return
    host = (urlsplit(metrics.prometheus).hostname or "").split(".")
    if len(host) < 3 or host[2] != "svc":  # noqa: PLR2004 - name, namespace, svc
        return
    if observed.fetch(kube.SERVICE, host[0], host[1]) is None:
        yield make_warning_finding(
            "DOC018",
            f"Prometheus not found: the profile expects Service {host[0]} in namespace {host[1]}",
            "slo has no data to report, and why and list show no load",
            "correct metrics.prometheus in the profile, or install Prometheus with the monitors of kustomize/metrics",
        )


def _check_label_proxy(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Yield a prom-label-proxy that does not answer, or that is none.

    It answers a query without a namespace with status 400 (github.com/prometheus-community/prom-label-proxy v0.14.0
    injectproxy/routes.go, ``HTTPFormEnforcer``), and a Prometheus with the result.
    """
    spec = requirements.profile.spec
    url, projects = spec.metrics.prometheus_proxy, spec.projects
    if "proxy" not in {projects.queries, *(project.queries for project in projects.known.values())}:
        return
    fix = (
        "run it with -label namespace -query-param namespace in front of Prometheus (kustomize/prom-label-proxy), and set "
        "metrics.prometheusProxy in the profile to its address"
    )
    no_value = "the queries of projects with queries: proxy have no value"
    if url is None:
        yield make_error_finding("DOC073", "the profile has no address of prom-label-proxy", no_value, fix)
    elif (path := proxy_path(url)) is not None:
        query = f"{path}/api/v1/query?query=vector(1)"
        try:
            observed.cluster.read(f"{query}&namespace=default")
        except ForbiddenError:
            return
        except ClusterError as error:
            yield make_warning_finding(
                "DOC073",
                f"prom-label-proxy at {url} does not answer through the API server: {error}",
                f"{no_value}, unless only the API server cannot reach it, for example because of a NetworkPolicy",
                fix,
            )
            return
        with suppress(ClusterError):
            observed.cluster.read(query)
            yield make_error_finding(
                "DOC073",
                f"{url} answers a query without a namespace, so it is not a prom-label-proxy that limits queries",
                "the queries of projects with queries: proxy read the series of all namespaces",
                fix,
            )


def _check_gateway_histogram(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    named, found = requirements.profile.spec.metrics.gateway_latency, observed.gateway_histogram
    effect = "slo measures response times in the pods, without the wait for cold starts, and gives no verdict on them"
    if found and named is None:
        yield make_warning_finding(
            "DOC027",
            f"Prometheus has {found}, the gateway's histogram, but the profile does not name it",
            effect,
            f"set metrics.gatewayLatency: {found} in the profile",
        )
    elif found == "" and (named is None or named in HISTOGRAMS):
        yield make_warning_finding(
            "DOC027",
            f"Prometheus has no response times of the gateway{f': {named} has no values' if named else ''}",
            effect,
            "add a monitor for the gateway (kustomize/metrics has Kourier's), then set metrics.gatewayLatency in the profile "
            f"to one of {', '.join(HISTOGRAMS)}, or to the gateway's own histogram",
        )


def _check_exporters(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    metrics = requirements.profile.spec.metrics
    for name, jobs in observed.exporter_jobs.items():
        exporter = EXPORTERS[name]
        job = (find_gateway_job(requirements.profile) if name == "gateway" else find_scrape_job(metrics, name)).job
        shared = sorted(jobs.get(job, set()) & observed.project_namespaces)
        if job in jobs and not shared:
            continue
        if shared:
            what = f"the scrape job {job} of {exporter.title} also scrapes pods of projects, in namespace {shared[0]}"
            means = "a member of a project can report numbers of another project"
        elif job:
            what = f"Prometheus has series of {exporter.title} from job {' and '.join(sorted(jobs))}, and none from job {job}"
            means = "reports, charts and scaling ignore these series, because any pod could export them"
        else:
            continue
        settings = observed.propose_job(name)
        yield make_warning_finding(
            "DOC074",
            what,
            means,
            f"set metrics.exporters.{name} in the profile to {json.dumps(settings)}"
            if settings
            else f"scrape {exporter.title} with a separate job, as the monitors of kustomize/metrics do, and name the job in "
            f"metrics.exporters.{name} of the profile",
        )


def _check_scrape_intervals(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    spec = requirements.profile.spec
    namespaces = {*observed.project_namespaces, find_default_namespace(spec.projects)}
    for (job, namespace), seconds in sorted(observed.scrape_intervals.items()):
        if namespace not in namespaces:
            continue
        what = f"Prometheus scrapes the pods of namespace {namespace} every {seconds:.0f} s (job {job})"
        if seconds > MAX_SCRAPE_SECONDS * SCRAPE_TOLERANCE:
            yield make_warning_finding(
                "DOC075",
                what,
                f"values count for {VALUE_AGE_SECONDS:g} s, so the controller has none of most metrics",
                f"scrape them every {MAX_SCRAPE_SECONDS} s or more often",
            )
        elif spec.metrics.adapter == "keda" and seconds > spec.metrics.scrape_interval_seconds * SCRAPE_TOLERANCE:
            yield make_warning_finding(
                "DOC075",
                f"{what}, and metrics.scrapeIntervalSeconds of the profile is {spec.metrics.scrape_interval_seconds}",
                "KEDA's queries read counters over four scrapes, and have no value with fewer",
                f"set metrics.scrapeIntervalSeconds: {math.ceil(seconds / 5) * 5} in the profile",
            )


def _check_activators(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    try:
        count = count_disconnected_activators(observed.cluster.read, requirements.profile.spec.metrics.prometheus)
    except ClusterError:
        return
    if count:
        yield make_error_finding(
            "DOC072",
            f"{count_noun(count, 'activator')} of Knative cannot reach the autoscaler",
            "services do not scale from zero, because the requests that wait are not reported to the autoscaler",
            f"read the logs of Deployments activator and autoscaler in namespace {KNATIVE_NAMESPACE}, and allow port 8080 between them",
        )


def _check_gateway(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Finding]:
    network = observed.read_map("config-network")
    if network is None:
        return
    name = network.get("ingress-class") or USUAL_GATEWAY
    gateway = INGRESS_GATEWAYS.get(name)
    if gateway is not None and observed.fetch(kube.SERVICE, gateway.service, gateway.namespace) is None:
        yield make_error_finding(
            "DOC019",
            f"Knative's ingress class is {name}, but its Service {gateway.service} was not found in namespace {gateway.namespace}",
            "services never become ready, because no gateway serves their URLs",
            "install that gateway, or set ingress-class in config-network to the class of the installed gateway",
        )


def _check_domain_claims(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
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
            yield make_error_finding(
                "DOC020",
                f"no ClusterDomainClaim assigns the host name {host} to namespace {namespace}",
                "the DomainMapping never becomes ready, and the host name does not answer",
                f"create the ClusterDomainClaim, or set {CLAIMS}: true in config-network",
                FixPatch("create", kube.DOMAIN_CLAIM, host, body=body),
            )
        elif get_at(claim, "spec", "namespace") != namespace:
            yield make_error_finding(
                "DOC020",
                f"a ClusterDomainClaim assigns the host name {host} to namespace {get_at(claim, 'spec', 'namespace')}",
                f"services in namespace {namespace} cannot use it",
                "use another host name, or ask the owner of that namespace to delete the claim",
            )


def find_missing_ingress(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Find services of KServe Standard whose URLs nothing serves: without a route, an ingress class or a gateway.

    Upstream: kserve pkg/controller/v1beta1/inferenceservice/reconcilers/ingress/kube_ingress_reconciler.go and
    httproute_reconciler.go; pkg/apis/serving/v1beta1/configmap.go (IngressConfig and its defaults).
    """
    names = [plan.name for plan in requirements.plans if plan.serving == "kserve-standard"]
    if not names or observed.read_map(KSERVE_MAP, KSERVE_NAMESPACE) is None:
        return
    ingress = observed.read_kserve("ingress")
    effect = f"the {'URL' if len(names) == 1 else 'URLs'} of {', '.join(names)} will not answer; clients inside the cluster can use the Service"
    if ingress.get("disableIngressCreation") is True:
        yield make_warning_finding(
            "DOC038",
            "KServe creates no route to services in Standard mode: disableIngressCreation is true in inferenceservice-config",
            effect,
            "set disableIngressCreation: false and an ingressClassName, or enableGatewayApi: true with a gateway; or use "
            "serving: kserve, which Knative routes",
        )
        return
    if ingress.get("enableGatewayApi") is True:
        namespace, _, name = str(ingress.get("kserveIngressGateway") or DEFAULT_GATEWAY).partition("/")
        if observed.fetch(kube.GATEWAY, name, namespace) is None:
            yield make_warning_finding(
                "DOC038",
                f"KServe routes services in Standard mode through Gateway {namespace}/{name}, which was not found",
                effect,
                "create that Gateway, or set kserveIngressGateway in inferenceservice-config to an existing one",
            )
        return
    chosen = str(ingress.get("ingressClassName") or "")
    if not _has_ingress_class(observed, chosen):
        yield make_warning_finding(
            "DOC038",
            f"KServe creates Ingresses {f'of class {chosen}' if chosen else 'without a class'} in Standard mode, but "
            f"{f'IngressClass {chosen} was not found' if chosen else 'no IngressClass is the default'}",
            effect,
            "install an ingress controller, and set ingressClassName in inferenceservice-config to its class",
        )


def _has_ingress_class(observed: ObservedCluster, name: str) -> bool:
    """Return whether an IngressClass exists, or with an empty name, whether one is the default; True if unknown."""
    if name:
        return observed.fetch(kube.INGRESS_CLASS, name) is not None
    try:
        classes = observed.cluster.list(kube.INGRESS_CLASS).items
    except ForbiddenError:
        return True
    return any(get_at(row, "metadata", "annotations", DEFAULT_CLASS) == "true" for row in classes)


def _check_network_policies(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
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
            yield make_error_finding(
                "DOC021",
                f"network polic{'y' if len(closed) == 1 else 'ies'} {names} in namespace {namespace} "
                f"den{'ies' if len(closed) == 1 else 'y'} all ingress to its pods",
                "neither the gateway nor Knative's activator reaches a replica: requests fail, and services cannot scale "
                "from zero",
                f"allow ingress from namespace {KNATIVE_NAMESPACE} and from the gateway's namespace",
            )


CHECKS: Final = (
    _check_prometheus,
    _check_label_proxy,
    _check_gateway_histogram,
    _check_exporters,
    _check_scrape_intervals,
    _check_activators,
    _check_gateway,
    _check_domain_claims,
    find_missing_ingress,
    _check_network_policies,
)
