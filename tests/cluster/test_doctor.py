"""Doctor on the simulated cluster: a cluster that matches its profile has no findings; each defect has its own finding."""

from __future__ import annotations

import copy
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import ClusterError
from ebbtide.cluster.doctor import checks as doctor
from ebbtide.cluster.doctor import observed
from ebbtide.cluster.doctor.checks import examine_plans
from ebbtide.cluster.slo.proxy import (
    find_exporter_jobs,
    find_gateway_histogram,
    find_renaming_jobs,
    find_scrape_intervals,
)
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.exporters import EXPORTERS
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.problem_texts import read_problem_texts
from ebbtide.core.profile.built_in import BUILT_IN_NAME, FULL
from ebbtide.core.translation import project
from ebbtide.core.translation.translate import translate
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.furnished import furnish_cluster
from ebbtide.sandbox.simulated import Simulated
from ebbtide.sandbox.store import make_bare
from live_cluster import PROFILE, SCALING, connected, simulated, spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.cluster.doctor.findings import Check, Finding
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.spec.inference import Inference
    from ebbtide.core.translation.objects import Object

SERVING = "knative-serving"
PRIORITY = "kubernetes.podspec-priorityclassname"
CLAIM = "kubernetes.podspec-persistent-volume-claim"
#: Characters of the longest effect of a finding, which is printed on one line.
MAX_EFFECT = 240
#: Characters of the longest effect of a finding, which is printed on one line.
MAX_EFFECT = 240
#: Characters of the longest effect of a finding, which is printed on one line.
MAX_EFFECT = 240


def profile(**parts: Any) -> Profile:
    """Return the tests' profile with parts of its spec overridden."""
    data = json.loads(json.dumps(PROFILE))
    for name, values in parts.items():
        current = data["spec"].setdefault(name, {})
        data["spec"][name] = {**current, **values} if isinstance(values, dict) else values
    validated, problems = profiles.validate_profile_data(data)
    assert validated is not None, problems
    return validated


def observe_profile(cluster: Simulated) -> dict[str, Any]:
    return observed.make_observed_profile(observed.ObservedCluster(cluster))


def furnished(cluster_profile: Profile | None = None) -> Simulated:
    cluster = simulated()
    furnish_cluster(cluster, cluster_profile or profile())
    return cluster


def inference(name: str = "chat", **fields: Any) -> Inference:
    loaded = load_document(spec(name, **fields), profile())
    assert loaded.inference is not None, loaded.problems
    return loaded.inference


def changed(cluster: Simulated, kind: Any, name: str, namespace: str, change: Callable[[Object], object]) -> None:
    obj = cluster.get(kind, name, namespace)
    change(obj)
    cluster.put(obj)


def mapped(part: str, **data: str) -> Callable[[Simulated], None]:
    """Return a change that sets keys of a Knative ConfigMap, given with underscores for dashes."""

    def break_(cluster: Simulated) -> None:
        settings = {key.replace("__", ".").replace("_", "-"): value for key, value in data.items()}
        changed(cluster, kube.CONFIG_MAP, f"config-{part}", SERVING, lambda obj: obj["data"].update(settings))

    return break_


def gone(kind: Any, name: str, namespace: str = "") -> Callable[[Simulated], None]:
    return lambda cluster: cluster.delete(kind, name, namespace)


def unserved(path: str) -> Callable[[Simulated], None]:
    def break_(cluster: Simulated) -> None:
        del cluster.paths[path]

    return break_


def node(change: Callable[[Object], object]) -> Callable[[Simulated], None]:
    return lambda cluster: changed(cluster, kube.NODE, "node-1", "", change)


def put(kind: str, version: str, name: str, namespace: str = "", **fields: Any) -> Callable[[Simulated], None]:
    labels = fields.pop("labels", {})
    metadata = {"name": name, "labels": labels, **({"namespace": namespace} if namespace else {})}
    return lambda cluster: cluster.put({"apiVersion": version, "kind": kind, "metadata": metadata, **fields})


def not_available(obj: Object) -> None:
    obj["status"]["availableReplicas"] = 0


def kserve_list(obj: Object) -> None:
    obj["data"]["inferenceService"] = json.dumps({"serviceAnnotationDisallowedList": ["other"], "resource": {}})


def class_at(value: int) -> Callable[[Simulated], None]:
    return lambda cluster: changed(cluster, kube.PRIORITY_CLASS, "build", "", lambda obj: obj.update(value=value))


#: Defects of a cluster: the change that causes it, the code of its finding, and a part of the message.
BROKEN: dict[str, tuple[Callable[[Simulated], None], str, str]] = {
    "a node under pressure": (
        node(lambda obj: obj["status"].update(conditions=[{"type": "DiskPressure", "status": "True"}])),
        "DOC158",
        "node node-1 is low on disk space",
    ),
    "a node that is gone": (
        node(lambda obj: obj["status"].update(conditions=[{"type": "Ready", "status": "Unknown"}])),
        "DOC158",
        "node node-1 is not ready",
    ),
    "a cordoned node": (
        node(lambda obj: obj.update(spec={"unschedulable": True})),
        "DOC158",
        "node node-1 is cordoned",
    ),
    "another Kubernetes": (
        lambda cluster: cluster.paths.update({"/version": {"gitVersion": "v1.31.2+k3s1"}}),
        "DOC002",
        "the cluster runs Kubernetes 1.31.2, but the profile has 1.37",
    ),
    "another Knative": (
        lambda cluster: changed(
            cluster,
            kube.DEPLOYMENT,
            "controller",
            SERVING,
            lambda obj: obj["metadata"]["labels"].update({observed.VERSION_LABEL: "1.18.0"}),
        ),
        "DOC002",
        "the cluster runs Knative 1.18.0",
    ),
    "no KServe": (unserved("/apis/serving.kserve.io/v1beta1"), "DOC003", "KServe is not installed"),
    "no LLMInferenceService": (
        unserved("/apis/serving.kserve.io/v1alpha2"),
        "DOC003",
        "LLMInferenceService is not installed",
    ),
    "no activator": (
        lambda cluster: changed(cluster, kube.DEPLOYMENT, "activator", SERVING, not_available),
        "DOC004",
        "Knative's activator is not running",
    ),
    "no KServe controller": (
        lambda cluster: changed(cluster, kube.DEPLOYMENT, "kserve-controller-manager", "kserve", not_available),
        "DOC004",
        "KServe's kserve-controller-manager is not running",
    ),
    "no webhook": (gone(kube.DEPLOYMENT, "webhook", SERVING), "DOC004", "Knative's webhook is not running"),
    "a flag off": (
        mapped("features", kubernetes__podspec_priorityclassname="disabled"),
        "DOC005",
        f"{PRIORITY} is disabled in config-features, but the profile has enabled",
    ),
    "a flag on that the profile does not set": (
        mapped("features", kubernetes__podspec_fieldref="enabled"),
        "DOC006",
        "kubernetes.podspec-fieldref is enabled in config-features, but the profile does not set it",
    ),
    "a setting": (
        mapped("autoscaler", stable_window="20s"),
        "DOC006",
        "stable-window is 20s in config-autoscaler, but the profile does not set it",
    ),
    "no HPA extension": (
        gone(kube.DEPLOYMENT, "autoscaler-hpa", SERVING),
        "DOC007",
        "HPA extension is not running",
    ),
    "no metrics-server": (unserved("/apis/metrics.k8s.io/v1beta1"), "DOC008", "API metrics.k8s.io is unavailable"),
    "no adapter": (unserved(observed.CUSTOM_METRICS), "DOC008", "API custom.metrics.k8s.io is unavailable"),
    "KServe's list": (
        lambda cluster: changed(cluster, kube.CONFIG_MAP, "inferenceservice-config", "kserve", kserve_list),
        "DOC010",
        "serviceAnnotationDisallowedList does not contain ebbtide.dev/spec, ebbtide.dev/scale",
    ),
    "a class's value": (class_at(125), "DOC012", "priority class build has the value 125"),
    "no class": (gone(kube.PRIORITY_CLASS, "train"), "DOC013", "priority class train not found"),
    "another GPU": (
        node(lambda obj: obj["metadata"]["labels"].update({keys.GPU_PRODUCT: "NVIDIA-L4-SHARED"})),
        "DOC014",
        "its nodes have NVIDIA-L4",
    ),
    "no share": (
        node(lambda obj: obj["status"]["allocatable"].pop(keys.GPU_SHARED)),
        "DOC015",
        "no node of node pool shared advertises nvidia.com/gpu.shared",
    ),
    "fewer shares": (
        node(lambda obj: obj["status"]["allocatable"].update({keys.GPU_SHARED: "2"})),
        "DOC015",
        "advertises 2 nvidia.com/gpu.shared, but the profile has 1 GPU with 4 shares each",
    ),
    "no Prometheus": (
        gone(kube.SERVICE, "prometheus-server", "monitoring"),
        "DOC018",
        "the profile expects Service prometheus-server in namespace monitoring",
    ),
    "an activator that is cut off": (
        lambda cluster: cluster.paths.update(
            {
                "/api/v1/namespaces/monitoring/services/http:prometheus-server:9090/proxy/api/v1/query?query="
                "kn_activator_stats_conn_reachable+%3D%3D+0": {
                    "status": "success",
                    "data": {"result": [{"metric": {"pod": "activator-1"}, "value": [0, "0"]}]},
                }
            }
        ),
        "DOC072",
        "1 activator of Knative cannot reach the autoscaler",
    ),
    "no gateway": (
        gone(kube.SERVICE, "kourier", "kourier-system"),
        "DOC019",
        "its Service kourier was not found in namespace kourier-system",
    ),
    "a forbidden read": (
        lambda cluster: cluster.denied.add(("list", "nodes")),
        "DOC001",
        "forbidden: your account cannot read nodes",
    ),
    "a forbidden write": (
        lambda cluster: cluster.denied.update({("create", "services"), ("list", "pods")}),
        "DOC023",
        "forbidden in namespace default: create services",
    ),
}


