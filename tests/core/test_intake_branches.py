"""Edge cases of the readers: values that a spec cannot express, and failures that must be reported."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.core.adopt import attempt, knative, kserve
from ebbtide.core.adopt.cleaning import clean_object
from ebbtide.core.adopt.defaults import is_server_written
from ebbtide.core.adopt.derive import derive_spec
from ebbtide.core.adopt.live import ImportResult, import_object, render_stored_spec, with_kinds_installed
from ebbtide.core.base import keys
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.profile.built_in import FULL, FULL_NAME
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.reading import API_VERSION, KIND
from ebbtide.core.translation.objects import apply_merge_patch
from ebbtide.core.translation.pods import PatchConflict
from ebbtide.core.translation.translate import translate

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Problem

PROFILE = Profile.model_validate(FULL)
IMAGE = "ghcr.io/acme/chat:1.0"
KSVC: dict[str, Any] = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {"name": "chat"},
    "spec": {"template": {"spec": {"containers": [{"image": IMAGE, "ports": [{"containerPort": 8080}]}]}}},
}
ISVC: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "iris"},
    "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "gs://models/iris"}}},
}


def stock(backend: str, **projects: Any) -> Profile:
    """Return a profile without KAI and with one pool."""
    pool = {"product": "NVIDIA-A100-SXM4-80GB", "gpuMemoryMebibytes": 81920, "devices": 8}
    return profile(
        scheduling={"scheduler": "default-scheduler", "classesOwner": "ebbtide"},
        nodePools=[{"name": backend, "backend": backend, **pool}],
        projects={"quota": "none", **projects},
    )


def profile(**changes: Any) -> Profile:
    """Return the built-in profile with ``changes`` merged into its spec."""
    _, data, _ = profiles.load_profile_with_data(FULL_NAME)
    cluster, problems = profiles.validate_profile_data(apply_merge_patch(data, {"spec": changes}))
    assert cluster is not None, problems
    return cluster


def changed(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a live object with a merge patch applied."""
    patched = apply_merge_patch(copy.deepcopy(base), patch)
    assert isinstance(patched, dict)
    return patched


def with_metadata(**metadata: Any) -> dict[str, Any]:
    return changed(KSVC, {"metadata": metadata})


def with_revision(**annotations: str) -> dict[str, Any]:
    """Return the Knative Service with autoscaling annotations on its pods."""
    scaling = {f"autoscaling.knative.dev/{name.replace('_', '-')}": text for name, text in annotations.items()}
    return changed(KSVC, {"spec": {"template": {"metadata": {"annotations": scaling}}}})


