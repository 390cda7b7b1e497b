"""State of the copy of a model that KServe's LocalModelNamespaceCache puts on the node of a pod, which mounts it before it is complete.

Upstream: kserve v0.20.0 pkg/apis/serving/v1alpha1/local_model_cache_status.go (``nodeStatus``),
pkg/webhook/admission/pod/storage_initializer_injector.go (the label of the pod), pkg/constants/constants.go (``LocalModelLabel``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ebbtide.cluster.read.pods import PodTrouble
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

#: The label of an InferenceService, an LLMInferenceService and their pods that names the cache.
CACHE_LABEL: Final = "internal.serving.kserve.io/localmodel"
#: Kind of the trouble of a pod whose model is still being downloaded.
DOWNLOADING: Final = "download"
#: States of a node in a cache.
DOWNLOADED: Final = "NodeDownloaded"
FAILED: Final = "NodeDownloadError"


def find_cache_name(obj: Object) -> str:
    """Return the name of the cache of a workload or a pod; empty without one."""
    return str(get_at(obj, "metadata", "labels", CACHE_LABEL, default=""))


def find_download_trouble(pod: Object, caches: Iterable[Object]) -> PodTrouble | None:
    """Return why a pod does not see its whole model; None if the copy on its node is complete, or if the pod has no node or no cache."""
    name, node = find_cache_name(pod), get_at(pod, "spec", "nodeName")
    cache = next((row for row in caches if row["metadata"]["name"] == name), None)
    state = get_at(cache, "status", "nodeStatus", node) if cache and node else DOWNLOADED
    if state == DOWNLOADED:
        return None
    uri, where = get_at(cache, "spec", "sourceModelUri"), f"LocalModelNamespaceCache {name}"
    if state == FAILED:
        return PodTrouble("image", f"KServe cannot download {uri} to node {node}: {FAILED} in {where}")
    words = f"KServe downloads {uri} to node {node}: {state or 'no state yet'} in {where}; the server sees only a part of it"
    return PodTrouble(DOWNLOADING, words)