def format_findings(findings: tuple[Finding, ...]) -> str:
    return "\n".join(f"{finding.code} {finding.what}" for finding in findings)


@pytest.mark.parametrize("check", doctor.CHECKS, ids=lambda check: check.code)
def test_the_section_of_each_check_has_an_effect_and_a_fix_that_fit_on_a_line(check: Check) -> None:
    """A finding prints the first sentence and the fix of its section after a colon, as parts of a line."""
    text = read_problem_texts()[check.code]

    assert not re.match("Ebbtide|KAI|KServe|Knative|Kubernetes|Kueue|NVIDIA|Prometheus", text.effect), (
        "its capital is dropped"
    )
    assert not set("()[]").intersection(text.effect), "sources and links belong to the next sentences"
    assert len(text.effect) < MAX_EFFECT
    assert text.fix[0].isupper()
    assert text.fix[1].islower()


def test_each_code_has_one_check_and_each_section_of_doctor_too() -> None:
    codes = [check.code for check in doctor.CHECKS]

    assert sorted(codes) == sorted(code for code in read_problem_texts() if code.startswith("DOC"))


def test_a_cluster_that_matches_its_profile_has_no_findings() -> None:
    assert format_findings(doctor.examine_cluster(furnished(), profile())) == ""


@pytest.mark.parametrize("name", BROKEN)
def test_each_defect_has_exactly_its_own_finding(name: str) -> None:
    break_, code, words = BROKEN[name]
    cluster = furnished()
    break_(cluster)
    findings = doctor.examine_cluster(cluster, profile())

    assert {finding.code for finding in findings} == {code}, format_findings(findings)
    assert words in format_findings(findings)
    assert all(finding.means and finding.fix for finding in findings)
    assert json.loads(json.dumps(serialize_body(findings)))


@pytest.mark.parametrize("name", ["a flag off", "KServe's list", "no class"])
def test_a_patch_fixes_the_defect_and_a_dry_run_does_not(name: str) -> None:
    cluster = furnished()
    BROKEN[name][0](cluster)
    (finding,) = doctor.examine_cluster(cluster, profile())
    assert finding.patch is not None
    doctor.apply_fix_patch(cluster, finding.patch, dry_run=True)
    assert doctor.examine_cluster(cluster, profile()) == (finding,)

    doctor.apply_fix_patch(cluster, finding.patch)
    assert format_findings(doctor.examine_cluster(cluster, profile())) == ""


LABEL_PROXY = "http://prom-label-proxy.monitoring.svc:9090"


@pytest.mark.parametrize(
    ("url", "answers", "words"),
    [
        (None, (), "no address of prom-label-proxy"),
        (LABEL_PROXY, (), "does not answer"),
        (LABEL_PROXY, ("&namespace=default", ""), "answers a query without a namespace"),
        (LABEL_PROXY, ("&namespace=default",), ""),
        ("http://10.0.0.1:9090", (), ""),
    ],
)
def test_the_proxy_of_queries_answers_and_limits_them(url: str | None, answers: tuple[str, ...], words: str) -> None:
    metrics = {} if url is None else {"prometheusProxy": url}
    cluster_profile = profile(projects={"known": {"a": {"queries": "proxy"}}}, metrics=metrics)
    cluster = furnished(cluster_profile)
    for parameters in answers:
        path = "/api/v1/namespaces/monitoring/services/http:prom-label-proxy:9090/proxy/api/v1/query?query=vector(1)"
        cluster.paths[f"{path}{parameters}"] = {"status": "success"}
    findings = [row for row in doctor.examine_cluster(cluster, cluster_profile) if row.code == "DOC073"]
    assert [words in row.what for row in findings] == ([True] if words else [])


def test_a_config_map_patch_keeps_other_keys_and_settings() -> None:
    cluster = furnished()
    BROKEN["KServe's list"][0](cluster)
    changed(cluster, kube.CONFIG_MAP, "inferenceservice-config", "kserve", lambda obj: obj["data"].update(deploy="{}"))
    (finding,) = doctor.examine_cluster(cluster, profile())
    assert finding.patch is not None
    doctor.apply_fix_patch(cluster, finding.patch)
    data = cluster.get(kube.CONFIG_MAP, "inferenceservice-config", "kserve")["data"]

    assert data["deploy"] == "{}"
    assert json.loads(data["inferenceService"]) == {
        "serviceAnnotationDisallowedList": ["other", "ebbtide.dev/spec", "ebbtide.dev/scale"],
        "resource": {},
    }


def test_config_map_values_are_compared_by_meaning() -> None:
    settings = {"autoscaler": {"stable-window": "1m", "max-scale-up-rate": "1000.0"}}
    cluster_profile = profile(knative={**PROFILE["spec"]["knative"], **settings})
    cluster = furnished(cluster_profile)
    changed(cluster, kube.CONFIG_MAP, "config-autoscaler", SERVING, lambda obj: obj.update(data={}))

    assert format_findings(doctor.examine_cluster(cluster, cluster_profile)) == ""
    mapped("autoscaler", stable_window="20s")(cluster)
    (finding,) = doctor.examine_cluster(cluster, cluster_profile)
    assert finding.what == "stable-window is 20s in config-autoscaler, but the profile has 1m"
    assert finding.fix.endswith(
        "set stable-window: 1m in config-autoscaler, or stable-window: 20s in the profile's knative.autoscaler"
    )
    assert str(finding.patch) == (
        "kubectl patch configmaps config-autoscaler -n knative-serving --type merge "
        """-p '{"data": {"stable-window": "1m"}}'"""
    )


# Differences that only the profile shows.


@pytest.mark.parametrize(
    ("parts", "code", "words"),
    [
        ({"kserve": {"installed": False}}, "DOC003", "KServe is installed, but the profile says that it is not"),
        (
            {"knative": {"hpa": False}},
            "DOC007",
            "HPA extension is running, but the profile says that it is not",
        ),
        ({"kserve": {"httpRouteTimeouts": True}}, "DOC057", "kserve.httpRouteTimeouts of the profile is true, but"),
        ({"kserve": {"ociModels": "native"}}, "DOC057", "kserve.ociModels of the profile is native, but"),
        (
            {"kserve": {"localModelNodeGroups": ["h100"]}},
            "DOC057",
            "kserve.localModelNodeGroups of the profile is [h100], but",
        ),
        ({"kserve": {"annotationDisallowList": []}}, "DOC010", "to pods, but the profile does not list them"),
        (
            {"kserve": {"runtimes": ["huggingface"]}},
            "DOC011",
            "serving runtime not found: huggingface; the profile lists it",
        ),
        ({"scheduling": {"scheduler": "kai-scheduler"}}, "DOC016", "KAI-Scheduler is not installed"),
        ({"metrics": {"adapter": "keda"}}, "DOC008", "KEDA is not installed"),
        ({"domain": "other.example"}, "DOC006", "services are published under example.com"),
        (
            {"nodePools": [{"name": "big", "selector": {"size": "big"}}]},
            "DOC014",
            "no node has the labels of node pool",
        ),
    ],
)
def test_a_setting_that_only_the_profile_has_is_found(parts: dict[str, Any], code: str, words: str) -> None:
    findings = doctor.examine_cluster(furnished(), profile(**parts))

    assert {finding.code for finding in findings} == {code}, format_findings(findings)
    assert words in format_findings(findings)


ON_DEMAND = [{"name": "big", "selector": {"size": "big"}, "nodeAutoscaler": {"name": "karpenter"}}]


@pytest.mark.parametrize(
    ("version", "deployment", "codes"),
    [("1.24", {}, ["DOC204"]), ("1.24", {"pod-is-always-schedulable": "true"}, []), ("1.20", {}, [])],
)
def test_a_revision_whose_pod_waits_for_a_node_is_not_failed(
    version: str, deployment: dict[str, str], codes: list[str]
) -> None:
    """A pool without a node is valid if an autoscaler starts its nodes, and Knative can wait for them since 1.21."""
    knative = {**PROFILE["spec"]["knative"], "version": version, "deployment": deployment}
    cluster_profile = profile(nodePools=ON_DEMAND, knative=knative)

    found = [row for row in doctor.examine_cluster(furnished(cluster_profile), cluster_profile) if row.code != "DOC002"]
    assert [finding.code for finding in found] == codes, format_findings(tuple(found))


