"""The law of kustomize's built-in transformers: with the component ``kustomize/specs``, they reach a spec.

The effect on the spec, then rendered, equals the rendering of the edited spec, and where kustomize can change rendered objects
correctly, the rendering with the same transformer. Everything runs in the real kustomize.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import test_kustomize
import yaml
from test_kustomize import ROOT, build, read

from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ebbtide.core.translation.objects import Object

kustomize = test_kustomize.kustomize
COMPONENT = ROOT / "kustomize" / "specs"
IMAGE, SIDE = "ghcr.io/acme/chat", "ghcr.io/acme/side"


def spec(**fields: Any) -> Object:
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat"},
        "spec": {"image": f"{IMAGE}:1", **fields},
    }


CLAIM = {"path": "/data", "claimInfo": {"size": "1Gi", "accessModes": {"readWriteOnce": True}}}
SPECS = {
    "knative": spec(
        environmentVariables=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        sidecars=[{"name": "log", "image": f"{SIDE}:1"}],
    ),
    "scaled": spec(autoscaling={"minReplicas": 0, "maxReplicas": 4, "metric": "concurrency", "metricThreshold": 4}),
    "companions": spec(storage={"pvc": [CLAIM]}, exposedUrls=[{"url": "https://chat.acme.example"}]),
    "kserve": spec(serving="kserve", initContainers=[{"name": "load", "image": f"{SIDE}:1"}]),
    "transformer": spec(
        serving="kserve", transformer={"containers": [{"name": "kserve-container", "image": f"{SIDE}:1"}]}
    ),
    "standard": spec(
        serving="kserve-standard",
        compute={"cpuCoreRequest": 1},
        autoscaling={"maxReplicas": 3, "metric": "cpu-utilization", "metricThreshold": 70},
    ),
}


@pytest.fixture
def make(kustomize: str, tmp_path: Path) -> Callable[..., list[Object]]:
    """Return a function that builds objects with the fields of a kustomization, with the component for specs."""
    shutil.copytree(COMPONENT, tmp_path / "component")
    number = iter(range(1000))

    def build_objects(objects: list[Object], fields: dict[str, Any]) -> list[Object]:
        folder = tmp_path / f"build-{next(number)}"
        folder.mkdir()
        (folder / "objects.yaml").write_text("".join(manifests.write_documents(objects)))
        components = ["../component"] if any(item["kind"] == "Inference" for item in objects) else []
        kustomization = {"resources": ["objects.yaml"], "components": components, **fields}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        result = build(kustomize, folder)
        assert result.code == 0, result.err
        return result.out

    return build_objects


def render(documents: list[Object], *codes: str) -> list[Object]:
    """Return the objects of specs; ``codes`` are those of the errors."""
    batch = Batch(profiles.load_built_in("full"))
    results = [batch.add_document(load_document(item, batch.profile)) for item in documents]
    assert [row.code for _, _, rows in results for row in rows if row.severity == "error"] == [*codes]
    return [obj for objects, _, _ in results for obj in objects]


def normalize(objects: list[Object]) -> list[Object]:
    """Return the objects in one order, without the stored spec, which no transformer of rendered objects changes."""
    result = copy.deepcopy(objects)
    for item in result:
        annotations = item["metadata"].get("annotations", {})
        annotations.pop(keys.SPEC, None)
        if not annotations:
            item["metadata"].pop("annotations", None)
    return sorted(result, key=lambda item: (item["kind"], item["metadata"]["name"]))


def select_top(objects: list[Object]) -> list[Object]:
    return [
        item for item in normalize(objects) if item["kind"] == "InferenceService" or "serving" in item["apiVersion"]
    ]


def edited(document: Object, **fields: Any) -> Object:
    """Return a spec with other fields in its blocks."""
    result = copy.deepcopy(document)
    for block, values in fields.items():
        holder = result["metadata"] if block == "metadata" else result["spec"].setdefault(block, {})
        holder.update(values)
    return result


IMAGES = [{"name": IMAGE, "newTag": "v9"}, {"name": SIDE, "newName": "registry.acme.example/side", "newTag": "2"}]


@pytest.mark.parametrize("name", SPECS)
def test_images_in_a_spec_equal_those_of_its_objects(make: Any, name: str) -> None:
    fields = {"images": IMAGES}
    from_spec = render(make([SPECS[name]], fields))

    assert normalize(from_spec) == normalize(make(render([SPECS[name]]), fields))
    assert f"{IMAGE}:v9" in json.dumps(normalize(from_spec))
    assert f"{SIDE}:1" not in json.dumps(from_spec)


def test_images_reach_image_volumes(make: Any) -> None:
    document = spec(storage={"imageVolume": [{"image": f"{SIDE}:1", "mountPath": "/models"}]})

    assert "registry.acme.example/side:2" in json.dumps(make([document], {"images": IMAGES}))


@pytest.mark.parametrize("name", SPECS)
def test_a_namespace_of_a_spec_is_that_of_its_objects(make: Any, name: str) -> None:
    fields = {"namespace": "team-a"}
    from_spec = render(make([SPECS[name]], fields))

    assert normalize(from_spec) == normalize(make(render([SPECS[name]]), fields))
    assert {item["metadata"].get("namespace") for item in select_top(from_spec)} == {"team-a"}


def test_a_namespace_and_a_project_are_refused(make: Any) -> None:
    assert render(make([spec(project="team-a")], {"namespace": "team-b"}), "NAM003") == []


def rename(objects: list[Object], name: str) -> str:
    return json.dumps(objects, sort_keys=True).replace(name, "chat")


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    ("fields", "new"),
    [({"namePrefix": "dev-"}, "dev-chat"), ({"nameSuffix": "-b"}, "chat-b")],
    ids=["prefix", "suffix"],
)
def test_a_prefix_or_suffix_renames_the_workload(make: Any, name: str, fields: dict[str, str], new: str) -> None:
    assert make([SPECS[name]], fields) == make([edited(SPECS[name], metadata={"name": new})], {})
    from_spec = select_top(render(make([SPECS[name]], fields)))
    changed = select_top(make(render([SPECS[name]]), fields))
    if name != "companions":
        # The names in labels are those of the spec, and kustomize cannot know them.
        assert rename(from_spec, new) == rename(changed, new)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    "fields",
    [
        {"labels": [{"pairs": {"acme.example/team": "a"}}]},
        {"labels": [{"pairs": {"acme.example/team": "a"}, "includeTemplates": True}]},
        {"commonAnnotations": {"acme.example/owner": "a"}},
    ],
    ids=["labels", "labels-and-templates", "annotations"],
)
def test_labels_and_annotations_of_a_spec_are_those_of_the_workload(
    make: Any, name: str, fields: dict[str, Any]
) -> None:
    from_spec = render(make([SPECS[name]], fields))

    # The object that carries the service has them, not its claims and host names.
    kind = "InferenceService" if "serving" in SPECS[name]["spec"] else "Service"
    (ours,) = (item for item in normalize(from_spec) if item["kind"] == kind)
    (theirs,) = (item for item in normalize(make(render([SPECS[name]]), fields)) if item["kind"] == kind)
    assert ours == theirs


def test_labels_of_ebbtide_are_refused(make: Any) -> None:
    fields = {"labels": [{"pairs": {"app.kubernetes.io/part-of": "shop"}}]}

    assert render(make([SPECS["knative"]], fields), "LAB002") == []


@pytest.mark.parametrize("name", SPECS)
def test_replicas_fix_the_number(kustomize: str, make: Any, name: str, tmp_path: Path) -> None:
    fields = {"replicas": [{"name": "chat", "count": 3}]}
    fixed = edited(SPECS[name], autoscaling={"minReplicas": 3, "maxReplicas": 3})

    assert render(make([SPECS[name]], fields)) == render(make([fixed], {}))
    # kustomize finds no field for replicas in rendered objects, and rejects the name.
    (tmp_path / "objects.yaml").write_text("".join(manifests.write_documents(render([SPECS[name]]))))
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["objects.yaml"], **fields}))
    result = build(kustomize, tmp_path)
    assert result.code != 0
    assert "resource with name chat does not match" in result.err


PATCH = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Inference",
    "metadata": {"name": "chat"},
    "spec": {
        "environmentVariables": [{"name": "B", "value": "3"}, {"name": "A", "$patch": "delete"}],
        "sidecars": [{"name": "log", "args": ["-v"], "env": [{"name": "X", "value": "1"}]}],
    },
}


def test_a_merge_patch_merges_lists_by_name(make: Any) -> None:
    (result,) = make([SPECS["knative"]], {"patches": [{"patch": yaml.safe_dump(PATCH)}]})

    assert result["spec"]["environmentVariables"] == [{"name": "B", "value": "3"}]
    side = {"name": "log", "image": f"{SIDE}:1", "args": ["-v"], "env": [{"name": "X", "value": "1"}]}
    assert result["spec"]["sidecars"] == [side]
    assert render([result])


def test_a_generated_config_map_is_found_under_its_new_name(make: Any) -> None:
    variables = [{"name": "A", "configMap": {"name": "settings", "key": "a"}}]
    volumes = [{"configMap": "settings", "mountPath": "/etc/settings"}]
    document = spec(environmentVariables=variables, storage={"configMapVolume": volumes})
    fields = {"configMapGenerator": [{"name": "settings", "literals": ["a=1"]}], "namePrefix": "dev-"}
    config_map, result = sorted(make([document], fields), key=lambda item: str(item["kind"]))

    name = config_map["metadata"]["name"]
    assert name.startswith("dev-settings-")
    assert result["spec"]["environmentVariables"][0]["configMap"]["name"] == name
    assert result["spec"]["storage"]["configMapVolume"][0]["configMap"] == name
    assert render([result])


# Other objects of the same build.


def pod_spec(**fields: Any) -> dict[str, Any]:
    """Return a pod's spec with an item in each list that a patch merges."""
    container = {
        "name": "a",
        "image": "a:1",
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "ports": [{"containerPort": 80, "name": "http"}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "volumeDevices": [{"name": "d", "devicePath": "/dev/d"}],
    }
    return {
        "containers": [container, {"name": "b", "image": "b:1"}],
        "initContainers": [{"name": "i", "image": "i:1"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "imagePullSecrets": [{"name": "p"}],
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}],
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
        **fields,
    }


POD_PATCH = {
    "containers": [
        {
            "name": "a",
            "env": [{"name": "C", "value": "3"}],
            "ports": [{"containerPort": 81}],
            "volumeMounts": [{"name": "w", "mountPath": "/w"}],
            "volumeDevices": [{"name": "e", "devicePath": "/dev/e"}],
        }
    ],
    "initContainers": [{"name": "i", "args": ["x"]}],
    "volumes": [{"name": "v", "configMap": {"name": "c"}}, {"name": "w", "emptyDir": {}}],
    "imagePullSecrets": [{"name": "q"}],
    "hostAliases": [{"ip": "192.0.2.2", "hostnames": ["b"]}],
    "tolerations": [{"key": "b", "operator": "Exists"}],
    "topologySpreadConstraints": [{"topologyKey": "host", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
}
STRATEGY = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}


def templated(pod: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": pod}, **fields}}


#: An object of each kind of Kubernetes in the schema, and a patch of it, by API version and kind.
KUBERNETES: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {
    ("v1", "Pod"): ({"spec": pod_spec()}, {"spec": POD_PATCH}),
    ("v1", "PodTemplate"): ({"template": {"spec": pod_spec()}}, {"template": {"spec": POD_PATCH}}),
    ("v1", "Service"): ({"spec": {"ports": [{"port": 80}]}}, {"spec": {"ports": [{"port": 81}]}}),
    ("v1", "ServiceAccount"): (
        {"secrets": [{"name": "a"}], "imagePullSecrets": [{"name": "a"}]},
        {"secrets": [{"name": "b"}], "imagePullSecrets": [{"name": "b"}]},
    ),
    ("apps/v1", "Deployment"): (
        templated(pod_spec(), strategy=STRATEGY),
        templated(POD_PATCH, strategy={"type": "Recreate"}),
    ),
    **{
        (version, kind): (templated(pod_spec()), templated(POD_PATCH))
        for version, kind in (
            ("v1", "ReplicationController"),
            ("apps/v1", "DaemonSet"),
            ("apps/v1", "ReplicaSet"),
            ("apps/v1", "StatefulSet"),
            ("batch/v1", "Job"),
        )
    },
    ("batch/v1", "CronJob"): (
        {"spec": {"jobTemplate": templated(pod_spec())}},
        {"spec": {"jobTemplate": templated(POD_PATCH)}},
    ),
    **{
        ("admissionregistration.k8s.io/v1", kind): (
            {"webhooks": [{"name": "a.acme.example"}]},
            {"webhooks": [{"name": "b.acme.example"}]},
        )
        for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    },
}


def test_kubernetes_workloads_are_patched_as_without_the_schema(make: Any) -> None:
    """kustomize reads the component's schema instead of the built-in one, for every object of the build."""
    names = {key: f"x{number}" for number, key in enumerate(KUBERNETES)}

    def head(key: tuple[str, str], **metadata: Any) -> Object:
        return {"apiVersion": key[0], "kind": key[1], "metadata": {"name": names[key], **metadata}}

    objects = [head(key, finalizers=["a.example/a"]) | before for key, (before, _) in KUBERNETES.items()]
    patches = [head(key, finalizers=["b.example/b"]) | patch for key, (_, patch) in KUBERNETES.items()]
    fields = {"patches": [{"patch": yaml.safe_dump(patch)} for patch in patches], "namespace": "team-a"}
    plain = make(objects, fields)
    with_component = make([*objects, SPECS["knative"]], fields)

    assert [item for item in with_component if item["kind"] != "Inference"] == plain
    schema = json.loads((COMPONENT / "schema.json").read_text())["definitions"]
    covered = {
        (f"{row['group']}/{row['version']}".lstrip("/"), row["kind"])
        for entry in schema.values()
        for row in entry.get("x-kubernetes-group-version-kind", ())
    }
    assert covered == {*KUBERNETES, ("ebbtide.dev/v1alpha1", "Inference")}


@pytest.mark.parametrize("place", ["specs", "."])
def test_kustomize_edit_set_image_works_in_an_overlay(kustomize: str, tmp_path: Path, place: str) -> None:
    for folder in ("overlays", "kustomize/specs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    overlay = tmp_path / "overlays" / "production"
    (document,) = read(overlay / "specs" / "embed.yaml")
    name = document["spec"]["image"].partition("@")[0].partition(":")[0]
    subprocess.run([kustomize, "edit", "set", "image", f"{name}:v9"], cwd=overlay / place, check=True)
    result = build(kustomize, overlay, "--enable-alpha-plugins", "--enable-exec")

    assert result.code == 0, result.err
    assert f"{name}:v9" in json.dumps(normalize(result.out))
