"""Doctor on the simulated cluster: a cluster as its profile says has no finding; each thing that breaks has its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ebbtide import manifests
from ebbtide.base import keys
from ebbtide.base.bodies import serialize
from ebbtide.cluster.client.protocol import (
    CONFIG_MAP,
    DEPLOYMENT,
    DOMAIN_CLAIM,
    HPA,
    NAMESPACE,
    NETWORK_POLICY,
    NODE,
    PRIORITY_CLASS,
    QUEUE,
    QUOTA,
    SERVICE,
    ClusterError,
)
from ebbtide.cluster.doctor import checks as doctor
from ebbtide.cluster.doctor import observed
from ebbtide.documents import load, profiles
from ebbtide.profile.built_in import BUILT_IN
from ebbtide.sandbox.furnished import furnish
from live_cluster import PROFILE, SCALING, connected, simulated, spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ebbtide.cluster.doctor.findings import Finding
    from ebbtide.profile.models import Profile
    from ebbtide.sandbox.simulated import Simulated
    from ebbtide.spec.inference import Inference
    from ebbtide.translation.objects import Object

SERVING = "knative-serving"
PRIORITY = "kubernetes.podspec-priorityclassname"
CLAIM = "kubernetes.podspec-persistent-volume-claim"


def profile(**parts: Any) -> Profile:
    """The tests' profile, with parts of its spec laid over."""
    data = json.loads(json.dumps(PROFILE))
    for name, values in parts.items():
        inside = data["spec"].setdefault(name, {})
        data["spec"][name] = {**inside, **values} if isinstance(values, dict) else values
    found, problems = profiles.validate(data)
    assert found is not None, problems
    return found


def furnished(made: Profile | None = None) -> Simulated:
    cluster = simulated()
    furnish(cluster, made or profile())
    return cluster


def inference(name: str = "chat", **fields: Any) -> Inference:
    loaded = load(spec(name, **fields), profile())
    assert loaded.inference is not None, loaded.problems
    return loaded.inference


def changed(cluster: Simulated, kind: Any, name: str, namespace: str, change: Callable[[Object], object]) -> None:
    item = cluster.get(kind, name, namespace)
    change(item)
    cluster.put(item)


def mapped(part: str, **data: str) -> Callable[[Simulated], None]:
    """Set keys of a ConfigMap of Knative, with underscores for dashes."""

    def break_(cluster: Simulated) -> None:
        told = {key.replace("__", ".").replace("_", "-"): value for key, value in data.items()}
        changed(cluster, CONFIG_MAP, f"config-{part}", SERVING, lambda item: item["data"].update(told))

    return break_


def gone(kind: Any, name: str, namespace: str = "") -> Callable[[Simulated], None]:
    return lambda cluster: cluster.delete(kind, name, namespace)


def unserved(path: str) -> Callable[[Simulated], None]:
    def break_(cluster: Simulated) -> None:
        del cluster.paths[path]

    return break_


def node(change: Callable[[Object], object]) -> Callable[[Simulated], None]:
    return lambda cluster: changed(cluster, NODE, "node-1", "", change)


def put(kind: str, version: str, name: str, namespace: str = "", **fields: Any) -> Callable[[Simulated], None]:
    labels = fields.pop("labels", {})
    metadata = {"name": name, "labels": labels, **({"namespace": namespace} if namespace else {})}
    return lambda cluster: cluster.put({"apiVersion": version, "kind": kind, "metadata": metadata, **fields})


def not_available(item: Object) -> None:
    item["status"]["availableReplicas"] = 0


def kserve_list(item: Object) -> None:
    item["data"]["inferenceService"] = json.dumps({"serviceAnnotationDisallowedList": ["other"], "resource": {}})


def class_at(value: int) -> Callable[[Simulated], None]:
    return lambda cluster: changed(cluster, PRIORITY_CLASS, "build", "", lambda item: item.update(value=value))