def _put_isvc(cluster: Simulated, name: str, status: str, annotation: str = "") -> None:
    annotations = {"annotations": {keys.DEPLOYMENT_MODE: annotation}} if annotation else {}
    metadata = {"name": name, "namespace": "team", **annotations}
    body = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": metadata, "spec": {}}
    cluster.put({**body, "status": {"deploymentMode": status}})


def test_inference_services_that_an_upgrade_of_kserve_breaks_are_named() -> None:
    cluster = furnished()
    changed(
        cluster,
        kube.CONFIG_MAP,
        "inferenceservice-config",
        "kserve",
        lambda obj: obj["data"].update(deploy=json.dumps({"defaultDeploymentMode": "Standard"})),
    )
    _put_isvc(cluster, "unmarked", "Serverless")
    _put_isvc(cluster, "marked", "Serverless", "Serverless")
    _put_isvc(cluster, "standard", "Standard")

    (finding,) = [row for row in doctor.examine_cluster(cluster, profile()) if row.code == "DOC205"]
    assert (finding.severity, "but team/unmarked runs in mode Knative" in finding.what) == ("error", True)
    old = profile(kserve={**PROFILE["spec"]["kserve"], "version": "0.16"})
    (finding,) = [row for row in doctor.examine_cluster(cluster, old) if row.code == "DOC205"]
    assert finding.what.startswith("the status of team/marked, team/unmarked has a deployment mode by its former name")


@pytest.mark.parametrize(
    ("fields", "classes", "codes"),
    [
        ({"serving": "kserve-standard"}, {}, {"DOC199"}),
        ({"serving": "kserve-standard"}, {"gpu.nvidia.com": ""}, set()),
        ({}, {"gpu.nvidia.com": keys.GPU}, set()),
        ({"compute": {"migProfile": "1g.10gb"}}, {"gpu.nvidia.com": keys.GPU}, {"DOC200"}),
        ({"compute": {"migProfile": "1g.10gb"}}, {"small.example.com": "nvidia.com/mig-1g.10gb"}, set()),
        ({"compute": {"migProfile": "1g.10gb"}, "serving": "kserve-standard"}, {"gpu.nvidia.com": ""}, {"DOC199"}),
    ],
)
def test_device_classes_that_workloads_need_are_checked(
    fields: dict[str, Any], classes: dict[str, str], codes: set[str]
) -> None:
    """A claim names its class, and an extended resource needs a class that provides it."""
    pool = {"name": "claimed", "devices": 1, "backend": "dra", "product": "NVIDIA-A100-SXM4-80GB"}
    cluster_profile = profile(nodePools=[pool], kubernetes={"version": "1.37", "dra": True})
    cluster = furnished(cluster_profile)
    cluster.delete(kube.DEVICE_CLASS, "gpu.nvidia.com", "")
    for name, extended in classes.items():
        put("DeviceClass", "resource.k8s.io/v1", name, spec={"extendedResourceName": extended} if extended else {})(
            cluster
        )
    loaded = load_document(spec(**{"compute": {"gpuDevicesRequest": 1}, **fields}), cluster_profile)
    assert loaded.inference is not None, loaded.problems
    findings = doctor.examine_cluster(cluster, cluster_profile, [loaded.inference])
    plan = translate(loaded.inference, cluster_profile, "{}").plan
    assert plan is not None

    assert {row.code for row in findings if row.code in {"DOC199", "DOC200"}} == codes
    assert {row.code for row in examine_plans(cluster, cluster_profile, [plan])} >= codes


def test_the_device_class_of_each_pool_is_checked() -> None:
    pool = {"name": "claimed", "devices": 1, "backend": "dra"}
    cluster_profile = profile(nodePools=[pool], kubernetes={"version": "1.37", "dra": True})
    cluster = furnished(cluster_profile)
    assert observe_profile(cluster)["spec"]["kubernetes"]["dra"] is True
    cluster.delete(kube.DEVICE_CLASS, "gpu.nvidia.com", "")
    (finding,) = doctor.examine_cluster(cluster, cluster_profile)

    assert finding.code == "DOC199"
    assert finding.what == "device class gpu.nvidia.com not found, but node pool claimed needs it"
    assert observe_profile(cluster)["spec"]["kubernetes"]["dra"] is False


@pytest.mark.parametrize(
    ("fields", "codes"), [(None, []), ({}, []), ({"compute": {"gpuDevicesRequest": 1}}, [("DOC015", "error")])]
)
def test_a_cluster_without_gpus_is_a_finding_only_for_a_spec_with_one(
    fields: dict[str, Any] | None, codes: list[tuple[str, str]]
) -> None:
    """The built-in profile has a pool for any GPUs, which many clusters do not have."""
    built_in = profiles.load_built_in(BUILT_IN_NAME)
    cluster = furnished(built_in)
    node(lambda obj: obj["status"]["allocatable"].pop(keys.GPU))(cluster)
    specs = None if fields is None else [inference(**fields)]
    findings = doctor.examine_cluster(cluster, built_in, specs)

    assert [(finding.code, finding.severity) for finding in findings] == codes


def test_a_pool_with_media_engines_is_found_by_its_resource() -> None:
    pool = {
        "name": "cut",
        "product": "NVIDIA-A100-SXM4-80GB",
        "devices": 1,
        "backend": "mig",
        "migProfiles": ["1g.10gb+me"],
    }
    cluster_profile = profile(nodePools=[pool])
    cluster = furnished(cluster_profile)

    assert "nvidia.com/mig-1g.10gb.me" in cluster.gpus
    assert format_findings(doctor.examine_cluster(cluster, cluster_profile)) == ""
    pools = observe_profile(cluster)["spec"]["nodePools"]
    assert ["1g.10gb+me"] in [pool.get("migProfiles") for pool in pools]


def test_an_observed_pool_of_shares_selects_its_nodes() -> None:
    cluster = furnished()
    node(lambda obj: obj["metadata"]["labels"].update({keys.GPU_PRODUCT: "NVIDIA-A100-SXM4-80GB-SHARED"}))(cluster)
    cluster.put(make_bare(kube.NODE, "cpu-1"))
    written, problems = profiles.validate_profile_data(observe_profile(cluster))

    assert written is not None, problems
    (pool,) = written.spec.node_pools
    assert (pool.product, dict(pool.selector)) == (
        "NVIDIA-A100-SXM4-80GB",
        {keys.GPU_PRODUCT: "NVIDIA-A100-SXM4-80GB-SHARED"},
    )
    assert "DOC014" not in format_findings(doctor.examine_cluster(cluster, written))


@pytest.mark.parametrize(
    ("fields", "resource"),
    [
        ({"backend": "mig"}, "nvidia.com/mig-1g.10gb"),
        ({"backend": "mps", "replicas": 4, "resource": "nvidia.com/gpu.shared"}, "nvidia.com/gpu.shared"),
    ],
    ids=["any MIG profile", "a resource of the profile's"],
)
def test_a_pool_is_found_by_the_resources_of_its_profile(fields: dict[str, Any], resource: str) -> None:
    cluster_profile = profile(nodePools=[{"name": "gpus", "product": "NVIDIA-A100-SXM4-80GB", "devices": 1, **fields}])
    cluster = furnished(cluster_profile)

    assert resource in cluster.gpus
    assert format_findings(doctor.examine_cluster(cluster, cluster_profile)) == ""


# For specs.


def examined(cluster: Simulated, *specs: Inference, **parts: Any) -> tuple[Finding, ...]:
    return doctor.examine_cluster(cluster, profile(**parts), list(specs))


def test_with_specs_only_their_requirements_are_errors() -> None:
    cluster = furnished()
    mapped("features", kubernetes__podspec_persistent_volume_claim="disabled")(cluster)
    claim = {"pvc": [{"path": "/data", "claimInfo": {"size": "1Gi", "accessModes": {"readWriteOnce": True}}}]}
    (alone,) = doctor.examine_cluster(cluster, profile())
    (needless,) = examined(cluster, inference())
    (needed,) = examined(cluster, inference(), inference("store", storage=claim))

    assert [finding.severity for finding in (alone, needless, needed)] == ["error", "warning", "error"]
    assert needed.what.endswith(", which store needs")


def test_a_pool_that_no_spec_uses_is_a_warning() -> None:
    cluster = furnished()
    node(lambda obj: obj["status"]["allocatable"].pop(keys.GPU_SHARED))(cluster)

    assert [finding.severity for finding in examined(cluster, inference())] == ["warning"]
    gpu = inference(compute={"gpuPortionRequest": 0.25})
    assert [finding.severity for finding in examined(cluster, gpu)] == ["error"]


