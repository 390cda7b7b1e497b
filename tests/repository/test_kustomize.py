"""Tests that the kustomize components match the package, and that overlays render equally with and without kustomize.

The tests look for kustomize in EBBTIDE_KUSTOMIZE, on the PATH, and in the folder of the benchmark.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ebbtide.cli import main
from ebbtide.cluster.doctor.kueue import KUEUE_MAP
from ebbtide.cluster.doctor.observed import DEFINITION, KSERVE_MAP, MAPS
from ebbtide.cluster.slo import queries
from ebbtide.cluster.watch.groups import KINDS as CACHED
from ebbtide.cluster.write.projects import KEDA_RULE, make_member_role, make_role, make_rule
from ebbtide.core import manifests
from ebbtide.core.base import keys, metrics
from ebbtide.core.base.exporters import EXPORTERS
from ebbtide.core.base.names import ENDPOINT_KEYS
from ebbtide.core.documents import profiles
from ebbtide.core.profile.built_in import FEATURES, FULL
from ebbtide.core.profile.models import MetricNames, Profile, Scheduling
from ebbtide.core.translation import priority, project
from ebbtide.core.translation.plan import Priority
from ebbtide.core.translation.serving.kserve import MODES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Judge
    from ebbtide.core.translation.objects import Object

ROOT = Path(__file__).parents[2]
KUSTOMIZE = ROOT / "kustomize"
CLASSES = KUSTOMIZE / "priority-classes"
OVERLAYS = sorted(path.parent for path in (ROOT / "overlays").glob("*/profile.yaml"))
ADAPTERS = sorted((KUSTOMIZE / "metrics").glob("knative-*"))
#: Knative's ConfigMaps in the built-in profile, and those that a profile does not contain.
CONFIG_MAPS = ("features", "autoscaler", "defaults", "deployment", "observability")
NOT_IN_PROFILE = {"network"}
AUTOSCALER_SERIES = (queries.AUTOSCALER, queries.AUTOSCALER_OPENCENSUS)
CLASSES_HEADER = (
    "# Generated from ebbtide.core.translation.priority by `pytest tests/repository/test_kustomize.py --accept`. A value cannot be changed in a cluster: the\n"
    "# class has to be deleted first.\n"
)
ROLES_HEADER = "# Generated from ebbtide.cluster by `pytest tests/repository/test_kustomize.py --accept`.\n"
YAML_FILES = sorted(path for home in ("kustomize", "overlays", "policies") for path in (ROOT / home).rglob("*.yaml"))


def allow_reads(group: str, *resources: str, names: Sequence[str] = ()) -> Object:
    return make_rule(group, ["get"] if names else ["get", "list"], *resources, names=names)


#: Everything that doctor reads cluster-wide: settings, nodes and objects that workloads refer to. No Secrets, and only these
#: ConfigMaps.
OBSERVER_RULES = [
    allow_reads("", "configmaps", names=[*(f"config-{part}" for part in (*MAPS, "domain")), KSERVE_MAP, KUEUE_MAP]),
    allow_reads("", "nodes", "namespaces", "services"),
    allow_reads("apps", "deployments"),
    allow_reads("scheduling.k8s.io", "priorityclasses"),
    allow_reads("node.k8s.io", "runtimeclasses"),
    allow_reads("resource.k8s.io", "deviceclasses", "resourceslices"),
    allow_reads("networking.k8s.io", "networkpolicies", "ingressclasses", "ingresses"),
    allow_reads("gateway.networking.k8s.io", "gateways", "httproutes"),
    allow_reads("networking.internal.knative.dev", "clusterdomainclaims"),
    allow_reads("serving.kserve.io", "clusterservingruntimes", "localmodelnodegroups"),
    allow_reads("scheduling.run.ai", "queues"),
    allow_reads("kueue.x-k8s.io", "clusterqueues", "localqueues"),
    allow_reads("coordination.k8s.io", "leases"),
    allow_reads(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        names=[DEFINITION.rpartition("/")[2]],
    ),
    allow_reads("ebbtide.dev", "inferences"),
]
OBSERVER = make_role("ebbtide-observer", OBSERVER_RULES)


def find_kustomize() -> str | None:
    configured = os.environ.get("EBBTIDE_KUSTOMIZE") or shutil.which("kustomize")
    built = [*(ROOT / ".cache" / "bin").glob("*/kustomize"), ROOT / ".tools" / "kustomize"]
    return configured or next((str(path) for path in built if path.exists()), None)


@pytest.fixture(scope="session")
def kustomize() -> str:
    path = find_kustomize()
    if path is None:
        pytest.skip("no kustomize: set EBBTIDE_KUSTOMIZE, or run the bench once, which builds it")
    return path


@dataclass
class BuildResult:
    code: int
    out: list[Object]
    err: str


def build(kustomize: str, folder: Path, *options: str) -> BuildResult:
    """Build with the project's programs on the PATH, from another folder than the overlay's."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    run = subprocess.run(
        [kustomize, "build", *options, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PATH": path},
    )
    return BuildResult(run.returncode, parsed(run.stdout, "kustomize"), run.stderr)