def with_container(pod: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    """Return the Knative Service with fields added to its pod and its container."""
    service = changed(KSVC, {"spec": {"template": {"spec": pod or {}}}})
    service["spec"]["template"]["spec"]["containers"][0].update(container)
    return service


def imported(obj: dict[str, Any], cluster: Profile = PROFILE) -> ImportResult:
    """Return the import of an object, after checking that it renders to that object."""
    result = import_object(copy.deepcopy(obj), cluster)
    assert problems_of(result, "IMP005") == []
    assert clean_object(rendered(result.native, cluster), cluster, marked=is_server_written(obj)) == clean_object(
        obj, cluster
    )
    return result


def rendered(native: dict[str, Any], cluster: Profile) -> dict[str, Any]:
    """Return the workload object that a native document renders to."""
    loaded = load_document(native, cluster)
    assert loaded.inference is not None, loaded.problems
    translation = translate(loaded.inference, cluster, loaded.canonical)
    (top,) = [obj for obj in translation.objects if obj["apiVersion"].startswith("serving.")]
    return top


def problems_of(result: ImportResult, code: str) -> list[Problem]:
    return [problem for problem in result.losses if problem.code == code]


def places(result: ImportResult, code: str) -> list[str]:
    return [problem.path for problem in problems_of(result, code)]


def pod_patch(result: ImportResult) -> dict[str, Any]:
    patch = result.patch["spec"]["template"]["spec"]
    assert isinstance(patch, dict)
    return patch


# Defaults that the webhooks add.


def test_knatives_defaults_of_a_periodic_readiness_probe_are_not_reported_as_lost() -> None:
    probe = {"httpGet": {"path": "/ready"}, "periodSeconds": 5}
    lived = with_container(readinessProbe={**probe, "failureThreshold": 3, "timeoutSeconds": 1, "successThreshold": 1})
    lived["metadata"]["uid"] = "1"

    result = imported(lived)

    assert result.native["spec"]["probes"]["readiness"] == {
        "handler": {"httpGet": {"path": "/ready"}},
        "periodSeconds": 5,
    }
    assert clean_object(lived, PROFILE) == clean_object(with_container(readinessProbe=probe), PROFILE)


def test_other_values_of_a_periodic_readiness_probe_are_kept() -> None:
    lived = with_container(
        readinessProbe={"tcpSocket": {}, "periodSeconds": 5, "failureThreshold": 4, "timeoutSeconds": 1}
    )
    lived["metadata"]["uid"] = "1"

    assert imported(lived).native["spec"]["probes"]["readiness"] == {
        "handler": {"tcpSocket": {}},
        "periodSeconds": 5,
        "failureThreshold": 4,
    }


def test_knative_sets_no_defaults_in_a_readiness_probe_without_a_period() -> None:
    lived = with_container(readinessProbe={"tcpSocket": {}, "failureThreshold": 3, "timeoutSeconds": 1})
    lived["metadata"]["uid"] = "1"

    # Ebbtide renders a period, since Knative's webhook rejects a timeout without one.
    assert pod_patch(imported(lived))["containers"][0]["readinessProbe"] == {
        "tcpSocket": {},
        "timeoutSeconds": 1,
        "failureThreshold": 3,
    }


def test_an_older_predictor_gets_the_default_protocol_of_the_webhook() -> None:
    older = changed(ISVC, {"spec": {"predictor": {"model": None, "onnx": {"storageUri": "gs://models/iris"}}}})

    assert imported(older).native["spec"]["model"] == {
        "format": "onnx",
        "uri": "gs://models/iris",
        "protocol": "v2",
    }


def test_a_predictor_that_is_not_a_mapping_is_rejected() -> None:
    (problem,) = problems_of(import_object(changed(ISVC, {"spec": {"predictor": "sklearn"}}), PROFILE), "IMP005")

    assert problem.severity == "error"
    assert "no spec renders this object" in problem.message


def test_a_model_without_a_format_is_reported_at_the_field_of_the_object() -> None:
    model = {"storageUri": "s3://models/iris", "modelFormat": None}
    (problem,) = problems_of(import_object(changed(ISVC, {"spec": {"predictor": {"model": model}}}), PROFILE), "IMP005")

    assert problem.path == "spec.predictor.model.modelFormat.name"
    assert problem.fix == "set spec.predictor.model.modelFormat.name"


def test_an_object_without_a_mode_is_standard_if_the_cluster_has_no_knative_mode() -> None:
    assert imported(ISVC, profile(kserve={"modes": ["Standard"]})).native["spec"]["serving"] == "kserve-standard"
    assert "serving" not in imported(ISVC).native["spec"]


def test_cleaning_another_kind_removes_only_what_every_api_server_adds() -> None:
    other = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x", "namespace": "ml", "uid": "1", "labels": {"ebbtide.dev/project": "a"}},
        "spec": {"replicas": 1},
        "status": {},
    }

    assert clean_object(other, PROFILE) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x", "namespace": "ml"},
        "spec": {"replicas": 1},
    }


def test_a_toleration_that_is_not_a_mapping_is_kept() -> None:
    odd = with_container({"tolerations": ["odd", {"key": "gpu"}]})

    assert clean_object(odd, PROFILE)["spec"]["template"]["spec"]["tolerations"] == [
        "odd",
        {"key": "gpu", "operator": "Equal"},
    ]


def test_the_kinds_of_an_object_are_installed_on_its_cluster() -> None:
    without = profile(kserve={"llm": "none"})
    assert with_kinds_installed(without).spec.kserve.llm == "scheduler"
    assert with_kinds_installed(profile(kserve={"installed": False})).spec.kserve.installed
    without = profile(kserve={"installed": False, "llm": "none"})
    assert with_kinds_installed(without).spec.kserve.modes == ["Knative", "Standard"]