def test_a_scaling_metric_that_is_not_served_yet_is_a_warning() -> None:
    measured = {**PROFILE["spec"]["knative"], "observability": {"request-metrics-protocol": "prometheus"}}
    cluster = furnished(profile(knative=measured))
    cluster.paths[observed.CUSTOM_METRICS] = {"resources": []}
    latency = {"minReplicas": 1, "maxReplicas": 2, "metric": "latency", "metricThreshold": 300}

    assert format_findings(examined(cluster, inference(autoscaling=SCALING), knative=measured)) == ""
    (finding,) = examined(cluster, inference(autoscaling=latency), knative=measured)
    assert (finding.code, finding.severity) == ("DOC009", "warning")
    assert finding.what.startswith("chat scales on the pod metric ")
    assert "request_latency_p95_milliseconds, which custom.metrics.k8s.io does not serve now" in finding.what


@pytest.mark.parametrize(
    ("ingress", "storage", "routes", "images"),
    [
        ({"enableGatewayApi": True}, {"enableModelcar": False}, True, "none"),
        ({"enableGatewayApi": True, "disableHTTPRouteTimeout": True}, {"ociModelMode": "native"}, False, "native"),
        ({"enableGatewayApi": False}, {"ociModelMode": "fetch"}, False, "modelcar"),
        ({}, {"enableOciModelSupport": True}, False, "modelcar"),
    ],
)
def test_the_profile_of_a_cluster_has_kserves_routes_and_images(
    ingress: dict[str, Any], storage: dict[str, Any], routes: bool, images: str
) -> None:
    cluster = furnished()
    data = {"ingress": json.dumps(ingress), "storageInitializer": json.dumps({"image": "storage", **storage})}
    changed(cluster, kube.CONFIG_MAP, "inferenceservice-config", "kserve", lambda obj: obj["data"].update(data))

    kserve = observe_profile(cluster)["spec"]["kserve"]

    assert (kserve["httpRouteTimeouts"], kserve["ociModels"]) == (routes, images)


def test_a_spec_that_does_not_translate_is_a_finding() -> None:
    latency = {"minReplicas": 1, "maxReplicas": 2, "metric": "latency", "metricThreshold": 300}
    (finding,) = examined(furnished(), inference(autoscaling=latency))

    assert (finding.code, finding.severity) == ("DOC025", "error")
    assert "chat does not translate for profile simulated: AUT029 spec.autoscaling.metric: " in finding.what


def test_a_host_name_needs_a_domain_claim_for_its_namespace() -> None:
    cluster = furnished()
    chat = inference(exposedUrls=[{"container": 8080, "url": "https://chat.example.org"}])
    (finding,) = examined(cluster, chat)
    assert (finding.code, finding.severity) == ("DOC020", "error")
    assert finding.patch is not None
    doctor.apply_fix_patch(cluster, finding.patch)
    assert format_findings(examined(cluster, chat)) == ""

    changed(cluster, kube.DOMAIN_CLAIM, "chat.example.org", "", lambda obj: obj["spec"].update(namespace="other"))
    assert "assigns the host name chat.example.org to namespace other" in format_findings(examined(cluster, chat))
    mapped("network", autocreate_cluster_domain_claims="true")(cluster)
    assert format_findings(examined(cluster, chat)) == ""


def test_a_network_policy_that_denies_all_ingress_is_found() -> None:
    cluster = furnished()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-shop"}})
    deny = {"podSelector": {}, "policyTypes": ["Ingress"]}
    put("NetworkPolicy", "networking.k8s.io/v1", "deny", "team-shop", spec=deny)(cluster)
    (finding,) = examined(cluster, inference())

    assert (finding.code, finding.severity) == ("DOC021", "error")
    allow: Object = {"podSelector": {}, "ingress": [{}]}
    put("NetworkPolicy", "networking.k8s.io/v1", "allow", "team-shop", spec=allow)(cluster)
    assert format_findings(examined(cluster, inference())) == ""
    cluster.denied.add(("list", kube.NETWORK_POLICY.plural))
    assert format_findings(examined(cluster, inference())) == ""


def test_a_level_of_pod_security_that_refuses_pods_is_found() -> None:
    cluster = furnished()
    labels = {observed.POD_SECURITY: "restricted"}
    put("Namespace", "v1", "team-shop", labels=labels)(cluster)
    unmanaged = {**PROFILE["spec"]["projects"], "manage": False}

    assert format_findings(examined(cluster, inference())) == "", "an apply sets the level"
    (finding,) = examined(cluster, inference(), projects=unmanaged)
    assert (finding.code, finding.severity) == ("DOC022", "error")
    assert "but a pod of chat may run as root" in finding.what
    cluster.delete(kube.NAMESPACE, "team-shop")
    assert format_findings(examined(cluster, inference())) == ""


def test_the_permissions_for_an_apply_are_checked() -> None:
    cluster = furnished()
    cluster.denied.add(("create", "namespaces"))
    (finding,) = examined(cluster, inference())

    assert finding.code == "DOC023"
    assert finding.what == "forbidden in namespace team-shop: create namespaces"
    put("Namespace", "v1", "team-shop")(cluster)
    assert format_findings(examined(cluster, inference())) == "", "an existing namespace is not changed"


def test_a_cluster_with_forbidden_reads_raises_no_error() -> None:
    cluster = furnished()
    cluster.denied.update(
        (verb, kind.plural)
        for kind in (
            kube.CONFIG_MAP,
            kube.DEPLOYMENT,
            kube.DOMAIN_CLAIM,
            kube.HPA,
            kube.NAMESPACE,
            kube.NETWORK_POLICY,
            kube.NODE,
            kube.PRIORITY_CLASS,
            kube.QUOTA,
            kube.SERVICE,
        )
        for verb in ("get", "list")
    )
    findings = examined(cluster, inference())

    assert {finding.code for finding in findings} == {"DOC001", "DOC023"}, format_findings(findings)


# The observed profile.


@pytest.mark.parametrize(
    "data",
    [PROFILE, {**FULL, "metadata": {"name": "kai"}}],
    ids=["time-slicing", "kai"],
)
def test_a_written_profile_has_no_findings(data: dict[str, Any]) -> None:
    original, problems = profiles.validate_profile_data(data)
    assert original is not None, problems
    cluster = furnished(original)
    written, problems = profiles.validate_profile_data(observe_profile(cluster))

    assert written is not None, problems
    assert problems == []
    assert format_findings(doctor.examine_cluster(cluster, written)) == ""
    assert format_findings(doctor.examine_cluster(cluster, original)) == ""


def kai(**projects: Any) -> Profile:
    data = json.loads(json.dumps({**FULL, "metadata": {"name": "kai"}}))
    data["spec"]["projects"] |= projects
    validated, problems = profiles.validate_profile_data(data)
    assert validated is not None, problems
    return validated


@pytest.mark.parametrize(
    ("field", "value", "live"),
    [("gangScheduleKnative", True, "false"), ("sharingMode", "HamiCore", "NonMemoryEnforced")],
)
def test_settings_of_kai_must_match_the_profile(field: str, value: Any, live: str) -> None:
    cluster = furnished(kai())
    data = json.loads(json.dumps({**FULL, "metadata": {"name": "kai"}}))
    data["spec"]["scheduling"]["kai"][field] = value
    other, problems = profiles.validate_profile_data(data)
    assert other is not None, problems
    (finding,) = doctor.examine_cluster(cluster, other)

    assert (finding.code, finding.severity) == ("DOC047", "error")
    assert finding.fix.startswith(f"set scheduling.kai.{field}: {live} in the profile")


def test_a_gpu_without_a_reservation_is_found_before_kai_deletes_its_pods() -> None:
    cluster = furnished(kai())

    def put_pod(name: str, namespace: str, group: str, phase: str = "Running") -> None:
        put("Pod", "v1", name, namespace, labels={"runai-gpu-group": group}, status={"phase": phase})(cluster)

    def found() -> list[str]:
        return [row.what for row in doctor.examine_cluster(cluster, kai()) if row.code == "DOC206"]

    put_pod("b-1", "team-b", "one")
    put_pod("a-1", "team-a", "one")
    put_pod("ended", "team-a", "three", "Succeeded")
    put_pod("chat", "team-a", "two")
    put_pod("reserves-two", "kai-resource-reservation", "two")
    assert found() == [], "KAI's reservations are elsewhere"
    put("Namespace", "v1", "kai-resource-reservation")(cluster)
    assert found() == ["KAI-Scheduler has no reservation for the GPU of team-a/a-1, team-b/b-1"]


def test_a_node_that_gets_no_image_in_advance_is_reported() -> None:
    cluster = furnished()
    image, message = (
        "registry.example.com/chat:v1",
        'Back-off pulling image "registry.example.com/chat:v1": ErrImagePull: not found',
    )

    def put_pod(name: str, owner: str, state: Object) -> None:
        metadata = {
            "name": name,
            "namespace": "team-a",
            "labels": {keys.APP_MANAGED_BY: "ebbtide"},
            "ownerReferences": [{"kind": owner, "name": "chat-image", "uid": "1"}],
        }
        spec = {
            "containers": [{"name": "pause", "image": "pause"}],
            "volumes": [{"name": "image", "image": {"reference": image}}],
        }
        status = {"containerStatuses": [{"name": "pause", "state": state}]}
        cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})

    failed: Object = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
    put_pod("chat-image-1", "DaemonSet", failed)
    put_pod("chat-image-2", "DaemonSet", failed)
    put_pod("chat-image-3", "DaemonSet", {"running": {}})
    put_pod("chat-weights-1", "Job", failed)

    (finding,) = [row for row in doctor.examine_cluster(cluster, profile(), namespace="team-a") if row.code == "DOC208"]
    assert (
        finding.what == f"DaemonSet chat-image in team-a is not ready on 2 nodes: cannot pull image {image}: not found"
    )