ORPHAN = {"scaleTargetRef": {"name": "lost-predictor"}, "maxReplicas": 2}
HPA_LABELS = {keys.APP_MANAGED_BY: "ebbtide"}
#: What breaks the cluster, the code that says so, and a part of the words.
BROKEN: dict[str, tuple[Callable[[Simulated], None], str, str]] = {
    "another Kubernetes": (
        lambda cluster: cluster.paths.update({"/version": {"gitVersion": "v1.31.2+k3s1"}}),
        "DOC002",
        "Kubernetes is 1.31.2 here, and the profile says 1.34",
    ),
    "another Knative": (
        lambda cluster: changed(
            cluster,
            DEPLOYMENT,
            "controller",
            SERVING,
            lambda item: item["metadata"]["labels"].update({observed.VERSION_LABEL: "1.18.0"}),
        ),
        "DOC002",
        "Knative is 1.18.0 here",
    ),
    "no KServe": (unserved("/apis/serving.kserve.io/v1beta1"), "DOC003", "KServe is not here"),
    "no activator": (
        lambda cluster: changed(cluster, DEPLOYMENT, "activator", SERVING, not_available),
        "DOC004",
        "Knative's activator does not run",
    ),
    "no KServe controller": (
        lambda cluster: changed(cluster, DEPLOYMENT, "kserve-controller-manager", "kserve", not_available),
        "DOC004",
        "KServe's kserve-controller-manager does not run",
    ),
    "no webhook": (gone(DEPLOYMENT, "webhook", SERVING), "DOC004", "Knative's webhook does not run"),
    "a flag off": (
        mapped("features", kubernetes__podspec_priorityclassname="disabled"),
        "DOC005",
        f"{PRIORITY} is disabled in config-features, and the profile says enabled",
    ),
    "a flag on that nobody knows of": (
        mapped("features", kubernetes__podspec_fieldref="enabled"),
        "DOC006",
        "kubernetes.podspec-fieldref is enabled in config-features, and the profile does not say so",
    ),
    "a setting": (
        mapped("autoscaler", stable_window="20s"),
        "DOC006",
        "stable-window is 20s in config-autoscaler, and the profile does not say so",
    ),
    "no HPA extension": (gone(DEPLOYMENT, "autoscaler-hpa", SERVING), "DOC007", "HPA extension does not run here"),
    "no metrics-server": (unserved("/apis/metrics.k8s.io/v1beta1"), "DOC008", "metrics.k8s.io is not served"),
    "no adapter": (unserved(observed.CUSTOM_METRICS), "DOC008", "custom.metrics.k8s.io is not served"),
    "KServe's list": (
        lambda cluster: changed(cluster, CONFIG_MAP, "inferenceservice-config", "kserve", kserve_list),
        "DOC010",
        "serviceAnnotationDisallowedList lacks ebbtide.dev/spec, ebbtide.dev/scale",
    ),
    "a class's value": (class_at(125), "DOC012", "priority class build has the value 125 here"),
    "no class": (gone(PRIORITY_CLASS, "train"), "DOC013", "there is no priority class train here"),
    "another GPU": (
        node(lambda item: item["metadata"]["labels"].update({keys.GPU_PRODUCT: "NVIDIA-L4-SHARED"})),
        "DOC014",
        "its nodes have NVIDIA-L4",
    ),
    "no share": (
        node(lambda item: item["status"]["allocatable"].pop(keys.GPU_SHARED)),
        "DOC015",
        "no node of node pool shared has nvidia.com/gpu.shared to give",
    ),
    "fewer shares": (
        node(lambda item: item["status"]["allocatable"].update({keys.GPU_SHARED: "2"})),
        "DOC015",
        "has 2 nvidia.com/gpu.shared to give, and the profile says 1 GPU in 4 shares each",
    ),
    "no Prometheus": (
        gone(SERVICE, "prometheus-server", "monitoring"),
        "DOC018",
        "there is no service prometheus-server in namespace monitoring",
    ),
    "no gateway": (gone(SERVICE, "kourier", "kourier-system"), "DOC019", "there is no service kourier in namespace"),
    "an HPA without its Deployment": (
        put("HorizontalPodAutoscaler", "autoscaling/v2", "lost", "default", spec=ORPHAN, labels=HPA_LABELS),
        "DOC024",
        "HPA default/lost scales Deployment lost-predictor, which is not there",
    ),
    "what may not be read": (lambda cluster: cluster.denied.add(("list", "nodes")), "DOC001", "you may not read nodes"),
    "what may not be done": (
        lambda cluster: cluster.denied.update({("create", "services"), ("list", "pods")}),
        "DOC023",
        "you may not create services in namespace default",
    ),
}