@pytest.mark.parametrize("stored", ["{", "[]", "null"])
def test_a_stored_spec_that_cannot_be_read_renders_nothing(stored: str) -> None:
    assert render_stored_spec(with_metadata(annotations={keys.SPEC: stored}), PROFILE) is None


def test_a_stored_spec_with_a_project_has_the_namespace_of_the_project() -> None:
    spec = {"image": IMAGE, "project": "research"}
    loaded = load_document(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "chat"}, "spec": spec}, PROFILE
    )
    assert loaded.inference is not None
    (top,) = [obj for obj in translate(loaded.inference, PROFILE, loaded.canonical).objects if obj["kind"] == "Service"]

    without = copy.deepcopy(top)
    without["metadata"]["annotations"][keys.SPEC] = json.dumps({"image": IMAGE})
    for obj in (top, without):
        found = render_stored_spec(obj, PROFILE)
        assert found is not None
        assert found[0]["metadata"]["namespace"] == top["metadata"]["namespace"]


# Fields that a spec cannot express.


@pytest.mark.parametrize("known", [True, False])
def test_in_a_closed_cluster_only_a_listed_namespace_is_a_project(*, known: bool) -> None:
    cluster = stock("devices", closed=True, known={"team-a": {}} if known else {})

    labels = {"app.kubernetes.io/part-of": "team-a"}
    result = imported(with_metadata(namespace="runai-team-a", labels=labels), cluster)

    assert result.native["spec"].get("project") == ("team-a" if known else None)
    assert result.native["metadata"].get("namespace") == (None if known else "runai-team-a")


def test_a_timeout_of_zero_is_kept_in_a_patch() -> None:
    result = imported(with_container({"timeoutSeconds": 0}))

    assert "servingConfiguration" not in result.native["spec"]
    assert pod_patch(result)["timeoutSeconds"] == 0
    assert "spec.template.spec.timeoutSeconds" in places(result, "IMP001")


def test_invalid_quantities_are_kept_in_a_patch() -> None:
    odd = {"limits": {"cpu": True, "memory": ["1Gi"]}}

    result = imported(with_container(resources=odd))

    assert "compute" not in result.native["spec"]
    assert pod_patch(result)["containers"][0]["resources"] == odd


def test_resources_that_are_not_a_mapping_are_kept_in_a_patch() -> None:
    assert pod_patch(imported(with_container(resources="1 GPU")))["containers"][0]["resources"] == "1 GPU"


def test_a_volume_without_a_mount_is_kept_in_a_patch() -> None:
    result = imported(with_container({"volumes": [{"name": "idle", "emptyDir": {}}]}))

    assert "storage" not in result.native["spec"]
    assert pod_patch(result)["volumes"] == [{"name": "idle", "emptyDir": {}}]


def test_an_unsupported_variable_is_kept_in_a_patch_of_its_own() -> None:
    field = {"name": "CORES", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}
    result = imported(with_container(env=[field, {"name": "A", "value": "1"}]))

    assert result.native["spec"]["environmentVariables"] == [{"name": "A", "value": "1"}]
    assert result.origins["spec", "environmentVariables", 0][-2:] == ("env", 1)
    (container,) = pod_patch(result)["containers"]
    assert container == {"name": "user-container", "env": [field], "$setElementOrder/env": ["CORES", "A"]}


def test_an_item_without_a_name_keeps_the_whole_list_in_a_patch() -> None:
    result = imported(with_container(env=["odd", {"name": "A", "value": "1"}]))

    assert "environmentVariables" not in result.native["spec"]
    assert pod_patch(result)["containers"][0]["env"] == ["odd", {"name": "A", "value": "1"}]