def test_the_runtime_class_of_shared_gpus_must_exist() -> None:
    cluster = furnished(kai())
    cluster.delete(kube.RUNTIME_CLASS, "nvidia")
    (finding,) = doctor.examine_cluster(cluster, kai())

    assert (finding.code, finding.severity) == ("DOC048", "error")
    assert "RuntimeClass nvidia not found" in finding.what


def test_kai_0_12_sets_the_runtime_class_on_pods_with_whole_gpus_too() -> None:
    cluster = furnished(kai())
    cluster.delete(kube.RUNTIME_CLASS, "nvidia")
    admission = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "admission",
            "namespace": "kai-scheduler",
            "labels": {"app.kubernetes.io/version": "0.12.0"},
        },
        "spec": {
            "template": {"spec": {"containers": [{"name": "a", "args": ["--gpu-pod-runtime-class-name", "nvidia"]}]}}
        },
    }
    cluster.put(admission)
    (finding,) = (row for row in doctor.examine_cluster(cluster, kai()) if row.code == "DOC048")

    assert finding.what.endswith("sets it on pods that request GPUs")
    assert finding.fix.endswith("set KAI's admission.gpuPodRuntimeClassName to a RuntimeClass that exists")


def test_an_observed_profile_keeps_the_quota_of_a_queue() -> None:
    """Otherwise an apply with it would remove the quota."""
    known = {"shop": {"gpus": 2, "cpu": 8.5, "memory": "64G", "overQuota": False, "overQuotaWeight": 3}, "open": {}}
    original = kai(known=known)
    cluster = furnished(original)
    for name in known:
        for obj in project.make_project_objects(name, f"runai-{name}", original):
            cluster.put(obj)
    written, problems = profiles.validate_profile_data(observe_profile(cluster))
    assert written is not None, problems

    for name in known:
        objects = project.make_project_objects(name, f"runai-{name}", original)
        assert project.make_project_objects(name, f"runai-{name}", written) == objects


def test_an_aggregated_api_whose_server_does_not_answer_is_unavailable() -> None:
    class HalfBroken(Simulated):
        def read(self, path: str) -> Object:
            if path == "/apis/metrics.k8s.io/v1beta1":
                raise ClusterError("the server is currently unable to handle the request")
            return super().read(path)

    cluster = HalfBroken(ManualClock())
    furnish_cluster(cluster, profile())
    (finding,) = doctor.examine_cluster(cluster, profile())

    assert finding.code == "DOC008"
    assert "metrics.k8s.io is unavailable" in finding.what


def kueue(**projects: Any) -> Profile:
    data = json.loads(json.dumps({**FULL, "metadata": {"name": "kueue"}}))
    data["spec"]["scheduling"]["scheduler"] = "default-scheduler"
    for node_pool in data["spec"]["nodePools"]:
        node_pool["backend"] = "devices"
    data["spec"]["projects"] = {"quota": "kueue", **projects}
    validated, problems = profiles.validate_profile_data(data)
    assert validated is not None, problems
    return validated


def test_an_observed_profile_keeps_the_quota_of_a_kueue_queue() -> None:
    known = {"shop": {"gpus": 2, "cpu": 8.5, "memory": "64G", "overQuota": False, "overQuotaWeight": 3}, "open": {}}
    original = kueue(known=known, parentQueue="research")
    cluster = furnished(original)
    for name in known:
        for obj in project.make_project_objects(name, f"runai-{name}", original):
            cluster.put(obj)
    written, problems = profiles.validate_profile_data(observe_profile(cluster))
    assert written is not None, problems

    assert format_findings(doctor.examine_cluster(cluster, original)) == ""
    projects = written.spec.projects
    assert (projects.quota, projects.parent_queue) == ("kueue", "research")
    for name, quota in original.spec.projects.known.items():
        for field in ("gpus", "cpu", "memory", "over_quota", "over_quota_weight"):
            assert getattr(projects.known[name], field) == getattr(quota, field), (name, field)


def test_kueue_must_be_installed() -> None:
    cluster = furnished(kueue())
    cluster.paths.pop("/apis/kueue.x-k8s.io/v1beta2")
    (finding,) = doctor.examine_cluster(cluster, kueue())

    assert (finding.code, finding.severity) == ("DOC138", "error")


@pytest.mark.parametrize(
    ("configuration", "named"),
    [("integrations:\n  frameworks: [batch/job, statefulset]\n", "batch/job, statefulset"), ("{}", "batch/job")],
)
def test_kueue_must_hold_back_pods(configuration: str, named: str) -> None:
    (finding,) = examine_kueue(configuration)

    assert (finding.code, finding.severity) == ("DOC139", "error")
    assert f"its integrations are {named}" in finding.what


@pytest.mark.parametrize(
    "configuration",
    [
        "integrations:\n  frameworks: pod\n",
        "integrations: [pod]\n",
        "- integrations\n",
        "integrations: [\n",
        "",
        "managedJobsNamespaceSelector:\n  matchExpressions: [{key: a, operator: Is}]\n",
        "waitForPodsReady:\n  timeout: 5\n",
    ],
)
def test_a_configuration_that_kueue_cannot_read_is_unknown(configuration: str) -> None:
    assert examine_kueue(configuration, inference(project="shop")) == ()


def test_kueue_holds_back_pods_of_deployments() -> None:
    """Knative copies the queue label to the Deployment, whose integration enables that of pods."""
    assert examine_kueue("integrations:\n  frameworks: [batch/job, deployment]\n") == ()


@pytest.mark.parametrize(
    ("selector", "managed"),
    [
        ("matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system]}]", True),
        ("matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [default]}]", False),
        ("matchLabels: {team: shop}", True),
        ("matchLabels: {team: shop, stage: live}", False),
    ],
)
def test_kueue_must_manage_the_namespace(selector: str, *, managed: bool) -> None:
    text = f"managedJobsNamespaceSelector:\n  {selector}\nintegrations:\n  frameworks: [pod]\n"
    found = examine_kueue(text, inference(project="shop"), labels={"team": "shop"})

    assert [(finding.code, finding.severity) for finding in found] == ([] if managed else [("DOC197", "error")])


@pytest.mark.parametrize(
    ("timeout", "fields", "found"),
    [
        ("{timeout: 5m}", {}, ["DOC198"]),
        ("{timeout: 15m}", {}, []),
        ("{timeout: 5m}", {"servingConfiguration": {"initializationTimeoutSeconds": 300}}, []),
        ("{timeout: 4m59s}", {"servingConfiguration": {"initializationTimeoutSeconds": 300}}, ["DOC198"]),
        ("null", {}, []),
    ],
)
def test_kueue_must_not_delete_pods_that_start(timeout: str, fields: dict[str, Any], found: list[str]) -> None:
    text = f"waitForPodsReady: {timeout}\nintegrations:\n  frameworks: [pod]\n"

    findings = examine_kueue(text, inference(project="shop", **fields))
    assert [finding.code for finding in findings] == found
    assert {finding.severity for finding in findings} <= {"warning"}


@pytest.mark.parametrize(
    ("version", "configuration", "found"),
    [
        ("v0.18.2", "", []),
        ("v0.19.0", "", ["DOC198"]),
        ("v0.19.2", "waitForPodsReady: {blockAdmission: true}\n", ["DOC198"]),
        ("v0.19.2", "waitForPodsReady: {timeout: 3h}\n", []),
        ("v0.19.2", "waitForPodsReady: {enable: false}\n", []),
        ("v0.19.2", "featureGates: {DisableWaitForPodsReady: true}\n", []),
        ("main", "", []),
    ],
)
def test_kueue_0_19_deletes_slow_pods_by_default(version: str, configuration: str, found: list[str]) -> None:
    slow = inference(project="shop", servingConfiguration={"initializationTimeoutSeconds": 3600})
    text = f"{configuration}integrations:\n  frameworks: [pod]\n"

    assert [finding.code for finding in examine_kueue(text, slow, version=version)] == found


def examine_kueue(configuration: str, *specs: Inference, version: str = "", **projects: Any) -> tuple[Finding, ...]:
    """Return the findings for a cluster whose Kueue has this configuration."""
    cluster = furnished(kueue(**projects))
    if version:
        pod = {"containers": [{"name": "manager", "image": f"registry.k8s.io/kueue/kueue:{version}"}]}
        manager = make_bare(kube.DEPLOYMENT, "kueue-controller-manager", "kueue-system")
        cluster.put({**manager, "spec": {"template": {"spec": pod}}})
    changed(
        cluster,
        kube.CONFIG_MAP,
        "kueue-manager-config",
        "kueue-system",
        lambda obj: obj.update(data={"controller_manager_config.yaml": configuration}),
    )
    return doctor.examine_cluster(cluster, kueue(**projects), list(specs) or None)