def said(findings: tuple[Finding, ...]) -> str:
    return "\n".join(f"{finding.code} {finding.what}" for finding in findings)


def test_a_cluster_as_its_profile_says_has_no_finding() -> None:
    assert said(doctor.examine(furnished(), profile())) == ""


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found_and_nothing_else(name: str) -> None:
    break_, code, words = BROKEN[name]
    cluster = furnished()
    break_(cluster)
    findings = doctor.examine(cluster, profile())

    assert {finding.code for finding in findings} == {code}, said(findings)
    assert words in said(findings)
    assert all(finding.means and finding.fix for finding in findings)
    assert json.loads(json.dumps(serialize(findings)))


@pytest.mark.parametrize("name", ["a flag off", "KServe's list", "no class", "an HPA without its Deployment"])
def test_a_patch_mends_it_and_a_dry_run_of_it_does_not(name: str) -> None:
    cluster = furnished()
    BROKEN[name][0](cluster)
    (finding,) = doctor.examine(cluster, profile())
    assert finding.patch is not None
    doctor.mend(cluster, finding.patch, dry_run=True)
    assert doctor.examine(cluster, profile()) == (finding,)

    doctor.mend(cluster, finding.patch)
    assert said(doctor.examine(cluster, profile())) == ""


def test_a_patch_of_a_map_leaves_its_other_keys_and_kserve_s_other_settings() -> None:
    cluster = furnished()
    BROKEN["KServe's list"][0](cluster)
    changed(cluster, CONFIG_MAP, "inferenceservice-config", "kserve", lambda item: item["data"].update(deploy="{}"))
    (finding,) = doctor.examine(cluster, profile())
    assert finding.patch is not None
    doctor.mend(cluster, finding.patch)
    data = cluster.get(CONFIG_MAP, "inferenceservice-config", "kserve")["data"]

    assert data["deploy"] == "{}"
    assert json.loads(data["inferenceService"]) == {
        "serviceAnnotationDisallowedList": ["other", "ebbtide.dev/spec", "ebbtide.dev/scale"],
        "resource": {},
    }


def test_what_the_profile_says_of_a_map_is_compared_by_meaning() -> None:
    said_ = {"autoscaler": {"stable-window": "1m", "max-scale-up-rate": "1000.0"}}
    made = profile(knative={**PROFILE["spec"]["knative"], **said_})
    cluster = furnished(made)
    changed(cluster, CONFIG_MAP, "config-autoscaler", SERVING, lambda item: item.update(data={}))

    assert said(doctor.examine(cluster, made)) == ""
    mapped("autoscaler", stable_window="20s")(cluster)
    (finding,) = doctor.examine(cluster, made)
    assert finding.what == "stable-window is 20s in config-autoscaler, and the profile says 1m"
    assert str(finding.patch) == (
        "kubectl patch configmaps config-autoscaler -n knative-serving --type merge "
        """-p '{"data": {"stable-window": "1m"}}'"""
    )


# What the profile denies.


@pytest.mark.parametrize(
    ("parts", "code", "words"),
    [
        ({"kserve": {"installed": False}}, "DOC003", "KServe is here, and the profile says that it is not"),
        ({"knative": {"hpa": False}}, "DOC007", "HPA extension runs here, and the profile says otherwise"),
        ({"kserve": {"annotationDisallowList": []}}, "DOC010", "and the profile does not say so"),
        ({"kserve": {"runtimes": ["huggingface"]}}, "DOC011", "the serving runtimes huggingface are not here"),
        ({"scheduling": {"scheduler": "kai-scheduler"}}, "DOC016", "KAI-Scheduler is not here"),
        ({"metrics": {"adapter": "keda"}}, "DOC008", "KEDA is not here"),
        ({"domain": "other.example"}, "DOC006", "services are published under example.com"),
        (
            {"nodePools": [{"name": "big", "selector": {"size": "big"}}]},
            "DOC014",
            "no node has the labels of node pool",
        ),
    ],
)
def test_what_only_the_profile_says_is_found(parts: dict[str, Any], code: str, words: str) -> None:
    findings = doctor.examine(furnished(), profile(**parts))

    assert {finding.code for finding in findings} == {code}, said(findings)
    assert words in said(findings)


