"""Reads of the API server over persistent connections: a kubectl process per read costs a tenth of a CPU second.

Not by the product's own client: the cases judge that one, and it takes a kind that is not served for an empty list, with
which "nothing is left" would hold where nothing was seen.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import kubernetes.client
import kubernetes.config
import urllib3

from e2e.kubectl import KubectlError

LIMIT: Final = 30.0
"""Seconds that one read may take."""
OK: Final = 200
KINDS: Final = {
    "configurations": ("apis/serving.knative.dev/v1", "configurations"),
    "daemonset": ("apis/apps/v1", "daemonsets"),
    "daemonsets": ("apis/apps/v1", "daemonsets"),
    "deployment": ("apis/apps/v1", "deployments"),
    "deployments": ("apis/apps/v1", "deployments"),
    "domainmapping": ("apis/serving.knative.dev/v1beta1", "domainmappings"),
    "events": ("api/v1", "events"),
    "hpa": ("apis/autoscaling/v2", "horizontalpodautoscalers"),
    "httproutes": ("apis/gateway.networking.k8s.io/v1", "httproutes"),
    "isvc": ("apis/serving.kserve.io/v1beta1", "inferenceservices"),
    "llminferenceservices": ("apis/serving.kserve.io/v1alpha2", "llminferenceservices"),
    "job": ("apis/batch/v1", "jobs"),
    "jobs": ("apis/batch/v1", "jobs"),
    "kingress": ("apis/networking.internal.knative.dev/v1alpha1", "ingresses"),
    "ksvc": ("apis/serving.knative.dev/v1", "services"),
    "leases": ("apis/coordination.k8s.io/v1", "leases"),
    "localmodelnamespacecaches": ("apis/serving.kserve.io/v1alpha1", "localmodelnamespacecaches"),
    "podautoscalers": ("apis/autoscaling.internal.knative.dev/v1alpha1", "podautoscalers"),
    "pod": ("api/v1", "pods"),
    "podgroups": ("apis/scheduling.run.ai/v2alpha2", "podgroups"),
    "pods": ("api/v1", "pods"),
    "pvc": ("api/v1", "persistentvolumeclaims"),
    "replicasets": ("apis/apps/v1", "replicasets"),
    "resourcequota": ("api/v1", "resourcequotas"),
    "revisions": ("apis/serving.knative.dev/v1", "revisions"),
    "scaledobjects": ("apis/keda.sh/v1alpha1", "scaledobjects"),
    "serverlessservice": ("apis/networking.internal.knative.dev/v1alpha1", "serverlessservices"),
}
"""kubectl's name of a kind that cases look at: group and version as in a path, and the path's name of it."""


class Reader:
    """A connection to the API server of a kubeconfig, for objects in namespaces."""

    def __init__(self, kubeconfig: Path) -> None:
        self._api: Any = kubernetes.config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call] # upstream's

    def get(self, kind: str, name: str, namespace: str) -> Any:
        """Return one object.

        Raises:
            KubectlError: there is none, or the API server is away.

        """
        return self._read(f"{_path(kind, namespace)}/{name}")

    def list(self, kinds: str, namespace: str, selector: str = "") -> list[Any]:
        """Return the objects of one kind or of several ("hpa,scaledobjects") that bear the labels.

        Raises:
            KubectlError: the API server is away, or does not know such a kind.

        """
        query = f"?{urlencode({'labelSelector': selector})}" if selector else ""
        return [
            {"kind": answer["kind"].removesuffix("List"), **item}
            for kind in kinds.split(",")
            for answer in [self._read(f"{_path(kind, namespace)}{query}")]
            for item in answer["items"]
        ]

    def _read(self, path: str) -> Any:
        headers = {"Accept": "application/json"}
        try:
            self._api.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
            response = self._api.rest_client.request(
                "GET", f"{self._api.configuration.host}{path}", headers=headers, _request_timeout=LIMIT
            ).response
            data = response.data
        except (kubernetes.client.ApiException, urllib3.exceptions.HTTPError) as error:
            raise KubectlError(f"{path}: {error}") from error
        if response.status != OK:
            raise KubectlError(f"{path}: {data.decode(errors='replace')}")
        return json.loads(data)


@cache
def reader(kubeconfig: Path) -> Reader:
    """Return this process's reader of a cluster."""
    return Reader(kubeconfig)


def _path(kind: str, namespace: str) -> str:
    version, plural = KINDS[kind]
    return f"/{version}/namespaces/{namespace}/{plural}"