def test_namespaces_that_cannot_be_read_may_be_managed_by_kueue() -> None:
    cluster = furnished(kueue())
    text = "managedJobsNamespaceSelector:\n  matchLabels: {team: shop}\nintegrations:\n  frameworks: [pod]\n"
    data = {"controller_manager_config.yaml": text}
    changed(cluster, kube.CONFIG_MAP, "kueue-manager-config", "kueue-system", lambda obj: obj.update(data=data))
    specs = [inference(project="shop")]
    assert "DOC197" in {row.code for row in doctor.examine_cluster(cluster, kueue(), specs)}
    cluster.denied.update((verb, kube.NAMESPACE.plural) for verb in ("get", "list"))
    assert "DOC197" not in {row.code for row in doctor.examine_cluster(cluster, kueue(), specs)}


def test_nodes_that_cannot_be_read_may_provide_a_resource() -> None:
    pool = {"name": "claimed", "devices": 1, "backend": "dra", "product": "NVIDIA-A100-SXM4-80GB"}
    cluster_profile = profile(nodePools=[pool], kubernetes={"version": "1.37", "dra": True})
    cluster = furnished(cluster_profile)
    plan = translate(inference(compute={"migProfile": "1g.10gb"}), cluster_profile, "{}").plan
    assert plan is not None
    assert {row.code for row in examine_plans(cluster, cluster_profile, [plan])} >= {"DOC200"}
    cluster.denied.update((verb, kube.NODE.plural) for verb in ("get", "list"))
    assert "DOC200" not in {row.code for row in examine_plans(cluster, cluster_profile, [plan])}


def test_the_parent_queue_of_the_projects_must_exist() -> None:
    cluster_profile = kai()
    cluster = furnished(cluster_profile)
    cluster.delete(kube.QUEUE, "default-parent-queue")
    (finding,) = doctor.examine_cluster(cluster, cluster_profile)

    assert (finding.code, finding.severity) == ("DOC026", "error")
    assert "queue default-parent-queue not found" in finding.what
    assert finding.patch is not None
    doctor.apply_fix_patch(cluster, finding.patch)
    assert format_findings(doctor.examine_cluster(cluster, cluster_profile)) == ""
    cluster.delete(kube.QUEUE, "default-parent-queue")
    assert format_findings(doctor.examine_cluster(cluster, kai(manage=False))) == "", (
        "the queues are not managed by Ebbtide"
    )
    cluster.denied.add(("list", "queues"))
    assert (
        format_findings(doctor.examine_cluster(cluster, cluster_profile))
        == "DOC001 forbidden: your account cannot read queues"
    )


def put_queue(cluster: Simulated, name: str, quota: int, parent: str = "") -> None:
    part = {"quota": quota, "limit": -1}
    spec = {"parentQueue": parent, "resources": dict.fromkeys(("cpu", "gpu", "memory"), part)}
    cluster.put({"apiVersion": "scheduling.run.ai/v2", "kind": "Queue", "metadata": {"name": name}, "spec": spec})


def test_a_workload_without_a_project_needs_a_quota_of_the_default_queue() -> None:
    cluster_profile = kai()
    cluster = furnished(cluster_profile)

    def found(**fields: Any) -> list[str]:
        workload = inference(project=None, autoscaling=SCALING, **fields)
        plan = translate(workload, cluster_profile, "{}").plan
        assert plan is not None
        rows = doctor.examine_cluster(cluster, cluster_profile, [workload])
        warnings = examine_plans(cluster, cluster_profile, [plan])
        assert {row.what for row in rows} >= {row.what for row in warnings}
        assert {row.severity for row in warnings} <= {"warning"}
        return [row.what for row in warnings if row.code == "DOC203"]

    assert found() == [], "the queue cannot be judged"
    put_queue(cluster, "default-queue", -1, "default-parent-queue")
    assert found() == []
    put_queue(cluster, "default-parent-queue", 0)
    assert "queue default-parent-queue has a quota of 0 for cpu and memory" in found()[0]
    put_queue(cluster, "default-queue", 0, "default-queue")
    assert "queue default-queue has a quota of 0 for cpu and memory" in found()[0]
    assert found(preemptibility="preemptible") == []
    queue = cluster.get(kube.QUEUE, "default-queue")
    for resource in ("cpu", "memory"):
        queue["spec"]["resources"][resource] = {"quota": -1, "limit": -1}
    cluster.put(queue)
    assert found() == [], "it requests no GPU"
    assert "queue default-queue has a quota of 0 for gpu" in found(compute={"gpuDevicesRequest": 1})[0]


@pytest.mark.parametrize(
    ("zero", "fields", "severity"),
    [
        (("cpu", "gpu", "memory"), {}, "error"),
        (("gpu",), {"compute": {"gpuDevicesRequest": 1}}, "error"),
        # The pods request no GPU, or may exceed the quota.
        (("gpu",), {}, "warning"),
        (("cpu", "gpu", "memory"), {"preemptibility": "preemptible"}, "warning"),
        (("cpu", "gpu", "memory"), {"project": None}, "warning"),
    ],
)
def test_an_apply_is_refused_if_no_pod_of_it_can_start_for_a_quota_of_zero(
    zero: tuple[str, ...], fields: dict[str, Any], severity: str
) -> None:
    cluster_profile = kai(known={"shop": {"gpus": 2}})
    cluster = furnished(cluster_profile)
    quotas = {resource: {"quota": 0 if resource in zero else -1, "limit": -1} for resource in ("cpu", "gpu", "memory")}
    changed(cluster, kube.QUEUE, "default-parent-queue", "", lambda obj: obj.update(spec={"resources": quotas}))
    plan = translate(inference(**{"project": "shop", "autoscaling": SCALING, **fields}), cluster_profile, "{}").plan
    assert plan is not None

    found = [row for row in examine_plans(cluster, cluster_profile, [plan]) if row.code == "DOC026"]

    assert [row.severity for row in found] == [severity]


def test_a_parent_queue_with_a_zero_quota_is_found() -> None:
    cluster_profile = kai(known={"shop": {"gpus": 2}})
    cluster = furnished(cluster_profile)
    # As KAI's Helm chart creates it: nothing guaranteed, nothing limited.
    part = {"quota": 0, "limit": -1, "overQuotaWeight": 1}
    changed(
        cluster,
        kube.QUEUE,
        "default-parent-queue",
        "",
        lambda obj: obj.update(spec={"resources": {"cpu": part, "gpu": part, "memory": {**part, "quota": 64000}}}),
    )
    (finding,) = doctor.examine_cluster(cluster, cluster_profile)

    assert (finding.code, finding.severity) == ("DOC026", "error")
    assert finding.what == "queue default-parent-queue has a quota of 0 for cpu, gpu"
    assert finding.patch is not None
    doctor.apply_fix_patch(cluster, finding.patch)
    assert format_findings(doctor.examine_cluster(cluster, cluster_profile)) == ""
    assert cluster.get(kube.QUEUE, "default-parent-queue")["spec"]["resources"] == {
        "cpu": {**part, "quota": -1},
        "gpu": {**part, "quota": -1},
        "memory": {**part, "quota": 64000},
    }


def test_the_observed_profile_has_the_parent_queue() -> None:
    cluster_profile = kai(parentQueue="research")
    cluster = furnished(cluster_profile)
    label = {keys.PROJECT: "shop"}
    put("Queue", "scheduling.run.ai/v2", "shop", labels=label, spec={"parentQueue": "research"})(cluster)
    put("Queue", "scheduling.run.ai/v2", "theirs", spec={"parentQueue": "other"})(cluster)

    assert observe_profile(cluster)["spec"]["projects"]["parentQueue"] == "research"


def with_histograms(*names: str) -> Simulated:
    """A cluster whose Prometheus has the counts of these gateways' histograms."""
    cluster = furnished()
    asked: list[str] = []
    find_gateway_histogram(asked.append, "http://prometheus-server.monitoring.svc:9090")
    cluster.paths[asked[0]] = {"status": "success", "data": [f"{name}_count" for name in names]}
    return cluster


def test_the_observed_profile_has_the_gateway_s_histogram() -> None:
    data = observe_profile(with_histograms("envoy_cluster_upstream_rq_time"))

    assert data["spec"]["metrics"]["gatewayLatency"] == "envoy_cluster_upstream_rq_time"
    assert "gatewayLatency" not in observe_profile(with_histograms())["spec"]["metrics"]