def test_a_quota_that_is_another_is_told_before_an_apply_sets_it() -> None:
    made = profile(projects={**PROFILE["spec"]["projects"], "known": {"shop": {"gpus": 1}}})
    cluster = furnished(made)
    hard = {"requests.nvidia.com/gpu.shared": "2"}
    put("ResourceQuota", "v1", "ebbtide-guaranteed", "team-shop", spec={"hard": hard})(cluster)
    (finding,) = doctor.examine(cluster, made)

    assert (finding.code, finding.severity) == ("DOC017", "warning")
    assert "of project shop is requests.nvidia.com/gpu.shared 2 here, and the profile says" in finding.what
    cluster.delete(QUOTA, "ebbtide-guaranteed", "team-shop")
    assert said(doctor.examine(cluster, made)) == ""


def test_a_quota_of_claims_is_compared_as_well() -> None:
    pool = {"name": "claimed", "devices": 1, "backend": "dra"}
    made = profile(
        projects={**PROFILE["spec"]["projects"], "known": {"shop": {"gpus": 1, "cpu": 4}}},
        nodePools=[*PROFILE["spec"]["nodePools"], pool],
    )
    cluster = furnished(made)
    hard = {"gpu.nvidia.com.deviceclass.resource.k8s.io/devices": "2"}
    put("ResourceQuota", "v1", "ebbtide-claims", "team-shop", spec={"hard": hard})(cluster)
    (finding,) = doctor.examine(cluster, made)

    assert finding.code == "DOC017"
    assert "devices 2 here, and the profile says gpu.nvidia.com.deviceclass" in finding.what


def test_a_pool_with_media_engines_is_found_by_its_resource() -> None:
    pool = {
        "name": "cut",
        "product": "NVIDIA-A100-SXM4-80GB",
        "devices": 1,
        "backend": "mig",
        "migProfiles": ["1g.10gb+me"],
    }
    made = profile(nodePools=[pool])
    cluster = furnished(made)

    assert "nvidia.com/mig-1g.10gb.me" in cluster.gpus
    assert said(doctor.examine(cluster, made)) == ""
    pools = doctor.observed_profile(cluster)["spec"]["nodePools"]
    assert ["1g.10gb+me"] in [each.get("migProfiles") for each in pools]


@pytest.mark.parametrize(
    ("fields", "resource"),
    [
        ({"backend": "mig"}, "nvidia.com/mig-1g.10gb"),
        ({"backend": "mps", "replicas": 4, "resource": "nvidia.com/gpu.mps"}, "nvidia.com/gpu.mps"),
    ],
    ids=["any MIG profile", "a resource of the profile's"],
)
def test_a_pool_is_looked_up_by_the_resources_that_its_profile_allows(fields: dict[str, Any], resource: str) -> None:
    made = profile(nodePools=[{"name": "gpus", "product": "NVIDIA-A100-SXM4-80GB", "devices": 1, **fields}])
    cluster = furnished(made)

    assert resource in cluster.gpus
    assert said(doctor.examine(cluster, made)) == ""


# For specs.


def examined(cluster: Simulated, *specs: Inference, **parts: Any) -> tuple[Finding, ...]:
    return doctor.examine(cluster, profile(**parts), list(specs))


def test_for_specs_only_what_they_need_is_an_error() -> None:
    cluster = furnished()
    mapped("features", kubernetes__podspec_persistent_volume_claim="disabled")(cluster)
    claim = {"pvc": [{"path": "/data", "claimInfo": {"size": "1Gi", "accessModes": {"readWriteOnce": True}}}]}
    (alone,) = doctor.examine(cluster, profile())
    (needless,) = examined(cluster, inference())
    (needed,) = examined(cluster, inference(), inference("store", storage=claim))

    assert [finding.severity for finding in (alone, needless, needed)] == ["error", "warning", "error"]
    assert needed.means == "Knative's webhook refuses what needs it (store)"