def test_a_metric_that_the_class_does_not_support_is_kept_as_an_annotation() -> None:
    result = imported(with_revision(metric="memory", target="50", min_scale="1", max_scale="3"))

    assert result.native["spec"]["autoscaling"] == {"minReplicas": 1, "maxReplicas": 3, "metricThreshold": 50}
    annotations = result.patch["spec"]["template"]["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/metric"] == "memory"
    assert "spec.template.metadata.annotations.autoscaling.knative.dev/metric" in places(result, "IMP001")


@pytest.mark.parametrize("metric", ["concurrency", "not a name"])
def test_a_metric_that_no_spec_can_express_is_kept_as_an_annotation(metric: str) -> None:
    lived = with_revision(**{"class": "hpa.autoscaling.knative.dev"}, metric=metric, min_scale="1", max_scale="3")

    result = imported(lived)

    assert result.native["spec"]["autoscaling"] == {"minReplicas": 1, "maxReplicas": 3}
    annotations = result.patch["spec"]["template"]["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/metric"] == metric


def test_a_metric_without_a_target_has_the_limit_as_its_threshold() -> None:
    rendered_by_ebbtide = with_revision(metric="concurrency", min_scale="1", max_scale="3")
    rendered_by_ebbtide["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "ebbtide"}
    rendered_by_ebbtide["spec"]["template"]["spec"]["containerConcurrency"] = 4

    draft = derive_spec(knative.make_view(rendered_by_ebbtide, PROFILE.spec), PROFILE.spec, ())

    assert draft.spec["autoscaling"]["metricThreshold"] == 4


def test_a_metric_that_no_spec_has_is_not_derived_with_ebbtides_defaults_either() -> None:
    kpa = {"class": "kpa.autoscaling.knative.dev", "metric": "memory", "min_scale": "1", "max_scale": "3"}

    draft = derive_spec(knative.make_view(with_revision(**kpa), PROFILE.spec), PROFILE.spec, ())

    assert draft.spec["autoscaling"] == {"minReplicas": 1, "maxReplicas": 3}


def test_the_default_minimum_of_kserve_is_not_written_into_the_spec() -> None:
    draft = derive_spec(kserve.make_view(ISVC, PROFILE.spec), PROFILE.spec, ())

    assert "autoscaling" not in draft.spec


def test_the_container_of_kserve_is_found_behind_a_sidecar() -> None:
    containers = [{"name": "log", "image": "ghcr.io/acme/log:1"}, {"name": "kserve-container", "image": IMAGE}]

    spec = imported(changed(ISVC, {"spec": {"predictor": {"model": None, "containers": containers}}})).native["spec"]

    assert spec["image"] == IMAGE
    assert spec["sidecars"] == containers[:1]


@pytest.mark.parametrize("known", [True, False])
def test_a_priority_class_is_set_in_the_spec_only_if_the_profile_has_it(*, known: bool) -> None:
    cluster = profile(scheduling={"classes": {"urgent": 900, "inference": 125}}) if known else PROFILE

    result = imported(with_container({"priorityClassName": "urgent"}), cluster)

    assert result.native["spec"].get("priorityClass") == ("urgent" if known else None)
    assert bool(result.patch) is not known


def test_the_grpc_port_of_a_model_needs_no_patch_and_every_edit_has_an_effect() -> None:
    port = {"containerPort": 9000, "name": "h2c", "protocol": "TCP"}
    native = imported(changed(ISVC, {"spec": {"predictor": {"model": {"ports": [port]}}}})).native
    assert native["spec"]["servingPort"] == {"container": 9000, "protocol": "grpc"}
    assert "patches" not in native["spec"]

    native["spec"]["environmentVariables"] = [{"name": "A", "value": "1"}]

    assert rendered(native, PROFILE)["spec"]["predictor"]["model"]["env"] == [{"name": "A", "value": "1"}]


def test_variables_of_one_name_are_kept_by_a_patch_with_a_warning_that_names_them() -> None:
    variables = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]

    result = imported(with_container(name="web", env=variables))

    assert result.native["spec"]["containerName"] == "web"
    assert pod_patch(result)["containers"][0]["env"] == variables
    assert any("duplicate environment variable A" in problem.message for problem in result.losses)


