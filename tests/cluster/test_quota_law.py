"""Every quota backend gives consistent answers to all of its consumers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import pytest

from ebbtide.cluster.client.protocol import kind_of
from ebbtide.cluster.doctor import checks as doctor
from ebbtide.cluster.doctor.observed import GROUPS, ObservedCluster
from ebbtide.core.adopt.live import import_object
from ebbtide.core.documents import COMPANIONS, load_document, profiles
from ebbtide.core.profile.built_in import FULL
from ebbtide.core.profile.models import Projects
from ebbtide.core.translation.quotas import QUOTA_BACKENDS
from ebbtide.core.translation.translate import translate
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.furnished import furnish_cluster
from ebbtide.sandbox.simulated import Simulated

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object

NAMES = tuple(QUOTA_BACKENDS)
SERVING = ("knative", "kserve", "kserve-standard")


def cluster_profile(name: str) -> Profile:
    data = json.loads(json.dumps({**FULL, "metadata": {"name": "law"}}))
    if name != "kai":
        data["spec"]["scheduling"]["scheduler"] = "default-scheduler"
        data["spec"]["nodePools"] = [{**data["spec"]["nodePools"][0], "backend": "devices"}]
    known = {"team": {"gpus": 2, "cpu": 8, "memory": "64Gi"}}
    data["spec"]["projects"] |= {"quota": name, "known": known}
    validated, problems = profiles.validate_profile_data(data)
    assert validated is not None, problems
    return validated


def spec_data(serving: str = "knative") -> dict[str, Any]:
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat"},
        "spec": {"project": "team", "image": "ghcr.io/acme/chat:1", "serving": serving},
    }


def render(name: str, serving: str = "knative") -> tuple[Object, ...]:
    profile = cluster_profile(name)
    loaded = load_document(spec_data(serving), profile)
    assert loaded.inference is not None, loaded.problems
    translation = translate(loaded.inference, profile, json.dumps({}))
    assert translation.objects, translation.problems
    return translation.objects


def test_the_profile_accepts_every_backend() -> None:
    assert get_args(Projects.model_fields["quota"].annotation) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_group_of_a_backend_is_observed_and_missing_without_it(name: str) -> None:
    backend = QUOTA_BACKENDS[name]
    profile = cluster_profile(name)
    cluster = Simulated(ManualClock())
    furnish_cluster(cluster, profile)
    assert not backend.group or ObservedCluster(cluster).serves(backend.group)
    if backend.group:
        cluster.paths.pop(GROUPS[backend.group])
        assert any("not installed" in finding.what for finding in doctor.examine_cluster(cluster, profile))


@pytest.mark.parametrize("name", NAMES)
def test_the_objects_of_a_project_can_be_applied_and_read_back(name: str) -> None:
    *others, _ = render(name)
    queue = QUOTA_BACKENDS[name].queue

    assert queue is None or queue in {(obj["apiVersion"], obj["kind"]) for obj in others}
    for obj in others:
        kind = kind_of(obj)
        assert kind.namespaced == ("namespace" in obj["metadata"]), obj["kind"]
        assert kind.name in COMPANIONS


@pytest.mark.parametrize("serving", SERVING)
@pytest.mark.parametrize("name", NAMES)
def test_pods_have_the_queue_label_and_an_import_keeps_the_project(name: str, serving: str) -> None:
    label = QUOTA_BACKENDS[name].queue_label
    top = render(name, serving)[-1]
    pod = top["spec"]["predictor"] if "predictor" in top["spec"] else top["spec"]["template"]["metadata"]
    bare = json.loads(json.dumps(top))
    bare["metadata"]["annotations"].pop("ebbtide.dev/spec")

    assert not label or pod["labels"][label] == "team"
    assert import_object(bare, cluster_profile(name)).native["spec"]["project"] == "team"