def test_a_pool_that_no_spec_uses_is_a_warning() -> None:
    cluster = furnished()
    node(lambda item: item["status"]["allocatable"].pop(keys.GPU_SHARED))(cluster)

    assert [finding.severity for finding in examined(cluster, inference())] == ["warning"]
    gpu = inference(compute={"gpuPortionRequest": 0.25})
    assert [finding.severity for finding in examined(cluster, gpu)] == ["error"]


def test_a_metric_that_is_not_served_yet_is_a_warning_for_who_scales_by_it() -> None:
    measured = {**PROFILE["spec"]["knative"], "observability": {"request-metrics-protocol": "prometheus"}}
    cluster = furnished(profile(knative=measured))
    cluster.paths[observed.CUSTOM_METRICS] = {"resources": []}
    latency = {"minReplicas": 1, "maxReplicas": 2, "metric": "latency", "metricThreshold": 300}

    assert said(examined(cluster, inference(autoscaling=SCALING), knative=measured)) == ""
    (finding,) = examined(cluster, inference(autoscaling=latency), knative=measured)
    assert (finding.code, finding.severity) == ("DOC009", "warning")
    assert "request_latency_p95_milliseconds of pods now, which chat scales by" in finding.what


def test_a_spec_that_does_not_translate_is_a_finding() -> None:
    latency = {"minReplicas": 1, "maxReplicas": 2, "metric": "latency", "metricThreshold": 300}
    (finding,) = examined(furnished(), inference(autoscaling=latency))

    assert (finding.code, finding.severity) == ("DOC025", "error")
    assert "chat does not translate for profile simulated: AUT029 spec.autoscaling.metric: " in finding.what


def test_a_host_name_needs_a_claim_for_its_namespace() -> None:
    cluster = furnished()
    chat = inference(exposedUrls=[{"container": 8080, "url": "https://chat.example.org"}])
    (finding,) = examined(cluster, chat)
    assert (finding.code, finding.severity) == ("DOC020", "error")
    assert finding.patch is not None
    doctor.mend(cluster, finding.patch)
    assert said(examined(cluster, chat)) == ""

    changed(cluster, DOMAIN_CLAIM, "chat.example.org", "", lambda item: item["spec"].update(namespace="other"))
    assert "chat.example.org belongs to namespace other" in said(examined(cluster, chat))
    mapped("network", autocreate_cluster_domain_claims="true")(cluster)
    assert said(examined(cluster, chat)) == ""


def test_a_policy_that_lets_nobody_in_is_found() -> None:
    cluster = furnished()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-shop"}})
    deny = {"podSelector": {}, "policyTypes": ["Ingress"]}
    put("NetworkPolicy", "networking.k8s.io/v1", "deny", "team-shop", spec=deny)(cluster)
    (finding,) = examined(cluster, inference())

    assert (finding.code, finding.severity) == ("DOC021", "error")
    allow: Object = {"podSelector": {}, "ingress": [{}]}
    put("NetworkPolicy", "networking.k8s.io/v1", "allow", "team-shop", spec=allow)(cluster)
    assert said(examined(cluster, inference())) == ""
    cluster.denied.add(("list", NETWORK_POLICY.plural))
    assert said(examined(cluster, inference())) == ""


def test_a_namespace_s_pod_security_is_told() -> None:
    cluster = furnished()
    labels = {observed.POD_SECURITY: "restricted"}
    put("Namespace", "v1", "team-shop", labels=labels)(cluster)
    theirs = {**PROFILE["spec"]["projects"], "manage": False}

    assert "has the pod security level restricted, and the profile says baseline" in said(
        examined(cluster, inference())
    )
    (finding,) = examined(cluster, inference(), projects=theirs)
    assert (finding.code, finding.severity) == ("DOC022", "error")
    assert "and a pod of chat may run as root" in finding.what
    cluster.delete(NAMESPACE, "team-shop")
    assert said(examined(cluster, inference())) == ""