def test_a_patch_is_reported_at_the_field_that_renders_the_value() -> None:
    container = {"name": "web", "volumeMounts": [{"mountPath": "/files", "readOnly": None}]}
    files = {"secret": "files", "mountPath": "/files"}
    spec = {"image": IMAGE, "containerName": "web", "storage": {"secretVolume": [files]}}
    patch = {"kind": "Service", "patch": {"spec": {"template": {"spec": {"containers": [container]}}}}}
    native = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "chat"},
        "spec": {**spec, "patches": [patch]},
    }
    loaded = load_document(native, PROFILE)
    assert loaded.inference is not None

    problems = translate(loaded.inference, PROFILE, "{}").problems

    assert [problem.path for problem in problems if problem.code == "PAT003"] == ["spec.storage.secretVolume[0]"]


def test_defaults_of_the_api_server_need_no_patch() -> None:
    secret = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a", "optional": False}}}
    pod = {
        "tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}, {"key": "spot"}],
        "volumes": [{"name": "files", "configMap": {"name": "files", "optional": False}}],
    }

    mount = {"name": "files", "mountPath": "/files"}

    result = imported(with_container(pod, env=[secret], volumeMounts=[mount]))

    assert result.patch == {}
    assert result.native["spec"]["tolerations"][1] == {"key": "spot", "operator": "Equal"}


@pytest.mark.parametrize("limits", [{"nvidia.com/gpu": "2"}, {"nvidia.com/gpumem": "100"}])
def test_gpus_that_hami_would_render_with_another_limit_are_kept_by_a_patch(limits: dict[str, str]) -> None:
    result = imported(with_container(resources={"limits": limits}), stock("hami"))

    assert "compute" not in result.native["spec"]
    assert pod_patch(result)["containers"][0]["resources"]["limits"] == limits


def test_an_nfs_share_is_imported_with_its_server() -> None:
    nfs = {"server": "nfs.example.com", "path": "/export"}
    lived = with_container(
        {"volumes": [{"name": "share", "nfs": nfs}]}, volumeMounts=[{"name": "share", "mountPath": "/data"}]
    )

    draft = derive_spec(knative.make_view(clean_object(lived, PROFILE), PROFILE.spec), PROFILE.spec, ())

    assert draft.spec["storage"]["nfs"] == [{**nfs, "mountPath": "/data", "name": "share"}]
    assert pod_patch(imported(lived))["volumes"] == [{"name": "share", "nfs": nfs}]


# Failures.