def parsed(text: str | bytes, name: str) -> list[Object]:
    documents = list(manifests.read_documents(text, name))
    assert [problem for document in documents for problem in document.problems] == []
    return [document.data for document in documents]


def read(path: Path) -> list[Object]:
    return parsed(path.read_bytes(), path.name)


def by_name(items: list[Object]) -> dict[tuple[str, str, str], Object]:
    objects = {(item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item for item in items}
    assert len(objects) == len(items)
    return objects


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_strict_reader_accepts_every_file(path: Path) -> None:
    assert read(path)


# Components.


def config_map(part: str) -> Object:
    (config_map_object,) = read(KUSTOMIZE / "knative" / f"config-{part}.yaml")
    assert config_map_object["metadata"] == {"name": f"config-{part}", "namespace": "knative-serving"}
    return config_map_object


def test_knatives_config_maps_match_the_built_in_profile() -> None:
    installed = {part: config_map(part)["data"] for part in CONFIG_MAPS}
    built_in = {part: values for part, values in FULL["spec"]["knative"].items() if part in CONFIG_MAPS}
    assert installed == built_in
    assert installed["features"] == FEATURES
    files = {path.stem.removeprefix("config-") for path in (KUSTOMIZE / "knative").glob("config-*.yaml")}
    assert files == {*CONFIG_MAPS, *NOT_IN_PROFILE}


@pytest.mark.parametrize(("file", "role"), [("project-member", make_member_role()), ("observer", OBSERVER)])
def test_roles_contain_what_the_commands_need(file: str, role: Object, *, accept: bool) -> None:
    path = KUSTOMIZE / "roles" / f"{file}.yaml"
    text = ROLES_HEADER + manifests.write_document(role)
    if accept:
        path.write_text(text)
    assert path.read_text() == text
    (kustomization,) = read(KUSTOMIZE / "roles" / "kustomization.yaml")
    assert path.name in kustomization["resources"]


def test_only_a_component_for_keda_lets_members_write_scaled_objects() -> None:
    (component,) = read(KUSTOMIZE / "roles-keda" / "kustomization.yaml")
    (patch,) = component["patches"]
    role, with_keda = make_member_role(), make_member_role(keda=True)

    assert patch["target"] == {"kind": role["kind"], "name": role["metadata"]["name"]}
    assert yaml.safe_load(patch["patch"]) == [{"op": "add", "path": "/rules/-", "value": KEDA_RULE}]
    assert with_keda["rules"] == [*role["rules"], KEDA_RULE]
    assert not any(
        "keda.sh" in rule["apiGroups"] and {*rule["verbs"]} - {"get", "list", "watch"} for rule in role["rules"]
    )


def test_the_role_of_the_server_has_the_kinds_of_its_cache() -> None:
    (role, _) = read(KUSTOMIZE / "ebbtide" / "roles.yaml")
    readable = {
        (group, resource)
        for rule in role["rules"]
        if {"get", "list", "watch"} <= {*rule["verbs"]}
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert readable == {(kind.api_version.rpartition("/")[0], kind.plural) for kind in CACHED}


def test_no_role_reads_secrets_or_all_config_maps() -> None:
    for rule in (*make_member_role()["rules"], *OBSERVER["rules"]):
        # A member of a project manages the keys of its endpoint, and could mount that Secret into a workload.
        assert "secrets" not in rule["resources"] or rule["resourceNames"] == [ENDPOINT_KEYS]
        assert "configmaps" not in rule["resources"] or rule["resourceNames"]
        assert "*" not in (*rule["resources"], *rule["verbs"], *rule["apiGroups"])


def test_kserves_config_matches_the_built_in_profile() -> None:
    (config_map_object,) = read(KUSTOMIZE / "kserve" / "inferenceservice-config.yaml")
    values = {key: json.loads(text) for key, text in config_map_object["data"].items()}
    kserve = FULL["spec"]["kserve"]
    assert values["inferenceService"]["serviceAnnotationDisallowedList"] == kserve["annotationDisallowList"]
    assert keys.SPEC in kserve["annotationDisallowList"]
    # The older name, which every version accepts. Versions before 0.16 accept only this one.
    newer, older = MODES["kserve"]
    assert newer in kserve["modes"]
    assert values["deploy"]["defaultDeploymentMode"] == older


def read_kserve_config(*components: str) -> dict[str, str]:
    """Return the data of KServe's ConfigMap after these components, in their order."""
    found = [read(KUSTOMIZE / component / "inferenceservice-config.yaml")[0]["data"] for component in components]
    return {key: text for data in found for key, text in data.items()}


def test_the_gateway_changes_two_settings_of_kserve() -> None:
    without, with_gateway = (
        json.loads(read_kserve_config(*components)["ingress"])
        for components in (["kserve"], ["kserve", "kserve-gateway"])
    )
    assert {key for key in without if without[key] != with_gateway.get(key)} == {
        "enableGatewayApi",
        "disableIngressCreation",
    }
    assert without.keys() == with_gateway.keys()


@pytest.mark.parametrize("components", [("kserve",), ("kserve", "kserve-gateway")], ids=["kserve", "gateway"])
@pytest.mark.parametrize("named", [{keys.DEPLOYMENT_MODE: "Knative"}, {}], ids=["mode named", "default mode"])
def test_kserve_starts_and_serves_with_its_config(
    kserve_judge: Judge, named: dict[str, str], components: tuple[str, ...]
) -> None:
    note = '{"image":"ghcr.io/acme/chat:1"}'
    answer = kserve_judge.ask(
        "kserve",
        object={
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "chat", "annotations": {keys.SPEC: note, **named}},
            "spec": {"predictor": {"containers": [{"name": "kserve-container", "image": "ghcr.io/acme/chat:1"}]}},
        },
        config={"inferenceservice": read_kserve_config(*components)},
    )
    assert answer["errors"] == []
    assert answer["works"]
    template = answer["ksvc"]["spec"]["template"]
    assert keys.SPEC not in template["metadata"]["annotations"]
    # Upstream's `resource` would limit every container without limits.
    assert template["spec"]["containers"][0].get("resources", {}) == {}


def four() -> list[Priority]:
    return [
        Priority(name, value, rendered=True, preemptible=value < priority.NON_PREEMPTIBLE)
        for name, value in Scheduling().classes.items()
    ]


@pytest.mark.parametrize(("part", "classes"), [("four", four()), ("levels", priority.list_level_classes())])
def test_the_priority_classes_match_the_package(
    part: str, classes: list[Priority], judge: Judge, *, accept: bool
) -> None:
    path = CLASSES / part / "priority-classes.yaml"
    expected = [priority.make_priority_class(row) for row in classes]
    text = CLASSES_HEADER + "".join(manifests.write_documents(expected))
    if accept:
        path.write_text(text)
    assert path.read_text() == text, "regenerate it with --accept"
    for item in expected:
        assert judge.ask("object", object=item)["ok"]


def test_the_four_classes_match_kai() -> None:
    values = {item["metadata"]["name"]: item["value"] for item in read(CLASSES / "four" / "priority-classes.yaml")}
    assert values == {"train": 50, "build-preemptible": 75, "build": 100, "inference": 125}


def rules(folder: Path) -> dict[str, list[dict[str, Any]]]:
    (config,) = read(folder / "config.yaml")
    rules_by_name: dict[str, list[dict[str, Any]]] = {}
    for rule in config["rules"]:
        rules_by_name.setdefault(rule["name"]["as"], []).append(rule)
    return rules_by_name


@pytest.mark.parametrize("folder", ADAPTERS, ids=lambda folder: folder.name)
def test_the_adapter_serves_the_metrics_of_the_profile(folder: Path) -> None:
    names, served = MetricNames(), rules(folder)
    histogram = metrics.find_histogram(folder.name.removeprefix("knative-"))
    (latency,) = served[names.latency]
    # Servers that are instrumented with OpenTelemetry export a histogram of the same name.
    only = 'container="queue-proxy",' if histogram.series.startswith("http_") else ""
    assert latency["seriesQuery"].startswith(f"{histogram.series}_bucket{{{only}")
    # If two rules define one name, the adapter uses the later one, for exported labels.
    plain, exported = served[names.gpu_utilization]
    assert set(plain["resources"]["overrides"]) == {"namespace", "pod"}
    assert set(exported["resources"]["overrides"]) == {"exported_namespace", "exported_pod"}


def test_the_adapters_differ_only_in_latency() -> None:
    assert {folder.name for folder in ADAPTERS} == {"knative-1.21", "knative-1.19", "knative-1.18"}
    others = []
    for folder in ADAPTERS:
        other_rules = rules(folder)
        del other_rules[MetricNames().latency]
        others.append(other_rules)
    assert all(other_rules == others[0] for other_rules in others)


def list_monitors() -> list[tuple[Object, Object]]:
    """Return each monitor with its only endpoint."""
    folder = KUSTOMIZE / "metrics" / "monitors"
    (component,) = read(folder / "kustomization.yaml")
    monitors = [monitor for file in component["resources"] for monitor in read(folder / file)]
    rows = []
    for monitor in monitors:
        (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        rows.append((monitor, endpoint))
    return rows


def test_a_monitor_that_trusts_labels_selects_no_project() -> None:
    """A target whose series may name other namespaces is in a namespace that members cannot write to."""
    pattern = re.escape(Profile.model_validate(FULL).spec.projects.namespace).replace(re.escape("{project}"), ".+")
    trusting = {"ebbtide-dcgm-exporter", "ebbtide-nvidia-dcgm-exporter", "ebbtide-kourier", "ebbtide-autoscaler"}
    for monitor, endpoint in list_monitors():
        name, namespaces = monitor["metadata"]["name"], monitor["spec"]["namespaceSelector"].get("matchNames", [])
        assert endpoint.get("honorLabels", False) == name.endswith("dcgm-exporter")
        assert bool(namespaces) == (name in trusting)
        assert not any(re.fullmatch(pattern, namespace) for namespace in namespaces)
        assert any(row["action"] in {"keep", "drop"} for row in endpoint["metricRelabelings"])


def test_the_jobs_of_the_monitors_are_the_defaults_of_the_profile() -> None:
    """The Prometheus operator names the job of a PodMonitor after the monitor, and that of a ServiceMonitor after the Service."""
    jobs: dict[str, set[str]] = {}
    for monitor, endpoint in list_monitors():
        metadata = monitor["metadata"]
        changed = [row["replacement"] for row in endpoint.get("relabelings", ()) if row.get("targetLabel") == "job"]
        assert len(changed) == (monitor["kind"] == "ServiceMonitor")
        job = changed[0] if changed else f"{metadata['namespace']}/{metadata['name']}"
        jobs.setdefault(job, set()).add(metadata["name"])

    own = {row.job for row in EXPORTERS.values()} - {EXPORTERS["deployments"].job}
    assert jobs.keys() == own | {"monitoring/ebbtide-queue-proxy", "monitoring/ebbtide-servers"}
    assert jobs[EXPORTERS["gpu"].job] == {"ebbtide-dcgm-exporter", "ebbtide-nvidia-dcgm-exporter"}


def test_the_policy_reserves_the_labels_that_monitors_select() -> None:
    selected = {
        f"{key}: {value}"
        for monitor, _ in list_monitors()
        for key, value in monitor["spec"]["selector"].get("matchLabels", {}).items()
    }
    policy = read(ROOT / "policies" / "scrape-labels" / "policy.yaml")[0]
    (reserved,) = (row["expression"] for row in policy["spec"]["variables"] if row["name"] == "reserved")

    assert {*re.findall("'([^']+: [^']+)'", reserved)} == selected


@pytest.mark.parametrize("monitor", ["kourier", "autoscaler"])
def test_a_monitor_keeps_every_series_that_a_report_queries(monitor: str) -> None:
    """A missing series would otherwise be noticed only on a cluster."""
    (pod_monitor,) = read(KUSTOMIZE / "metrics" / "monitors" / f"{monitor}.yaml")
    (endpoint,) = pod_monitor["spec"]["podMetricsEndpoints"]
    keep = next(row["regex"] for row in endpoint["metricRelabelings"] if row["sourceLabels"] == ["__name__"])
    kourier = queries.GATEWAYS["envoy_cluster_upstream_rq_time"]
    queried = {
        "kourier": [*(f"{kourier.series}_{part}" for part in ("bucket", "sum", "count")), kourier.counter],
        "autoscaler": [
            *(getattr(pods, name) for pods in AUTOSCALER_SERIES for name in ("wanted", "ready", "others")),
            "kn_revision_rps_target_per_second",
            "autoscaler_stable_request_concurrency",
        ],
    }[monitor]

    assert all(re.fullmatch(keep, series) for series in queried)
    assert not re.fullmatch(keep, "envoy_cluster_upstream_cx_total")
    assert "honorLabels" not in endpoint
    # The adapter treats every series with the label `workload` as a metric of a server.
    assert not any(row.get("targetLabel") == "workload" for row in endpoint.get("relabelings", ()))


def test_the_dashboard_is_up_to_date() -> None:
    program = [sys.executable, str(ROOT / "tools" / "dashboard" / "generate.py"), "--check"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    dashboard = json.loads((KUSTOMIZE / "metrics" / "dashboard" / "ebbtide.json").read_text())
    charts = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    # Each chart queries the selected workload, and no charts overlap.
    assert all(
        "$namespace" in target["expr"] and "$workload" in target["expr"]
        for panel in charts
        for target in panel["targets"]
    )
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in charts}) == len(charts)


def write_kustomization(folder: Path, components: list[str], resources: list[Object]) -> None:
    """Write a kustomization with a user's resources and the project's components."""
    (folder / "base.yaml").write_text("".join(manifests.write_documents(resources)))
    lines = [
        "apiVersion: kustomize.config.k8s.io/v1beta1",
        "kind: Kustomization",
        "resources: [base.yaml]",
        "components:",
    ]
    lines += [f"  - {os.path.relpath(KUSTOMIZE / name, folder.resolve())}" for name in components]
    (folder / "kustomization.yaml").write_text("\n".join(lines) + "\n")


def upstream_config(name: str, namespace: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"_example": "what upstream says", "kept": "yes, it is"},
    }