def test_what_an_apply_of_the_specs_needs_is_asked_for() -> None:
    cluster = furnished()
    cluster.denied.add(("create", "namespaces"))
    (finding,) = examined(cluster, inference())

    assert finding.code == "DOC023"
    assert finding.what == "you may not create namespaces in namespace team-shop"
    put("Namespace", "v1", "team-shop")(cluster)
    assert said(examined(cluster, inference())) == "", "it is there, and stays as it is"


def test_a_cluster_that_hides_everything_makes_no_traceback() -> None:
    cluster = furnished()
    cluster.denied.update(
        (verb, kind.plural)
        for kind in (
            CONFIG_MAP,
            DEPLOYMENT,
            DOMAIN_CLAIM,
            HPA,
            NAMESPACE,
            NETWORK_POLICY,
            NODE,
            PRIORITY_CLASS,
            QUOTA,
            SERVICE,
        )
        for verb in ("get", "list")
    )
    findings = examined(cluster, inference())

    assert {finding.code for finding in findings} == {"DOC001", "DOC023"}, said(findings)


# A profile of it.


@pytest.mark.parametrize(
    "data",
    [PROFILE, {**BUILT_IN, "metadata": {"name": "kai"}}],
    ids=["time-slicing", "kai"],
)
def test_doctor_has_nothing_to_say_of_the_profile_that_it_writes(data: dict[str, Any]) -> None:
    given, problems = profiles.validate(data)
    assert given is not None, problems
    cluster = furnished(given)
    found = doctor.observed_profile(cluster)
    made, problems = profiles.validate(found)

    assert made is not None, problems
    assert problems == []
    assert said(doctor.examine(cluster, made)) == ""
    assert said(doctor.examine(cluster, given)) == ""


def kai(**projects: Any) -> Profile:
    data = json.loads(json.dumps({**BUILT_IN, "metadata": {"name": "kai"}}))
    data["spec"]["projects"] |= projects
    found, problems = profiles.validate(data)
    assert found is not None, problems
    return found


def test_the_queue_above_the_projects_must_be_there() -> None:
    made = kai()
    cluster = furnished(made)
    cluster.delete(QUEUE, "default-parent-queue")
    (finding,) = doctor.examine(cluster, made)

    assert (finding.code, finding.severity) == ("DOC026", "error")
    assert "there is no queue default-parent-queue" in finding.what
    assert finding.patch is not None
    doctor.mend(cluster, finding.patch)
    assert said(doctor.examine(cluster, made)) == ""
    cluster.delete(QUEUE, "default-parent-queue")
    assert said(doctor.examine(cluster, kai(manage=False))) == "", "the queues are somebody else's"
    cluster.denied.add(("list", "queues"))
    assert said(doctor.examine(cluster, made)) == "DOC001 you may not read queues"


def test_a_quota_of_nothing_above_the_projects_is_found() -> None:
    made = kai(known={"shop": {"gpus": 2}})
    cluster = furnished(made)
    # As KAI's chart makes it: nothing guaranteed, nothing limited.
    part = {"quota": 0, "limit": -1, "overQuotaWeight": 1}
    changed(
        cluster,
        QUEUE,
        "default-parent-queue",
        "",
        lambda item: item.update(spec={"resources": {"cpu": part, "gpu": part, "memory": {**part, "quota": 64000}}}),
    )
    (finding,) = doctor.examine(cluster, made)

    assert (finding.code, finding.severity) == ("DOC026", "error")
    assert finding.what == "queue default-parent-queue has a quota of 0 for cpu, gpu"
    assert finding.patch is not None
    doctor.mend(cluster, finding.patch)
    assert said(doctor.examine(cluster, made)) == ""
    assert cluster.get(QUEUE, "default-parent-queue")["spec"]["resources"] == {
        "cpu": {**part, "quota": -1},
        "gpu": {**part, "quota": -1},
        "memory": {**part, "quota": 64000},
    }


def test_the_profile_names_the_queue_that_projects_are_below() -> None:
    made = kai(parentQueue="research")
    cluster = furnished(made)
    label = {keys.PROJECT: "shop"}
    put("Queue", "scheduling.run.ai/v2", "shop", labels=label, spec={"parentQueue": "research"})(cluster)
    put("Queue", "scheduling.run.ai/v2", "theirs", spec={"parentQueue": "other"})(cluster)

    assert doctor.observed_profile(cluster)["spec"]["projects"]["parentQueue"] == "research"


