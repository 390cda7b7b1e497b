"""Conversion of each field of Run:ai's classic InferenceWorkload to the native document."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.core.base.problems import select_errors
from ebbtide.core.documents import load_document
from ebbtide.core.profile.built_in import FULL
from ebbtide.core.profile.models import Profile
from ebbtide.core.spec.inference import Inference
from ebbtide.runai import crd

if TYPE_CHECKING:
    from ebbtide.core.readers.loaded import LoadedDocument

PROFILE = Profile.model_validate(FULL)
WORKLOAD: dict[str, Any] = {
    "apiVersion": "run.ai/v2alpha1",
    "kind": "InferenceWorkload",
    "metadata": {"name": "chat", "namespace": "runai-team-a"},
    "spec": {
        "name": {"value": "chat"},
        "image": {"value": "registry.example/chat:1"},
        "ports": {"items": {"http": {"value": {"container": 8000}}}},
    },
}


def workload(**fields: Any) -> dict[str, Any]:
    """Return the smallest workload with ``fields`` added to its spec; None removes a field."""
    data = copy.deepcopy(WORKLOAD)
    data["spec"] = {name: value for name, value in {**data["spec"], **fields}.items() if value is not None}
    return data


def loaded(**fields: Any) -> LoadedDocument:
    return load_document(workload(**fields), PROFILE)


def found_problems(item: LoadedDocument) -> list[tuple[str, str]]:
    """Return the code and path of each problem."""
    return [(problem.code, problem.path) for problem in item.problems]


def at(item: LoadedDocument, path: str) -> Any:
    """Return a part of the validated document: ``spec.autoscaling.minReplicas``."""
    assert item.inference is not None, item.problems
    value: Any = Inference.model_validate(item.reading.native).model_dump(by_alias=True, exclude_unset=True)
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def items(**entries: Any) -> dict[str, Any]:
    return {"items": {key: {"value": value} for key, value in entries.items()}}


#: Field, its value in the classic resource, native path, native value.
SUPPORTED: list[tuple[str, Any, str, Any]] = [
    ("name", {"value": "chat"}, "metadata.name", "chat"),
    ("labels", items(team="a"), "spec.labels", [{"name": "team", "value": "a"}]),
    ("annotations", items(note="hello"), "spec.annotations", [{"name": "note", "value": "hello"}]),
    ("image", {"value": "nginx:1"}, "spec.image", "nginx:1"),
    ("imagePullPolicy", {"value": "always"}, "spec.imagePullPolicy", "Always"),
    ("imagePullPolicy", {"value": "ifNotPresent"}, "spec.imagePullPolicy", "IfNotPresent"),
    ("imagePullPolicy", {"value": "Never"}, "spec.imagePullPolicy", "Never"),
    ("command", {"value": "python server.py"}, "spec.command", "python server.py"),
    ("arguments", {"value": "--port 8000"}, "spec.args", "--port 8000"),
    ("environment", items(A="1"), "spec.environmentVariables", [{"name": "A", "value": "1"}]),
    (
        "environment",
        items(API="SECRET:hf-token,key"),
        "spec.environmentVariables",
        [{"name": "API", "secret": {"name": "hf-token", "key": "key"}}],
    ),
    ("workingDir", {"value": "/srv"}, "spec.workingDir", "/srv"),
    ("createHomeDir", {"value": True}, "spec.createHomeDir", True),
    ("capabilities", {"value": "NET_BIND_SERVICE"}, "spec.security.capabilities", ["NET_BIND_SERVICE"]),
    ("capabilities", {"value": "SYS_TIME, KILL"}, "spec.security.capabilities", ["SYS_TIME", "KILL"]),
    ("capabilities", items(a="KILL"), "spec.security.capabilities", ["KILL"]),
    ("largeShm", {"value": True}, "spec.compute.largeShmRequest", True),
    ("runAsUid", {"value": 1000}, "spec.security.runAsUid", 1000),
    ("runAsGid", {"value": 1000}, "spec.security.runAsGid", 1000),
    ("supplementalGroups", {"value": "10;20"}, "spec.security.supplementalGroups", "10;20"),
    ("cpu", {"value": "0.5"}, "spec.compute.cpuCoreRequest", 0.5),
    ("cpu", {"value": "500m"}, "spec.compute.cpuCoreRequest", 0.5),
    ("cpu", {"value": 2}, "spec.compute.cpuCoreRequest", 2.0),
    ("cpuLimit", {"value": "4"}, "spec.compute.cpuCoreLimit", 4.0),
    ("memory", {"value": "16Gi"}, "spec.compute.cpuMemoryRequest", "16Gi"),
    ("memoryLimit", {"value": "20G"}, "spec.compute.cpuMemoryLimit", "20G"),
    (
        "gpu",
        {"value": "0.5"},
        "spec.compute",
        {"gpuRequestType": "portion", "gpuPortionRequest": 0.5, "gpuDevicesRequest": 1},
    ),
    ("gpu", {"value": 0.25}, "spec.compute.gpuPortionRequest", 0.25),
    ("gpu", {"value": "2"}, "spec.compute", {"gpuDevicesRequest": 2}),
    ("gpu", {"value": "0"}, "spec.compute", {"gpuDevicesRequest": 0}),
    (
        "gpuMemory",
        {"value": "20G"},
        "spec.compute",
        {"gpuMemoryRequest": "20G", "gpuRequestType": "memory"},
    ),
    ("gpuDevices", {"value": 2}, "spec.compute", {"gpuDevicesRequest": 2}),
    ("gpuLimit", {"value": "0.8"}, "spec.compute", {"gpuPortionLimit": 0.8}),
    ("gpuLimit", {"value": "30G"}, "spec.compute", {"gpuMemoryLimit": "30G"}),
    (
        "migProfile",
        {"value": "1g.10gb"},
        "spec.compute",
        {"migProfile": "1g.10gb", "gpuRequestType": "migProfile"},
    ),
    (
        "extendedResources",
        {"items": {"rdma/hca": {"value": "1"}}},
        "spec.compute.extendedResources",
        [{"resource": "rdma/hca", "quantity": "1"}],
    ),
    (
        "extendedResources",
        items(nic={"resource": "rdma/hca", "quantity": 1}),
        "spec.compute.extendedResources",
        [{"resource": "rdma/hca", "quantity": 1}],
    ),
    ("minScale", {"value": 0}, "spec.autoscaling.minReplicas", 0),
    ("maxScale", {"value": 4}, "spec.autoscaling.maxReplicas", 4),
    ("metric", {"value": "gpu-utilization"}, "spec.autoscaling.metric", "gpu-utilization"),
    (
        "metricName",
        {"value": "queue_depth"},
        "spec.autoscaling",
        {"metricName": "queue_depth", "metric": "custom"},
    ),
    ("target", {"value": 80}, "spec.autoscaling.metricThreshold", 80.0),
    ("ports", items(p={"container": 9000}), "spec.servingPort.container", 9000),
    ("ports", items(p={"container": 9000, "serviceType": "ClusterIP"}), "spec.servingPort.container", 9000),
    (
        "exposedUrls",
        items(u={"container": 8000, "url": "https://chat.example.com"}),
        "spec.exposedUrls",
        [{"container": 8000, "url": "https://chat.example.com"}],
    ),
    (
        "exposedUrls",
        items(u="https://chat.example.com"),
        "spec.exposedUrls.0.url",
        "https://chat.example.com",
    ),
    ("isPrivateServiceUrl", {"value": True}, "spec.servingPort.clusterLocalAccessOnly", True),
    ("nodePool", {"value": "a100"}, "spec.nodePools", ["a100"]),
    ("nodePools", {"value": "g10 g9"}, "spec.nodePools", ["g10", "g9"]),
    ("nodePools", items(first="b", second="a"), "spec.nodePools", ["b", "a"]),
    ("nodeType", {"value": "dgx"}, "spec.nodeType", "dgx"),
    (
        "tolerations",
        items(t={"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}),
        "spec.tolerations",
        [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "seconds": 60}],
    ),
    (
        "pvcs",
        items(data={"claimName": "models", "existingPvc": True, "path": "/models", "readOnly": True}),
        "spec.storage.pvc",
        [{"claimName": "models", "existingPvc": True, "path": "/models", "readOnly": True}],
    ),
    (
        "pvcs",
        items(data={"path": "/models", "size": "10Gi", "storageClass": "fast", "readWriteMany": True}),
        "spec.storage.pvc.0.claimInfo",
        {
            "size": "10Gi",
            "storageClass": "fast",
            "accessModes": {"readWriteMany": True, "readWriteOnce": False},
        },
    ),
]
#: Field, its value in the classic resource, code of the error, path of the error.
REFUSED: list[tuple[str, Any, str, str]] = [
    ("namePrefix", {"value": "chat"}, "RUN002", "spec.namePrefix.value"),
    ("baseWorkload", "template", "RUN001", "spec.baseWorkload"),
    ("usage", "Template", "RUN001", "spec.usage"),
    ("usage", "Sbumit", "SPEC004", "spec.usage"),
    ("imagePullPolicy", {"value": "sometimes"}, "SPEC004", "spec.imagePullPolicy.value"),
    ("stdin", {"value": True}, "CRD002", "spec.stdin.value"),
    ("tty", {"value": True}, "CRD002", "spec.tty.value"),
    ("tty", {"value": "yes"}, "SPEC002", "spec.tty.value"),
    ("hostIpc", {"value": True}, "SEC006", "spec.hostIpc.value"),
    ("hostNetwork", {"value": True}, "SEC006", "spec.hostNetwork.value"),
    ("runAsUser", {"value": True}, "SEC004", "spec.runAsUser.value"),
    ("runAsUser", {"value": "yes"}, "SPEC002", "spec.runAsUser.value"),
    ("cpu", {"value": "many"}, "SPEC002", "spec.cpu.value"),
    ("cpuLimit", {"value": [1]}, "SPEC002", "spec.cpuLimit.value"),
    ("cpu", {"value": "1e30"}, "SPEC002", "spec.cpu.value"),
    ("memory", {"value": "lots"}, "SPEC004", "spec.memory.value"),
    ("gpu", {"value": "1.5"}, "GPU002", "spec.gpu.value"),
    ("gpu", {"value": "-1"}, "SPEC002", "spec.gpu.value"),
    ("gpu", {"value": True}, "SPEC002", "spec.gpu.value"),
    ("gpuMemory", {"value": 8192}, "SPEC004", "spec.gpuMemory.value"),
    ("extendedResources", items(nic={"resource": "a/b", "count": 1}), "SPEC001", ""),
    ("minScale", {"value": "1"}, "SPEC002", "spec.minScale.value"),
    ("maxScale", {"value": 0}, "SPEC004", "spec.maxScale.value"),
    ("target", {"value": "80"}, "SPEC002", "spec.target.value"),
    ("class", {"value": "hpa.autoscaling.knative.dev"}, "CRD003", "spec.class.value"),
    ("ports", {"items": {}}, "CRD008", "spec.ports"),
    ("ports", items(a={"container": 1}, b={"container": 2}), "SRV012", "spec.ports"),
    ("ports", items(a={"serviceType": "ClusterIP"}), "SPEC003", "spec.ports.items.a.value"),
    (
        "ports",
        items(a={"container": 1, "serviceType": "NodePort"}),
        "SRV012",
        "spec.ports.items.a.value.serviceType",
    ),
    ("ports", items(a={"container": 1, "external": 80}), "SRV012", "spec.ports.items.a.value.external"),
    ("ports", items(a={"container": 99999}), "SPEC004", "spec.ports.items.a.value.container"),
    ("ports", items(a=8000), "SPEC002", "spec.ports.items.a.value"),
    ("serviceType", {"value": "LoadBalancer"}, "SRV012", "spec.serviceType.value"),
    ("serviceType", {"value": "Ingress"}, "SPEC004", "spec.serviceType.value"),
    ("ingressUrl", {"value": "https://x"}, "CRD004", "spec.ingressUrl.value"),
    ("volumes", items(v={"path": "/data", "mountPath": "/data"}), "STO001", "spec.volumes.items.v.value"),
    ("volumes", items(v={"nfsServer": "nas", "path": "/data"}), "STO002", "spec.volumes.items.v.value"),
    ("s3", items(b={"bucket": "models"}), "STO008", "spec.s3"),
    ("gitSync", items(r={"repository": "https://x"}), "STO003", "spec.gitSync"),
    ("mountPropagation", {"value": True}, "STO007", "spec.mountPropagation.value"),
    ("tolerations", items(t={"keys": "gpu"}), "SPEC001", "spec.tolerations.items.t.value.keys"),
    ("pvcs", items(p={"path": "models"}), "SPEC004", "spec.pvcs.items.p.value.path"),
    (
        "pvcs",
        items(p={"path": "/m", "size": "big"}),
        "SPEC004",
        "spec.pvcs.items.p.value.size",
    ),
    ("environment", items(A=1), "SPEC002", "spec.environment.items.A.value"),
    ("labels", items(a=1), "SPEC002", "spec.labels.items.a.value"),
]
#: Field, its value in the classic resource, code of the warning, path of the warning.
WARNED: list[tuple[str, Any, str, str]] = [
    ("username", {"value": "ann"}, "CRD001", "spec.username.value"),
    ("nodePool", {"value": "default"}, "CRD005", "spec.nodePool.value"),
    ("runAsUid", {"value": 1000}, "CRD007", "spec.runAsUid.value"),
    ("runAsGid", {"value": 1000}, "CRD007", "spec.runAsGid.value"),
    ("environment", {"items": {"A": {"exclude": True}}}, "RUN004", "spec.environment.items.A.exclude"),
]
#: Field, and a value that is Run:ai's default and changes nothing.
FINE: list[tuple[str, Any]] = [
    ("usage", "Submit"),
    ("stdin", {"value": False}),
    ("tty", {"value": False}),
    ("hostIpc", {"value": False}),
    ("hostNetwork", {"value": False}),
    ("runAsUser", {"value": False}),
    ("mountPropagation", {"value": False}),
    ("serviceType", {"value": "ClusterIP"}),
    ("class", {"value": "kpa.autoscaling.knative.dev"}),
    ("nodeType", {"value": None}),
    ("ports", items(http={"container": 8000, "external": None})),
]


def test_every_field_of_the_table_has_a_case() -> None:
    cases = {row[0] for table in (SUPPORTED, REFUSED, WARNED, FINE) for row in table}
    assert cases == set(crd.FIELDS)


@pytest.mark.parametrize(("field", "written", "path", "expected"), SUPPORTED)
def test_a_supported_field_is_set_in_the_native_document(field: str, written: Any, path: str, expected: Any) -> None:
    item = loaded(**{field: written})
    assert at(item, path) == expected
    assert select_errors(item.problems) == []


@pytest.mark.parametrize(("field", "written", "code", "place"), REFUSED)
def test_an_unsupported_field_is_rejected_at_its_path(field: str, written: Any, code: str, place: str) -> None:
    item = loaded(**{field: written})
    assert item.inference is None
    assert (code, place or "spec.extendedResources.items.nic.value.count") in found_problems(item)
    assert all(problem.fix for problem in item.problems)


@pytest.mark.parametrize(("field", "written", "code", "place"), WARNED)
def test_a_field_without_effect_causes_a_warning(field: str, written: Any, code: str, place: str) -> None:
    item = loaded(**{field: written})
    assert item.inference is not None
    assert found_problems(item) == [(code, place)]


@pytest.mark.parametrize(("field", "written"), FINE)
def test_an_explicit_default_causes_no_problem(field: str, written: Any) -> None:
    assert loaded(**{field: written}).canonical == loaded().canonical
    assert found_problems(loaded(**{field: written})) == []


@pytest.mark.parametrize("name", [name for name, row in crd.FIELDS.items() if row.kind == "value"])
@pytest.mark.parametrize("bare", ["chat", 1, ["chat"]])
def test_the_fix_for_an_unwrapped_value_shows_the_wrapper(name: str, bare: Any) -> None:
    item = loaded(**{name: bare})
    problem = next(problem for problem in item.problems if problem.path == f"spec.{name}")
    assert problem.code == "SPEC002"
    assert f"{name}: {{value: " in problem.fix


@pytest.mark.parametrize("name", [name for name, row in crd.FIELDS.items() if row.kind == "items"])
@pytest.mark.parametrize("bare", ["chat", ["chat"], {"value": "chat"}, {"items": ["chat"]}])
def test_the_fix_for_an_unwrapped_list_shows_the_wrapper(name: str, bare: Any) -> None:
    item = loaded(**{name: bare})
    problem = next(problem for problem in item.problems if problem.path == f"spec.{name}")
    assert problem.code == "SPEC002"
    assert f"{name}: {{items: {{<key>: {{value: " in problem.fix


def test_an_item_without_a_value_is_rejected() -> None:
    assert ("SPEC002", "spec.labels.items.team") in found_problems(loaded(labels={"items": {"team": "a"}}))


def test_a_wrapper_has_no_other_keys() -> None:
    assert found_problems(loaded(gpu={"value": "1", "canEdit": False})) == [("SPEC001", "spec.gpu.canEdit")]
    assert found_problems(loaded(gpu={})) == [("SPEC003", "spec.gpu")]
    assert found_problems(loaded(labels={"items": {}, "locked": []})) == [("SPEC001", "spec.labels.locked")]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("minReplicas", "use minScale"),
        ("metricThreshold", "use target"),
        ("args", "use arguments"),
        ("minscale", "did you mean minScale?"),
        ("tolerations_", "did you mean tolerations?"),
        ("node_pools", "did you mean nodePools?"),
    ],
)
def test_an_unknown_field_is_rejected_with_a_suggestion(written: str, meant: str) -> None:
    item = loaded(**{written: {"value": 1}})
    assert found_problems(item) == [("SPEC001", f"spec.{written}")]
    assert item.problems[0].fix == meant


def test_the_example_of_runai_is_supported() -> None:
    item = loaded(
        gpu={"value": "0.5"},
        minScale={"value": 1},
        maxScale={"value": 2},
        metric={"value": "concurrency"},
        target={"value": 80},
    )
    assert found_problems(item) == []
    assert at(item, "spec.project") == "team-a"
    assert at(item, "spec.autoscaling") == {
        "minReplicas": 1,
        "maxReplicas": 2,
        "metric": "concurrency",
        "metricThreshold": 80.0,
    }


@pytest.mark.parametrize("version", crd.VERSIONS)
def test_both_versions_are_supported(version: str) -> None:
    assert found_problems(load_document({**workload(), "apiVersion": version}, PROFILE)) == []


@pytest.mark.parametrize("version", ["run.ai/v1", "", None, 2])
def test_an_unknown_version_is_recognized_and_rejected(version: Any) -> None:
    assert found_problems(load_document({**workload(), "apiVersion": version}, PROFILE)) == [("SPEC006", "apiVersion")]


@pytest.mark.parametrize(
    ("namespace", "path", "expected"),
    [
        ("runai-team-a", "spec.project", "team-a"),
        ("default", "metadata.namespace", "default"),
        ("runai-", "metadata.namespace", "runai-"),
    ],
)
def test_a_namespace_that_matches_the_profiles_pattern_sets_the_project(
    namespace: str, path: str, expected: str
) -> None:
    data = workload()
    data["metadata"]["namespace"] = namespace
    assert at(load_document(data, PROFILE), path) == expected


def test_the_pattern_of_a_custom_profile_is_used() -> None:
    custom = copy.deepcopy(FULL)
    custom["spec"]["projects"] = {"namespace": "p-{project}-x"}
    profile = Profile.model_validate(custom)
    data = workload()
    data["metadata"]["namespace"] = "p-team-x"
    assert at(load_document(data, profile), "spec.project") == "team"
    data["metadata"]["namespace"] = "runai-team-a"
    assert at(load_document(data, profile), "metadata.namespace") == "runai-team-a"


def test_labels_of_the_resource_are_kept_in_metadata() -> None:
    data = workload()
    data["metadata"] |= {
        "labels": {"team": "a"},
        "annotations": {"note": "b", crd.LAST_APPLIED: "{}"},
        "creationTimestamp": None,
        "uid": "1",
    }
    data["status"] = {"phase": "Running"}
    item = load_document(data, PROFILE)
    assert at(item, "metadata.labels") == {"team": "a"}
    assert at(item, "metadata.annotations") == {"note": "b"}
    assert {code for code, _ in found_problems(item)} == {"CRD001"}
    assert {"status", "metadata.uid"} < {place for _, place in found_problems(item)}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"metadata": {"generateName": "chat-"}}, ("RUN002", "metadata.generateName")),
        ({"metadata": {"finalizers": ["x"]}}, ("SPEC001", "metadata.finalizers")),
        ({"metadata": ["chat"]}, ("SPEC002", "metadata")),
        ({"metadata": {"labels": ["a"]}}, ("SPEC002", "metadata.labels")),
        ({"metadata": {"name": "other"}}, ("CRD001", "metadata.name")),
        ({"data": {}}, ("SPEC001", "data")),
        ({"spec": None}, ("SPEC003", "spec")),
        ({"spec": []}, ("SPEC002", "spec")),
    ],
)
def test_fields_outside_the_spec_are_validated(more: dict[str, Any], expected: tuple[str, str]) -> None:
    assert expected in found_problems(load_document({**workload(), **more}, PROFILE))


@pytest.mark.parametrize("nothing", [None, {"value": None}])
def test_a_workload_needs_a_name_in_its_spec(nothing: Any) -> None:
    data = workload()
    data["spec"]["name"] = nothing
    assert found_problems(load_document(data, PROFILE)) == [("SPEC003", "spec.name")]


def test_a_port_is_mandatory() -> None:
    assert found_problems(loaded(ports=None)) == [("CRD008", "spec.ports")]
    assert ("CRD008", "spec.ports") in found_problems(loaded(ports={"items": {"a": {"exclude": True}}}))


def test_the_metric_name_overrides_the_metric() -> None:
    item = loaded(metric={"value": "latency"}, metricName={"value": "queue_depth"})
    assert at(item, "spec.autoscaling") == {"metric": "custom", "metricName": "queue_depth"}
    assert found_problems(item) == [("CRD006", "spec.metric.value")]
    assert found_problems(loaded(metric={"value": "custom"}, metricName={"value": "queue_depth"})) == []


@pytest.mark.parametrize(
    ("metric", "required"),
    [
        ("concurrency", "kpa"),
        ("throughput", "kpa"),
        ("latency", "hpa"),
        ("gpu-utilization", "hpa"),
        ("my_metric", "hpa"),
    ],
)
def test_the_autoscaler_class_must_match_the_metric(metric: str, required: str) -> None:
    other = "hpa" if required == "kpa" else "kpa"
    assert found_problems(loaded(metric={"value": metric}, **{"class": {"value": crd.CLASSES[required]}})) == []
    refused = loaded(metric={"value": metric}, **{"class": {"value": crd.CLASSES[other]}})
    assert found_problems(refused) == [("CRD003", "spec.class.value")]
    assert crd.CLASSES[required] in refused.problems[0].fix


def test_ids_are_set_with_run_as_user() -> None:
    item = loaded(runAsUser={"value": True}, runAsUid={"value": 1000}, runAsGid={"value": 100})
    assert at(item, "spec.security") == {"runAsUid": 1000, "runAsGid": 100}
    assert found_problems(item) == []


def test_old_and_new_node_pools_exclude_each_other() -> None:
    item = loaded(nodePool={"value": "a"}, nodePools={"value": "b"})
    assert [(problem.code, problem.severity) for problem in item.problems] == [("CRD005", "error")]


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"authorizedUsers": ["ann"]}, "authorizedUsers"),
        ({"authorizedGroups": ["ml"]}, "authorizedGroups"),
    ],
)
def test_a_url_with_users_or_groups_is_never_public(more: dict[str, Any], kind: str) -> None:
    item = loaded(exposedUrls=items(u={"url": "https://chat.example.com", **more}))
    assert at(item, "spec.exposedUrls.0.authorizationType") == kind


def test_problems_have_lines() -> None:
    item = load_document(workload(minScale={"value": "1"}), PROFILE, line=len)
    assert [(problem.path, problem.line) for problem in item.problems] == [("spec.minScale.value", 3)]


def test_all_problems_are_reported_together() -> None:
    item = loaded(gpu={"value": "1.5"}, tty={"value": True}, minScale={"value": "1"}, colour={"value": 1})
    assert {code for code, _ in found_problems(item)} == {"GPU002", "CRD002", "SPEC002", "SPEC001"}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just("9" * 5000),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["value", "items", "exclude", "container", "url", "a"]), inner, max_size=3)
        | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
SPECS = st.dictionaries(
    st.sampled_from(sorted(crd.FIELDS)) | st.text(max_size=8),
    ANYTHING
    | st.fixed_dictionaries({"value": ANYTHING})
    | st.fixed_dictionaries(
        {"items": st.dictionaries(st.text(max_size=4), st.fixed_dictionaries({"value": ANYTHING}), max_size=3)}
    ),
    max_size=6,
)


@given(
    spec=SPECS | ANYTHING,
    metadata=ANYTHING | st.dictionaries(st.sampled_from([*crd.METADATA, *sorted(crd.OBSERVED)]), ANYTHING, max_size=4),
    version=st.sampled_from(crd.VERSIONS) | ANYTHING,
    more=st.dictionaries(st.text(max_size=6), ANYTHING, max_size=2),
)
def test_every_workload_is_converted_or_has_an_error(
    spec: Any, metadata: Any, version: Any, more: dict[str, Any]
) -> None:
    data = {**more, "apiVersion": version, "kind": crd.KIND, "metadata": metadata, "spec": spec}
    item = load_document(data, PROFILE)
    assert (item.inference is None) == bool(select_errors(item.problems))


@given(data=st.dictionaries(st.text(max_size=8), ANYTHING, max_size=4))
def test_only_the_classic_kind_is_recognized(data: dict[str, Any]) -> None:
    assert crd.recognize(data) is (data.get("kind") == "InferenceWorkload")


def load_workload(
    metadata: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **fields: Any
) -> LoadedDocument:
    """Return the smallest classic workload with ``fields`` added to its spec, loaded."""
    data = {
        "apiVersion": "run.ai/v2alpha1",
        "kind": "InferenceWorkload",
        "metadata": {"name": "chat", **(metadata or {})},
        "spec": {
            "name": {"value": "chat"},
            "image": {"value": "ghcr.io/acme/chat:1.0"},
            "ports": {"items": {"http": {"value": {"container": 8000}}}},
            **fields,
        },
        **({} if status is None else {"status": status}),
    }
    return load_document(data, PROFILE)


def test_leading_and_trailing_commas_in_a_list_are_ignored() -> None:
    result = load_workload(capabilities={"value": ",NET_ADMIN, SYS_TIME,"})

    assert result.reading.native["spec"]["security"]["capabilities"] == ["NET_ADMIN", "SYS_TIME"]


def test_a_number_instead_of_a_list_is_rejected_at_its_path() -> None:
    result = load_workload(capabilities={"value": 5})

    assert [
        (problem.code, problem.path, problem.message) for problem in result.problems if problem.severity == "error"
    ] == [("SPEC002", "spec.capabilities.value", "invalid list 5: must be a string, or items")]
    assert result.inference is None


def test_a_metadata_field_without_a_value_is_ignored() -> None:
    assert [problem.path for problem in load_workload({"generateName": None}).problems] == [
        problem.path for problem in load_workload().problems
    ]
    assert "metadata.generateName" in [problem.path for problem in load_workload({"generateName": "x-"}).problems]


def test_an_empty_status_causes_no_problem() -> None:
    assert [problem.path for problem in load_workload(status={}).problems] == [
        problem.path for problem in load_workload().problems
    ]
    assert "status" in [problem.path for problem in load_workload(status={"phase": "Running"}).problems]