@pytest.mark.parametrize("folder", ADAPTERS, ids=lambda folder: folder.name)
def test_the_components_build_together(kustomize: str, tmp_path: Path, folder: Path) -> None:
    parts = [*CONFIG_MAPS, *sorted(NOT_IN_PROFILE)]
    base = [upstream_config(f"config-{part}", "knative-serving") for part in parts]
    base.append(upstream_config("inferenceservice-config", "kserve"))
    base.append(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "activator", "namespace": "knative-serving"},
            "spec": {"template": {"spec": {"terminationGracePeriodSeconds": 600}}},
        }
    )
    base.append(
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ClusterStorageContainer",
            "metadata": {"name": "default"},
            "spec": {"container": {"name": "storage-initializer", "image": "kserve/storage-initializer:v0.20.0"}},
        }
    )
    write_kustomization(tmp_path, ["knative", "kserve", "priority-classes", f"metrics/{folder.name}"], base)
    result = build(kustomize, tmp_path)
    assert result.code == 0, result.err
    objects = by_name(result.out)
    for part in parts:
        data = objects["ConfigMap", "knative-serving", f"config-{part}"]["data"]
        assert data.pop("_example")
        assert data.pop("kept")
        assert data == config_map(part)["data"]
    assert objects["ConfigMap", "kserve", "inferenceservice-config"]["data"]["kept"]
    download = objects["ClusterStorageContainer", "", "default"]["spec"]["container"]
    assert download["image"]
    assert download["securityContext"]["runAsNonRoot"] is True
    assert download["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    activator = objects["Deployment", "knative-serving", "activator"]
    longest = FULL["spec"]["knative"]["defaults"]["max-revision-timeout-seconds"]
    assert str(activator["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]) == longest
    assert len([key for key in objects if key[0] == "PriorityClass"]) == 18
    rules_made = objects["ConfigMap", "monitoring", "ebbtide-adapter-rules"]["data"]["config.yaml"]
    assert rules_made == (folder / "config.yaml").read_text()
    assert {key[0] for key in objects} >= {"PodMonitor", "ServiceMonitor"}


def test_knatives_component_reports_a_missing_config_map(kustomize: str, tmp_path: Path) -> None:
    write_kustomization(tmp_path, ["knative"], [upstream_config("config-features", "knative-serving")])
    result = build(kustomize, tmp_path)
    assert result.code != 0
    assert "config-autoscaler" in result.err


def test_the_objects_of_a_project_match_those_of_render(kustomize: str, tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\n"
        "kind: Kustomization\n"
        f"components: [{os.path.relpath(KUSTOMIZE / 'projects', tmp_path.resolve())}]\n"
        "configMapGenerator:\n"
        "  - name: project\n"
        "    literals: [name=team-a, gpus=4, cpu=64, memory=256Gi]\n"
        '    options: {disableNameSuffixHash: true, annotations: {config.kubernetes.io/local-config: "true"}}\n'
    )
    result = build(kustomize, tmp_path)
    assert result.code == 0, result.err
    profile = Profile.model_validate(
        {
            **FULL,
            "spec": {
                **FULL["spec"],
                "nodePools": [{"name": "gpus", "product": "NVIDIA-L4", "devices": 8}],
                "projects": {"known": {"team-a": {"gpus": 4, "cpu": 64, "memory": "256Gi"}}},
            },
        }
    )
    assert by_name(result.out) == by_name(project.make_project_objects("team-a", "runai-team-a", profile))


def test_the_policies_build(kustomize: str) -> None:
    result = build(kustomize, ROOT / "policies")
    assert result.code == 0, result.err
    kinds = [item["kind"] for item in result.out]
    assert kinds.count("ValidatingAdmissionPolicy") == kinds.count("ValidatingAdmissionPolicyBinding") == 11


@pytest.mark.parametrize("component", ["controller", "crd"])
def test_an_overlay_replaces_the_profile_and_the_namespace_of_the_controller(
    component: str, kustomize: str, tmp_path: Path
) -> None:
    (tmp_path / "profile.yaml").write_text("own: true\n")
    overlay = {
        "namespace": "scaling",
        "resources": [os.path.relpath(KUSTOMIZE / component, tmp_path.resolve())],
        "configMapGenerator": [
            {"name": "ebbtide-controller-profile", "behavior": "replace", "files": ["profile.yaml"]}
        ],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    result = build(kustomize, tmp_path)
    assert result.code == 0, result.err
    (profile,) = (item for item in result.out if item["kind"] == "ConfigMap")
    assert profile["data"] == {"profile.yaml": "own: true\n"}
    (deployment,) = (item for item in result.out if item["kind"] == "Deployment")
    template = deployment["spec"]["template"]["spec"]
    assert template["volumes"][0]["configMap"]["name"] == profile["metadata"]["name"]
    assert "ebbtide-controller" not in str(template["containers"][0]["args"])
    bindings = [item for item in result.out if item["kind"].endswith("RoleBinding") and "run.ai" not in str(item)]
    subjects = {row["namespace"] for item in bindings for row in item["subjects"] if row["kind"] == "ServiceAccount"}
    assert subjects == {"scaling"}


def test_the_network_policies_allow_the_same_egress_and_only_the_named_port() -> None:
    (of_server,) = read(KUSTOMIZE / "ebbtide" / "network-policy.yaml")
    (of_controller,) = read(KUSTOMIZE / "controller" / "network-policy.yaml")
    assert of_controller["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert of_controller["spec"]["egress"] == of_server["spec"]["egress"]
    (deployment,) = read(KUSTOMIZE / "controller" / "deployment.yaml")
    assert of_controller["spec"]["podSelector"] == deployment["spec"]["selector"]
    (ingress,) = of_controller["spec"]["ingress"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert [row["port"] for row in ingress["ports"]] == [row["name"] for row in container["ports"]]
    assert len(ingress["from"]) == 2
    (kustomization,) = read(KUSTOMIZE / "controller" / "kustomization.yaml")
    assert "network-policy.yaml" in kustomization["resources"]


def test_the_custom_resources_build(kustomize: str, tmp_path: Path) -> None:
    result = build(kustomize, KUSTOMIZE / "crd")
    assert result.code == 0, result.err
    objects = by_name(result.out)
    (container,) = objects["Deployment", "ebbtide-controller", "ebbtide-controller"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["args"][-1] == "--inferences"
    assert ("CustomResourceDefinition", "", "inferences.ebbtide.dev") in objects
    assert ("ClusterRole", "", "ebbtide-project-member") in objects

    folder = os.path.relpath(KUSTOMIZE / "crd-project", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(f"namespace: runai-team-a\ncomponents: [{folder}]\n")
    result = build(kustomize, tmp_path)
    assert result.code == 0, result.err
    subjects = [item["subjects"][0] for item in result.out if item["kind"] == "RoleBinding"]
    assert {(row["name"], row["namespace"]) for row in subjects} == {
        ("ebbtide", "runai-team-a"),
        ("ebbtide-controller", "ebbtide-controller"),
    }


def test_the_health_check_of_argo_cd_builds(kustomize: str, tmp_path: Path) -> None:
    write_kustomization(tmp_path, ["crd-argocd"], [upstream_config("argocd-cm", "argocd")])
    result = build(kustomize, tmp_path)
    assert result.code == 0, result.err
    assert set(result.out[0]["data"]) >= {
        "kept",
        "resource.customizations.health.ebbtide.dev_Inference",
    }


# Overlays.


def render(profile: Path, *files: str, stdin: str = "") -> list[Object]:
    """Return what the command prints, called in this process."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        status = main(["render", "--quiet", "--profile", str(profile), *files])
    assert status == 0, errors.getvalue()
    return parsed(output.getvalue(), "render")


EXEC = ("--enable-alpha-plugins", "--enable-exec")


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_the_profile_of_an_overlay_is_valid(folder: Path) -> None:
    profile, problems = profiles.load_profile(str(folder / "profile.yaml"))
    assert problems == []
    assert profile is not None
    assert profile.metadata.name == folder.name
    assert profile.spec.knative.features == FEATURES


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_the_specs_of_an_overlay_render_without_kustomize(folder: Path) -> None:
    files = [str(path) for path in sorted((folder / "specs").glob("*.yaml")) if path.name != "kustomization.yaml"]
    objects = render(folder / "profile.yaml", *files)
    assert len([item for item in objects if item["kind"] in {"Service", "InferenceService"}]) == len(files)


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_kustomize_and_render_produce_the_same_objects_for_an_overlay(kustomize: str, folder: Path) -> None:
    specs = subprocess.run(
        [kustomize, "build", str(folder / "specs")], capture_output=True, text=True, check=True
    ).stdout
    result = build(kustomize, folder, *EXEC)
    assert result.code == 0, result.err
    assert by_name(result.out) == by_name(render(folder / "profile.yaml", "-", stdin=specs))
    assert not [item for item in result.out if item["apiVersion"].startswith("ebbtide.dev/")]
    # kustomize's internal annotations appear neither on the objects nor in the stored spec.
    assert "config.kubernetes.io" not in json.dumps(result.out)


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_upstream_accepts_the_objects_of_an_overlay(kustomize: str, folder: Path, judge: Judge) -> None:
    knative = profiles.load_profile(str(folder / "profile.yaml"))[0]
    assert knative is not None
    config = {part: dict(getattr(knative.spec.knative, part)) for part in CONFIG_MAPS}
    for item in build(kustomize, folder, *EXEC).out:
        if item["kind"] == "Service":
            answer = judge.ask("knative", object=item, config=config)
            assert answer["errors"] == []
            assert answer["works"]


def test_an_invalid_spec_stops_kustomize_with_an_explanation(kustomize: str, tmp_path: Path) -> None:
    (tmp_path / "profile.yaml").write_text((ROOT / "overlays" / "dev" / "profile.yaml").read_text())
    (tmp_path / "chat.yaml").write_text(
        (ROOT / "overlays" / "base" / "chat.yaml").read_text().replace("metric: concurrency", "metric: cpu-utilization")
    )
    (tmp_path / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        "resources: [chat.yaml]\ntransformers: [profile.yaml]\n"
    )
    result = build(kustomize, tmp_path, *EXEC)
    assert result.code != 0
    assert result.out == []
    assert "chat" in result.err
    assert "spec.autoscaling" in result.err


def kustomization_on(page: str, first: str) -> Object:
    """Return the kustomization on a page of the docs that contains a unique text."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    (block,) = [text for text in blocks if first in text]
    (document,) = manifests.read_documents(block.encode(), page)
    return dict(document.data)


def write_overlay(folder: Path, base: str, kustomization: Object) -> None:
    """Write an overlay of a base with the patches of a page."""
    resources = [os.path.relpath(ROOT / base, folder.resolve())]
    kind = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (folder / "kustomization.yaml").write_text(
        json.dumps({**kind, "resources": resources, "patches": kustomization["patches"]})
    )


def test_the_lists_of_the_policies_can_be_patched_as_documented(kustomize: str, tmp_path: Path) -> None:
    kustomization = kustomization_on("kustomize.md", "ebbtide-very-high")
    assert kustomization["resources"] == ["../../policies"]
    write_overlay(tmp_path, "policies", kustomization)
    result = build(kustomize, tmp_path)
    assert result.code == 0, result.err
    objects = by_name(result.out)
    classes = objects["ConfigMap", "ebbtide-system", "ebbtide-priority-class"]["data"]
    assert classes["ebbtide-very-high"] == "team-a team-b"
    assert classes["ebbtide-high"] == classes["acme-batch"] == "*"
    assert "build" not in classes
    assert "ghcr.io/acme" in objects["ConfigMap", "ebbtide-system", "ebbtide-images"]["data"]["registries"].split()


def test_the_egress_of_the_server_can_be_extended_as_documented(kustomize: str, tmp_path: Path) -> None:
    write_overlay(tmp_path, "kustomize/ebbtide", kustomization_on("serve.md", "/spec/egress/-"))
    result = build(kustomize, tmp_path)
    assert result.code == 0, result.err
    egress = by_name(result.out)["NetworkPolicy", "ebbtide", "ebbtide"]["spec"]["egress"]
    ports = [(port["port"], port.get("protocol", "TCP")) for rule in egress for port in rule["ports"]]
    assert ports[:5] == [(53, "UDP"), (53, "TCP"), (443, "TCP"), (6443, "TCP"), (9090, "TCP")]
    assert ports[5:] == [(8443, "TCP"), (5353, "UDP"), (5353, "TCP")]


def write_rendering_overlay(folder: Path, resources: list[Object], components: list[str]) -> None:
    """Write an overlay with the profile of the dev overlay."""
    (folder / "profile.yaml").write_text((ROOT / "overlays" / "dev" / "profile.yaml").read_text())
    write_kustomization(folder, components, resources)
    with (folder / "kustomization.yaml").open("a") as file:
        file.write("transformers: [profile.yaml]\n")


CHAT = ROOT / "overlays" / "base" / "chat.yaml"


def test_classes_of_the_component_are_not_rendered_twice(kustomize: str, tmp_path: Path) -> None:
    (chat,) = read(CHAT)
    chat["spec"]["priorityClass"] = "high"
    write_rendering_overlay(tmp_path, [chat], ["priority-classes/levels"])
    result = build(kustomize, tmp_path, *EXEC)
    assert result.code == 0, result.err
    rendered = by_name(render(tmp_path / "profile.yaml", "-", stdin=manifests.write_document(chat)))
    classes = [item for item in result.out if item["kind"] == "PriorityClass"]
    assert len(classes) == len(priority.list_level_classes())
    assert ("PriorityClass", "", "ebbtide-high") in rendered
    assert by_name(result.out) == {**by_name(classes), **rendered}


def test_resources_local_to_kustomize_appear_in_no_output(kustomize: str, tmp_path: Path) -> None:
    (local,) = read(CHAT)
    local["metadata"] |= {"name": "local", "annotations": {"config.kubernetes.io/local-config": "true"}}
    for name, transformers in (("with", True), ("without", False)):
        folder = tmp_path / name
        folder.mkdir()
        if transformers:
            write_rendering_overlay(folder, [*read(CHAT), local], [])
        else:
            write_kustomization(folder, [], [*read(CHAT), local])
    piped = "".join(manifests.write_documents(build(kustomize, tmp_path / "without").out))
    rendered = render(tmp_path / "with" / "profile.yaml", "-", stdin=piped)
    result = build(kustomize, tmp_path / "with", *EXEC)
    assert result.code == 0, result.err
    assert by_name(result.out) == by_name(rendered)
    assert not [item for item in rendered if item["metadata"]["name"] == "local"]


@pytest.mark.parametrize("folder", ["kustomize", "policies"])
def test_every_namespace_has_all_pod_security_labels_with_a_version(folder: str) -> None:
    namespaces = sorted((ROOT / folder).rglob("namespace.yaml"))

    assert namespaces
    for path in namespaces:
        labels = yaml.safe_load(path.read_text())["metadata"]["labels"]
        levels = {labels.get(f"pod-security.kubernetes.io/{mode}") for mode in ("enforce", "audit", "warn")}
        versions = {labels.get(f"pod-security.kubernetes.io/{mode}-version") for mode in ("enforce", "audit", "warn")}
        assert levels in ({"restricted"}, {"baseline"}), path
        assert versions == {"v1.34"}, path