def test_the_profile_of_a_bare_cluster_is_one() -> None:
    cluster = simulated()
    cluster.paths = {"/version": {"gitVersion": "v1.30.1"}}
    made, problems = profiles.validate(doctor.observed_profile(cluster))

    assert made is not None, problems
    assert (made.spec.knative.installed, made.spec.kserve.installed) == (False, False)
    assert made.spec.metrics.adapter == "none"
    assert said(doctor.examine(cluster, made)) == ""


# The command.


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    return connected(furnished(), monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(manifests.write_one(PROFILE))
    return path


@pytest.mark.usefixtures("cluster")
def test_the_command_says_what_it_saw(run: Any, file: Path) -> None:
    code, out, err = run("doctor", "--profile", file)

    assert (code, err) == (0, "")
    assert out == "Kubernetes 1.34.0, Knative 1.21.0, KServe 0.20.0, 1 node; profile simulated: no problems found\n"


def test_the_command_tells_mends_after_a_yes_and_looks_again(cluster: Simulated, run: Any, file: Path) -> None:
    BROKEN["a flag off"][0](cluster)
    code, out, _ = run("doctor", "--profile", file)
    assert code == 1
    assert f"error DOC005 {PRIORITY} is disabled in config-features" in out
    assert "    --fix: kubectl patch configmaps config-features -n knative-serving --type merge" in out

    code, _, err = run("doctor", "--profile", file, "--fix")
    assert code == 2
    assert "Apply this patch to the cluster? Cannot prompt for confirmation" in err
    assert cluster.get(CONFIG_MAP, "config-features", SERVING)["data"][PRIORITY] == "disabled"

    code, out, err = run("doctor", "--profile", file, "--fix", "-y")
    assert code == 0
    assert "patched ConfigMap knative-serving/config-features" in err
    assert out.endswith("; profile simulated: no problems found\n")
    item = cluster.get(CONFIG_MAP, "config-features", SERVING)
    assert item["data"][PRIORITY] == "enabled"
    assert item["data"][CLAIM] == "enabled"
    assert {row["manager"] for row in item["metadata"]["managedFields"]} == {"ebbtide-live"}


def test_a_patch_that_the_cluster_refuses_writes_nothing(
    cluster: Simulated, run: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    BROKEN["a flag off"][0](cluster)
    BROKEN["no class"][0](cluster)

    def refuse(*_: Any, **__: Any) -> None:
        raise ClusterError("a webhook says no")

    monkeypatch.setattr(type(cluster), "apply", refuse)
    code, _, err = run("doctor", "--profile", file, "--fix", "-y")

    assert code == 3
    assert "a webhook says no" in err
    assert cluster.get(CONFIG_MAP, "config-features", SERVING)["data"][PRIORITY] == "disabled"


def test_other_forms(cluster: Simulated, run: Any, file: Path) -> None:
    BROKEN["a flag off"][0](cluster)

    assert run("doctor", "--profile", file, "-o", "name").out == "DOC005\n"
    (found,) = json.loads(run("doctor", "--profile", file, "-o", "json").out)
    assert found["patch"]["body"] == {"data": {PRIORITY: "enabled"}}
    assert "DOC005" in run("doctor", "--profile", file, "-o", "yaml").out
    assert json.loads(run("doctor", "--profile", file, "--fix", "-y", "-o", "json").out) == [], "what is left, once"


def test_what_no_patch_mends_is_said(cluster: Simulated, run: Any, file: Path) -> None:
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
def test_a_spec_with_problems_is_told_first(run: Any, file: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata: {name: x}\nspec: {image: 3}\n")
    code, out, err = run("doctor", "--profile", file, wrong)

    assert (code, out) == (1, "")
    assert "SPEC" in err
    fine = tmp_path / "chat.yaml"
    fine.write_text(manifests.write_one(spec()))
    assert run("doctor", "--profile", file, fine).code == 0