@pytest.mark.parametrize("fault", [PatchConflict("two features both set limits cpu"), OverflowError("two big")])
def test_a_failure_of_the_translation_is_reported_and_not_raised(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise fault

    monkeypatch.setattr(attempt, "translate", broken)

    (problem,) = problems_of(import_object(KSVC, PROFILE), "IMP005")

    assert problem.severity == "error"
    assert str(fault) in problem.message


def test_an_object_that_needs_too_many_repairs_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    lived = with_container(imagePullPolicy="Sometimes")
    assert imported(lived).native["spec"].get("imagePullPolicy") is None

    monkeypatch.setattr(attempt, "ROUNDS", 1)

    (problem,) = problems_of(import_object(lived, PROFILE), "IMP005")
    assert "imagePullPolicy" in problem.message


def test_an_object_with_too_many_fields_that_its_patch_covers_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    covered = with_container(env=["odd", {"name": "A", "value": "1"}])
    assert imported(covered).native["spec"].get("environmentVariables") is None

    monkeypatch.setattr(attempt, "ROUNDS", 1)

    assert problems_of(import_object(covered, PROFILE), "IMP005") != []


@pytest.mark.parametrize(
    "part",
    [
        {"$setElementOrder/containers": ["user-container"]},
        {"hostAliases": [{"$patch": "delete", "ip": "192.0.2.1"}]},
    ],
)
def test_a_field_with_the_name_of_a_patch_directive_cannot_be_patched(part: dict[str, Any]) -> None:
    (problem,) = problems_of(import_object(with_container(part), PROFILE), "IMP005")

    assert problem.severity == "error"


def test_an_unsupported_uri_of_a_model_is_kept_in_a_patch() -> None:
    result = imported(changed(ISVC, {"spec": {"predictor": {"model": {"storageUri": "swift://b/m"}}}}))

    assert "uri" not in result.native["spec"]["model"]
    assert result.patch == {"spec": {"predictor": {"model": {"storageUri": "swift://b/m"}}}}


def test_a_field_whose_name_is_not_a_string_cannot_be_patched() -> None:
    (problem,) = problems_of(import_object({**copy.deepcopy(KSVC), 7: "x"}, PROFILE), "IMP005")  # type: ignore[dict-item]

    assert problem.severity == "error"


def test_a_rejected_list_is_reported_and_removed_from_the_spec() -> None:
    cluster = profile(knative={"features": {"kubernetes.podspec-volumes-emptydir": "disabled"}})
    lived = with_container(
        {"volumes": [{"name": "tmp", "emptyDir": {}}]}, volumeMounts=[{"name": "tmp", "mountPath": "/work"}]
    )

    result = imported(lived, cluster)

    assert "storage" not in result.native["spec"]
    assert pod_patch(result)["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    assert places(result, "IMP002") == ["spec.storage.emptyDirVolume"]


# Metadata of the object.


def test_the_category_is_imported_from_the_object() -> None:
    result = imported(with_metadata(labels={"ebbtide.dev/category": "demo"}))

    assert result.native["spec"]["category"] == "demo"
    assert problems_of(result, "IMP004") == []


def test_an_owner_of_the_object_is_reported() -> None:
    (lost,) = problems_of(imported(with_metadata(ownerReferences=[{"kind": "App", "name": "x"}])), "IMP004")

    assert "metadata.ownerReferences" in lost.message


@pytest.mark.parametrize("obj", [KSVC, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat"}}])
def test_an_object_without_a_stored_spec_has_nothing_to_render(obj: dict[str, Any]) -> None:
    assert render_stored_spec(obj, PROFILE) is None


@pytest.mark.parametrize("stored", ["{", "[" * 100_000, "[]", "7"], ids=["cut off", "too deep", "list", "number"])
def test_a_stored_spec_that_is_not_a_mapping_is_ignored(stored: str) -> None:
    result = imported(with_metadata(annotations={"ebbtide.dev/spec": stored}))

    assert places(result, "IMP003") == ["metadata.annotations.ebbtide.dev/spec"]
    assert result.native["spec"]["image"] == IMAGE


def test_a_stored_spec_without_a_project_keeps_its_namespace() -> None:
    cluster = stock("devices")
    native = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat", "namespace": "runai-team-a"},
        "spec": {"image": IMAGE},
    }

    result = import_object(rendered(native, cluster), cluster)

    assert result.losses == []
    assert result.native["metadata"]["namespace"] == "runai-team-a"
    assert result.native["spec"] == {"image": IMAGE}


@pytest.mark.parametrize(("mode", "count", "scaler"), [("ModelMesh", 1, "none"), ("Knative", 0, "Knative's KPA")])
def test_a_model_of_modelmesh_has_no_autoscaler(mode: str, count: int, scaler: str) -> None:
    obj = {**ISVC, "metadata": {"name": "iris", "annotations": {keys.DEPLOYMENT_MODE: mode}}}

    loaded = load_document(obj, PROFILE)

    assert [problem.code for problem in loaded.problems].count("IMP010") == count
    assert loaded.inference is not None
    decisions = translate(loaded.inference, PROFILE, loaded.canonical).decisions
    assert [decision.value for decision in decisions if decision.subject == "autoscaler"] == [scaler]


@pytest.mark.parametrize(("mode", "count"), [("ModelMesh", 0), ("Knative", 1)])
def test_modelmesh_copies_no_annotations_to_pods(mode: str, count: int) -> None:
    annotations = {keys.DEPLOYMENT_MODE: mode, "example.com/team": "a"}
    loaded = load_document({**ISVC, "metadata": {"name": "iris", "annotations": annotations}}, PROFILE)

    assert loaded.inference is not None
    problems = translate(loaded.inference, PROFILE, loaded.canonical).problems
    assert [problem.code for problem in problems].count("SRV022") == count
