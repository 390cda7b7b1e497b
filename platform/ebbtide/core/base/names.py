"""Names of derived objects: at most 63 characters, with a hash where a name is shortened."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from zlib import crc32

#: Names that are valid for a Knative Service, an InferenceService and a Kubernetes Service.
WORKLOAD: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LONGEST: Final = 63
#: Knative names a revision ``<name>-<5 digits>`` and its Deployment ``<revision>-deployment``; pods add a hash.
#: Knative shortens longer names, but the name of the revision is also that of a Service and must fit.
LONGEST_WORKLOAD: Final = LONGEST - len("-00001")
#: A KServe predictor is named ``<name>-predictor``; in Knative mode it is a Knative Service with revisions.
LONGEST_KSERVE: Final = LONGEST - len("-predictor") - len("-00001")

#: Prefix that KEDA adds to the name of a ScaledObject to name its HPA.
KEDA_HPA: Final = "keda-hpa-"

#: Name of the controller's Deployment, Lease and field manager.
CONTROLLER: Final = "ebbtide-controller"
#: Service account of a project's namespace with whose permissions the controller applies custom resources.
PROJECT_ACCOUNT: Final = "ebbtide"


#: The route and the policies of a project's endpoint, the Secret of its keys, and the list of its models.
ENDPOINT: Final = "ebbtide-endpoint"
ENDPOINT_KEYS: Final = "ebbtide-endpoint-keys"
ENDPOINT_MODELS: Final = "ebbtide-endpoint-models"
#: The volume with the weights of ``spec.start``.
WEIGHTS_VOLUME: Final = "start-weights"
#: The volume with the compiled artifacts of ``spec.start``.
COMPILED_VOLUME: Final = "start-compiled"
#: Directory of the weights in the container: that of KServe, which sets it for every model.
WEIGHTS_PATH: Final = "/mnt/models"
#: Directory of compiled artifacts in the container.
COMPILED_PATH: Final = "/var/cache/compiled"


def fit_name(base: str, suffix: str) -> str:
    """Return ``base-suffix``, shortened with a hash if it would exceed 63 characters."""
    name = f"{base}-{suffix}"
    if len(name) <= LONGEST:
        return name
    from hashlib import sha256  # noqa: PLC0415 - OpenSSL takes 2 ms to load, and few names are cut

    digest = sha256(name.encode()).hexdigest()[:8]
    return f"{base[: LONGEST - len(suffix) - 10].rstrip('-.')}-{digest}-{suffix}"


def name_predictor(workload: str) -> str:
    """Return the name of the predictor's Knative Service or Deployment in KServe: ``chat-predictor``."""
    return f"{workload}-predictor"


def name_llm_deployment(workload: str) -> str:
    """Return the name of the Deployment of an LLMInferenceService: ``chat-kserve``."""
    return _name_child(workload, "-kserve")


def name_llm_service(workload: str) -> str:
    """Return the name of the Service of an LLMInferenceService: ``chat-kserve-workload-svc``."""
    return _name_child(workload, "-kserve-workload-svc")


def _name_child(parent: str, suffix: str) -> str:
    """Return the name that KServe gives an object (knative.dev/pkg kmeta/names.go, ChildName; suffixes below 31 characters)."""
    if len(parent) + len(suffix) <= LONGEST:
        return parent + suffix
    from hashlib import md5  # noqa: PLC0415 - as in fit_name

    digest = md5(parent.encode(), usedforsecurity=False).hexdigest()
    return parent[: LONGEST - len(digest) - len(suffix)] + digest + suffix


def name_services(workload: str, serving: str) -> tuple[str, ...]:
    """Return the names of a workload's Kubernetes Services: that of the workload, that of its predictor, or both.

    Upstream: kserve pkg/controller/v1beta1/inferenceservice/reconcilers (ingress in Knative mode, service in Standard),
    pkg/controller/v1alpha2/llmisvc/workload.go.
    """
    if serving == "knative":
        return (workload,)
    if serving == "llm":
        return (name_llm_service(workload),)
    return (name_predictor(workload),) if serving == "kserve-standard" else (workload, name_predictor(workload))


def name_autoscaler(workload: str) -> str:
    """Return the name of the HPA or ScaledObject that Ebbtide renders: ``chat-autoscaler``.

    It differs from the predictor's name because KServe overwrites an HPA of that name, whatever the autoscaler class, and
    deletes it at the next reconciliation (kserve pkg/controller/v1beta1/inferenceservice/reconcilers/hpa, checkHPAExist).
    """
    return fit_name(workload, "autoscaler")


def list_autoscalers(workload: str) -> tuple[str, ...]:
    """Return the names of a Deployment's HPA: Ebbtide's, that of KEDA for Ebbtide's ScaledObject, and those of KServe's ``scaling``.

    Upstream: kedacore/keda controllers/keda/hpa.go (getHPAName), kserve pkg/controller/v1alpha2/llmisvc/scaling.go
    (mainHPAName, mainScaledObjectName).
    """
    own, by_kserve = name_autoscaler(workload), _name_child(workload, "-kserve-keda")
    return own, f"{KEDA_HPA}{own}", f"{KEDA_HPA}{by_kserve}", _name_child(workload, "-kserve-hpa")


def name_claim(workload: str, number: int) -> str:
    """Return the name of a workload's nth new volume claim: ``chat-data-1``."""
    return fit_name(workload, f"data-{number}")


def name_by_content(workload: str, purpose: str, spec: Mapping[str, Any]) -> str:
    """Return the name of an object whose spec cannot be changed: ``chat-gpu-1a2b3c4d``.

    Another spec of a resource claim template or of a Job has another name, and makes another object.
    """
    return fit_name(workload, f"{purpose}-{crc32(json.dumps(spec, sort_keys=True).encode()):08x}")


def name_storage_account(workload: str) -> str:
    """Return the name of the service account with access to the model's storage: ``chat-storage``."""
    return fit_name(workload, "storage")


def name_volume(kind: str, number: int) -> str:
    """Return the name of a pod volume: ``secret-1``."""
    return f"{kind}-{number}"
