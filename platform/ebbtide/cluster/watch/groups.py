"""The kinds that a cache reads, and the workloads that an object belongs to, by the rules of ``cluster.read.inventory``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Kind
from ebbtide.cluster.read import inventory, queues
from ebbtide.core.base import keys, names
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

#: The kinds of a workload's objects. An account or a cluster may be without LLMInferenceServices, as without any kind.
OF_WORKLOADS: Final = (*inventory.GROUPED, kube.LLM, kube.RESOURCE_CLAIM, kube.MODEL_CACHE)
KINDS: Final = (*OF_WORKLOADS, kube.EVENT, kube.NODE, kube.NAMESPACE, kube.DEVICE_CLASS, *queues.KINDS)
#: Kinds of a workload's main object, by name; of objects with the same name, the first kind takes precedence.
TOPS: Final = {kind.name: kind for kind in (kube.KSERVE, kube.LLM, kube.KNATIVE)}
#: Maximum length of the name of an object (k8s.io/apimachinery pkg/util/validation, DNS1123SubdomainMaxLength). The API
#: server does not check the name in an Event's ``involvedObject``.
MAX_NAME_LENGTH: Final = 253

#: Namespace and name of an object.
Key = tuple[str, str]


class WorkloadKey(NamedTuple):
    """A workload's place: its namespace, its name, and the kind of its main object."""

    namespace: str
    name: str
    kind: str


def object_key(obj: Object) -> Key:
    return get_at(obj, "metadata", "namespace", default=""), str(obj["metadata"]["name"])


def object_version(obj: Object) -> str:
    return str(get_at(obj, "metadata", "resourceVersion", default=""))


def object_uid(obj: Object) -> str:
    return str(get_at(obj, "metadata", "uid", default=""))


def list_workload_names(kind: Kind, obj: Object) -> tuple[str, ...]:
    """Return the names of the workloads that an object may belong to."""
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    name = str(metadata["name"])
    if kind == kube.EVENT:
        subjects = inventory.find_event_subjects(obj)
        return tuple(dict.fromkeys(prefix for subject in subjects for prefix in _name_prefixes(subject)))
    if kind == kube.RESOURCE_CLAIM:
        # The claim of a template has the pod as owner.
        pods = [owner["name"] for owner in metadata.get("ownerReferences") or () if owner.get("kind") == "Pod"]
        return tuple(dict.fromkeys(prefix for pod in pods for prefix in _name_prefixes(pod)))
    if kind == kube.MODEL_CACHE:
        users = (get_at(obj, "status", field, default=[]) for field in ("inferenceServices", "llmInferenceServices"))
        return tuple(dict.fromkeys(str(row["name"]) for rows in users for row in rows))
    if kind in {kube.NODE, kube.NAMESPACE, kube.QUOTA, kube.DEVICE_CLASS, *queues.KINDS}:
        return ()
    owners = [labels.get(keys.KNATIVE_SERVICE), labels.get(keys.KSERVE_SERVICE)]
    if kind in TOPS.values():
        owners.append(name)
    if kind == kube.HPA or inventory.serves_language_model(obj):
        owners.append(labels.get(keys.APP_NAME))
    if kind == kube.HPA:
        # An HPA of ours without its labels, or the HPA that KEDA creates for our ScaledObject.
        owners.append(name.removeprefix(names.KEDA_HPA).removesuffix(names.name_autoscaler("")))
    owner_names = [text for text in owners if text]
    # A predictor's objects are the InferenceService's.
    service_names = [text.removesuffix(names.name_predictor("")) for text in owner_names]
    return tuple(dict.fromkeys(text for text in (*owner_names, *service_names) if 0 < len(text) <= MAX_NAME_LENGTH))


def _name_prefixes(name: str) -> Iterator[str]:
    """Yield a name and each of its prefixes that end before a hyphen: an owner's name begins the names of its objects."""
    if len(name) > MAX_NAME_LENGTH:
        return
    yield name
    while "-" in name:
        name = name.rpartition("-")[0]
        yield name