@pytest.mark.parametrize(
    ("served", "named", "words"),
    [
        (["istio_request_duration_milliseconds"], None, "has istio_request_duration_milliseconds"),
        ([], None, "has no response times of the gateway"),
        ([], "envoy_cluster_upstream_rq_time", "envoy_cluster_upstream_rq_time has no values"),
        (["envoy_cluster_upstream_rq_time"], "envoy_cluster_upstream_rq_time", ""),
        ([], "my_gateway_seconds", ""),
    ],
)
def test_a_gateway_that_is_not_measured_is_a_warning(served: list[str], named: str | None, words: str) -> None:
    cluster = with_histograms(*served)
    found = doctor.examine_cluster(cluster, profile(metrics={"gatewayLatency": named}))

    assert [finding.code for finding in found] == (["DOC027"] if words else [])
    assert all(words in finding.what for finding in found)


def with_jobs(exporter: str, jobs: dict[str, list[str]], *, renamed: bool = False) -> Simulated:
    """A cluster whose Prometheus has series of an exporter from these jobs, by the namespaces of their targets."""
    cluster = furnished()
    put("Namespace", "v1", "runai-team-a", labels={keys.PROJECT: "team-a"})(cluster)
    asked: list[str] = []
    find_exporter_jobs(asked.append, "http://prometheus-server.monitoring.svc:9090")
    rows = [{"metric": {"job": job, "namespace": place}} for job, places in jobs.items() for place in places]
    for path, name in zip(asked, EXPORTERS, strict=True):
        cluster.paths[path] = {"status": "success", "data": {"result": rows if name == exporter else []}}
    find_renaming_jobs(asked.append, "http://prometheus-server.monitoring.svc:9090")
    own = [{"metric": {"job": job}} for job in jobs if renamed]
    cluster.paths[asked[-1]] = {"status": "success", "data": {"result": own}}
    return cluster


OPERATOR = {"job": "nvidia-dcgm-exporter", "namespace": "gpu-operator", "renamed": True}


@pytest.mark.parametrize(
    ("exporter", "jobs", "proposed", "words"),
    [
        ("gpu", {"nvidia-dcgm-exporter": ["gpu-operator"]}, OPERATOR, "from job nvidia-dcgm-exporter, and none from"),
        ("gpu", {"kubernetes-pods": ["gpu-operator", "runai-team-a"]}, None, "from job kubernetes-pods"),
        ("gpu", {"one": ["a"], "other": ["b"]}, None, "from job one and other"),
        ("gpu", {"monitoring/ebbtide-dcgm-exporter": ["monitoring"], "pods": ["runai-team-a"]}, None, ""),
        ("gpu", {"monitoring/ebbtide-dcgm-exporter": ["runai-team-a"]}, None, "also scrapes pods of projects"),
        ("autoscaler", {"knative": ["knative-serving"]}, {"job": "knative"}, "series of Knative's autoscaler"),
        ("deployments", {"kube-state-metrics": ["monitoring"]}, None, ""),
    ],
)
def test_an_exporter_of_another_job_is_proposed_only_without_pods_of_projects(
    exporter: str, jobs: dict[str, list[str]], proposed: dict[str, Any] | None, words: str
) -> None:
    cluster = with_jobs(exporter, jobs, renamed=exporter == "gpu")
    found = [finding for finding in doctor.examine_cluster(cluster, profile()) if finding.code == "DOC074"]

    assert observe_profile(cluster)["spec"]["metrics"].get("exporters", {}).get(exporter) == proposed
    assert [words in finding.what for finding in found] == ([True] if words else [])
    assert all(
        (f"metrics.exporters.{exporter} in the profile to" in finding.fix) == bool(proposed) for finding in found
    )


@pytest.mark.parametrize(
    ("count", "adapter", "fix"),
    [
        ("40", "keda", ""),
        ("37", "keda", ""),
        ("20", "none", ""),
        ("20", "keda", "scrapeIntervalSeconds: 30"),
        ("10", "keda", "scrapeIntervalSeconds: 60"),
        ("5", "none", "every 60 s"),
        ("0", "none", ""),
        ("NaN", "none", ""),
    ],
)
def test_pods_that_are_scraped_too_rarely_are_a_warning(count: str, adapter: str, fix: str) -> None:
    cluster = furnished()
    put("Namespace", "v1", "runai-team-a", labels={keys.PROJECT: "team-a"})(cluster)
    asked: list[str] = []
    find_scrape_intervals(asked.append, "http://prometheus-server.monitoring.svc:9090")
    row = {"metric": {"job": "monitoring/ebbtide-servers", "namespace": "runai-team-a"}, "value": [1.0, count]}
    other = {"metric": {"job": "node", "namespace": "kube-system"}, "value": [1.0, "2"]}
    cluster.paths[asked[0]] = {"status": "success", "data": {"result": [row, other]}}
    found = [
        finding
        for finding in doctor.examine_cluster(cluster, profile(metrics={"adapter": adapter}))
        if finding.code == "DOC075"
    ]

    assert [fix in finding.fix for finding in found] == ([True] if fix else [])


def test_the_profile_of_a_bare_cluster_is_valid() -> None:
    cluster = simulated()
    cluster.paths = {"/version": {"gitVersion": "v1.30.1"}}
    cluster_profile, problems = profiles.validate_profile_data(observe_profile(cluster))

    assert cluster_profile is not None, problems
    assert (cluster_profile.spec.knative.installed, cluster_profile.spec.kserve.installed) == (False, False)
    assert cluster_profile.spec.metrics.adapter == "none"
    assert format_findings(doctor.examine_cluster(cluster, cluster_profile)) == ""


# The command.


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    return connected(furnished(), monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(manifests.write_document(PROFILE))
    return path


@pytest.mark.usefixtures("cluster")
def test_the_command_prints_a_summary(run: Any, file: Path) -> None:
    code, out, err = run("doctor", "--profile", file)

    assert (code, err) == (0, "")
    assert out == "Kubernetes 1.37.0, Knative 1.21.0, KServe 0.20.0, 1 node; profile simulated: no problems found\n"


def test_the_command_reports_fixes_after_confirmation_and_checks_again(
    cluster: Simulated, run: Any, file: Path
) -> None:
    BROKEN["a flag off"][0](cluster)
    code, out, _ = run("doctor", "--profile", file)
    assert code == 1
    assert f"error DOC005 {PRIORITY} is disabled in config-features" in out
    assert "    --fix: kubectl patch configmaps config-features -n knative-serving --type merge" in out

    code, _, err = run("doctor", "--profile", file, "--fix")
    assert code == 2
    assert "Apply this patch to the cluster? Cannot prompt for confirmation" in err
    assert cluster.get(kube.CONFIG_MAP, "config-features", SERVING)["data"][PRIORITY] == "disabled"

    code, out, err = run("doctor", "--profile", file, "--fix", "-y")
    assert code == 0
    assert "patched ConfigMap knative-serving/config-features" in err
    assert out.endswith("; profile simulated: no problems found\n")
    obj = cluster.get(kube.CONFIG_MAP, "config-features", SERVING)
    assert obj["data"][PRIORITY] == "enabled"
    assert obj["data"][CLAIM] == "enabled"
    assert {row["manager"] for row in obj["metadata"]["managedFields"]} == {"ebbtide-live"}


def test_a_finding_that_remains_after_the_fix_is_explained_once(cluster: Simulated, run: Any, file: Path) -> None:
    BROKEN["a flag off"][0](cluster)
    BROKEN["no webhook"][0](cluster)
    before = run("doctor", "--profile", file).out

    code, out, _ = run("doctor", "--profile", file, "--fix", "-y")

    assert code == 1
    assert out.startswith(before)
    assert out.removeprefix(before).splitlines() == [
        "Kubernetes 1.37.0, Knative 1.21.0, KServe 0.20.0, 1 node; profile simulated: 1 error, 0 warnings",
        "error DOC004 Knative's webhook is not running",
    ]


def test_a_rejected_patch_writes_nothing(
    cluster: Simulated, run: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    BROKEN["a flag off"][0](cluster)
    BROKEN["no class"][0](cluster)

    def refuse(*_: Any, **__: Any) -> None:
        raise ClusterError("a webhook rejects it")

    monkeypatch.setattr(type(cluster), "apply", refuse)
    code, _, err = run("doctor", "--profile", file, "--fix", "-y")

    assert code == 3
    assert "a webhook rejects it" in err
    assert cluster.get(kube.CONFIG_MAP, "config-features", SERVING)["data"][PRIORITY] == "disabled"


def test_output_formats(cluster: Simulated, run: Any, file: Path) -> None:
    BROKEN["a flag off"][0](cluster)

    assert run("doctor", "--profile", file, "-o", "name").out == "DOC005\n"
    (finding,) = json.loads(run("doctor", "--profile", file, "-o", "json").out)
    assert finding["patch"]["body"] == {"data": {PRIORITY: "enabled"}}
    assert "DOC005" in run("doctor", "--profile", file, "-o", "yaml").out
    assert json.loads(run("doctor", "--profile", file, "--fix", "-y", "-o", "json").out) == [], "only what remains"


def test_a_finding_without_a_patch_is_reported_by_fix(cluster: Simulated, run: Any, file: Path) -> None:
    BROKEN["no activator"][0](cluster)
    code, _, err = run("doctor", "--profile", file, "--fix", "-y")

    assert code == 1
    assert "No finding can be fixed with a patch." in err


def test_a_profile_is_written_and_read_back(cluster: Simulated, run: Any, tmp_path: Path) -> None:
    del cluster
    written = tmp_path / "seen.yaml"
    code, out, err = run("doctor", "--write-profile", written)

    assert (code, out) == (0, "")
    assert str(written) in err
    assert yaml.safe_load(written.read_text())["metadata"] == {"name": "observed"}
    assert run("doctor", "--profile", written).code == 0
    assert run("doctor", "--write-profile", "-").out == written.read_text()
    code, _, err = run("doctor", "--write-profile", tmp_path / "none" / "seen.yaml")
    assert code == 2
    assert "error: cannot write " in err
    assert "no such file or directory" in err


@pytest.mark.usefixtures("cluster")
def test_a_spec_with_problems_is_reported_first(run: Any, file: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata: {name: x}\nspec: {image: 3}\n")
    code, out, err = run("doctor", "--profile", file, wrong)

    assert (code, out) == (1, "")
    assert "SPEC" in err
    fine = tmp_path / "chat.yaml"
    fine.write_text(manifests.write_document(spec()))
    assert run("doctor", "--profile", file, fine).code == 0


STANDARD_ROUTES: dict[str, tuple[dict[str, Any], list[Object], str]] = {
    "no route": ({"disableIngressCreation": True}, [], "KServe creates no route to chat"),
    "no class": ({"ingressClassName": "nginx"}, [], "but IngressClass nginx was not found"),
    "no default class": ({}, [make_bare(kube.INGRESS_CLASS, "nginx")], "but no IngressClass is the default"),
    "no gateway": ({"enableGatewayApi": True}, [], "Gateway kserve/kserve-ingress-gateway, which was not found"),
    "a class": ({"ingressClassName": "nginx"}, [make_bare(kube.INGRESS_CLASS, "nginx")], ""),
    "a gateway": (
        {"enableGatewayApi": True, "kserveIngressGateway": "edge/main"},
        [make_bare(kube.GATEWAY, "main", "edge")],
        "",
    ),
}


@pytest.mark.parametrize("name", STANDARD_ROUTES)
def test_standard_mode_needs_something_that_serves_its_urls(name: str) -> None:
    settings, objects, words = STANDARD_ROUTES[name]
    cluster = furnished(profile())
    for obj in objects:
        cluster.put(obj)
    changed(
        cluster,
        kube.CONFIG_MAP,
        observed.KSERVE_MAP,
        observed.KSERVE_NAMESPACE,
        lambda obj: obj["data"].update({"ingress": json.dumps(settings)}),
    )
    both = profile(kserve={"modes": ["Knative", "Standard"]})
    translation = translate(
        inference(serving="kserve-standard", autoscaling={"minReplicas": 1, "maxReplicas": 1}), both, "{}"
    )
    plan = translation.plan
    assert plan is not None, translation.problems

    found = examine_plans(cluster, plan.profile, [plan])

    assert [finding.code for finding in found] == (["DOC038"] if words else [])
    assert all(words in finding.what for finding in found)


def test_a_missing_scheduler_is_an_error_before_an_apply() -> None:
    by_kai = profile(scheduling={**PROFILE["spec"]["scheduling"], "scheduler": "kai-scheduler"})
    plan = translate(inference(autoscaling=SCALING), by_kai, "{}").plan
    assert plan is not None

    (finding,) = examine_plans(furnished(profile()), by_kai, [plan])

    assert (finding.code, finding.severity) == ("DOC016", "error")


def test_what_keeps_pods_from_starting_is_a_warning_before_an_apply() -> None:
    cluster_profile = kai(known={"shop": {"gpus": 2}})
    cluster = furnished(cluster_profile)
    whole, part, none = (
        translate(inference(compute=compute, autoscaling=SCALING), cluster_profile, "{}").plan
        for compute in ({"gpuDevicesRequest": 1}, {"gpuPortionRequest": 0.5}, {})
    )
    assert whole is not None
    assert part is not None
    assert none is not None
    assert examine_plans(cluster, cluster_profile, [whole, part]) == ()

    for kind, name in (
        (kube.RUNTIME_CLASS, "nvidia"),
        (kube.PRIORITY_CLASS, "inference"),
        (kube.QUEUE, "default-parent-queue"),
    ):
        cluster.delete(kind, name)
    cluster.delete(kube.PRIORITY_CLASS, "train")
    found = examine_plans(cluster, cluster_profile, [part])
    assert [(row.code, row.severity) for row in found] == [
        ("DOC013", "warning"),
        ("DOC026", "warning"),
        ("DOC048", "warning"),
    ]
    assert [row.code for row in examine_plans(cluster, cluster_profile, [whole])] == ["DOC013", "DOC026"]
    assert [row.code for row in examine_plans(cluster, cluster_profile, [none])] == ["DOC013", "DOC026"]

    cluster.denied |= {("list", kind.plural) for kind in (kube.RUNTIME_CLASS, kube.PRIORITY_CLASS, kube.QUEUE)}
    assert examine_plans(cluster, cluster_profile, [part]) == ()


def lease(namespace: str, seconds: float, holder: str = "host_1") -> Object:
    """Return a controller's Lease that was renewed some seconds ago."""
    renewed = datetime.now(UTC) - timedelta(seconds=seconds)
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": "ebbtide-controller",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "ebbtide-controller"},
        },
        "spec": {"holderIdentity": holder, "renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
    }


@pytest.mark.parametrize(
    ("leases", "code", "words"),
    [
        ((), "DOC071", "Ebbtide's controller is not running, but chat needs it"),
        ((("ebbtide-controller", 600),), "DOC071", "controller host_1 stopped 10 min ago"),
        ((("ebbtide-controller", 1, ""),), "DOC071", "is not running"),
        ((("ebbtide-controller", 1),), "", ""),
        ((("a", 1), ("b", 2), ("c", 900)), "DOC070", "lead in 2 namespaces: a, b"),
    ],
)
def test_a_controller_that_is_missing_stale_or_doubled_is_reported(
    leases: tuple[tuple[Any, ...], ...], code: str, words: str
) -> None:
    controlled = profile(autoscaling={"controller": True})
    scaled = inference(autoscaling={**SCALING, "minReplicas": 0, "metric": "queue_length", "metricThreshold": 3})
    translation = translate(scaled, controlled, "{}")
    plan = translation.plan
    assert plan is not None, translation.problems
    assert plan.scaling.scaler == "controller"
    cluster = furnished(controlled)
    for arguments in leases:
        cluster.put(lease(*arguments))

    found = [finding for finding in examine_plans(cluster, controlled, [plan]) if finding.code in {"DOC070", "DOC071"}]

    assert [finding.code for finding in found] == ([code] if code else [])
    assert all(words in finding.what for finding in found)
    runs = any(observe_profile(cluster)["spec"].get("autoscaling", {}).values())
    assert runs == (code != "DOC071")


DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferences.ebbtide.dev"


def definition() -> Object:
    file = Path(__file__).parents[2] / "kustomize" / "crd" / "inferences.yaml"
    (document,) = manifests.read_documents(file.read_bytes(), file.name)
    return copy.deepcopy(document.data)


def resource(name: str, age: float, status: Object | None = None) -> Object:
    """Return a custom resource that was created some seconds ago."""
    created = (datetime.now(UTC) - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata = {"name": name, "namespace": "team-a", "generation": 2, "creationTimestamp": created}
    item: Object = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": metadata, "spec": {}}
    return item if status is None else {**item, "status": status}


@pytest.mark.parametrize(
    ("leases", "items", "code", "severity", "words"),
    [
        ((), (), "DOC189", "warning", "custom resources are installed, but Ebbtide's controller is not running"),
        (
            (("a", 600),),
            (("chat", 90),),
            "DOC189",
            "error",
            "stopped 10 min ago, and team-a/chat waits for it",
        ),
        ((("a", 1),), (("chat", 90), ("new", 5)), "DOC190", "error", "does not apply team-a/chat"),
        ((("a", 1),), (("chat", 90, {"observedGeneration": 1}),), "DOC190", "error", "team-a/chat"),
        ((("a", 1),), (("chat", 90, {"observedGeneration": 2}),), "", "", ""),
        ((("a", 1),), (("chat", 5),), "", "", ""),
    ],
)
def test_custom_resources_that_nothing_applies_are_reported(
    leases: tuple[tuple[Any, ...], ...], items: tuple[tuple[Any, ...], ...], code: str, severity: str, words: str
) -> None:
    cluster = furnished()
    cluster.paths[DEFINITION] = definition()
    for arguments in leases:
        cluster.put(lease(*arguments))
    for arguments in items:
        cluster.put(resource(*arguments))

    found = [row for row in doctor.examine_cluster(cluster, profile()) if row.code in {"DOC189", "DOC190"}]

    assert [(row.code, row.severity) for row in found] == ([(code, severity)] if code else [])
    assert all(words in row.what for row in found)
