"""Every derived object name, in one place: at most 63 characters, a hashed tail where one is cut."""

from __future__ import annotations

import re
from typing import Final

#: What a Knative Service, an InferenceService and a Kubernetes Service all accept.
WORKLOAD: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LONGEST: Final = 63
#: Knative names a revision ``<name>-<5 digits>`` and its Deployment ``<revision>-deployment``; pods add a hash.
#: Knative shortens what grows past 63, but the revision itself is a Service and must fit.
LONGEST_WORKLOAD: Final = LONGEST - len("-00001")
#: A KServe predictor is ``<name>-predictor``, and in Knative mode a ksvc with revisions of its own.
LONGEST_KSERVE: Final = LONGEST - len("-predictor") - len("-00001")

#: What KEDA puts before a ScaledObject's name to name the HPA that it makes of it.
KEDA_HPA: Final = "keda-hpa-"


def fit(base: str, suffix: str) -> str:
    """Return ``base-suffix``, cut with a hash where it would pass 63 characters."""
    name = f"{base}-{suffix}"
    if len(name) <= LONGEST:
        return name
    from hashlib import sha256  # noqa: PLC0415 - OpenSSL takes 2 ms to load, and few names are cut

    digest = sha256(name.encode()).hexdigest()[:8]
    return f"{base[: LONGEST - len(suffix) - 10].rstrip('-.')}-{digest}-{suffix}"


def predictor(workload: str) -> str:
    """Return the name KServe gives the predictor's ksvc or Deployment: ``chat-predictor``."""
    return f"{workload}-predictor"


def services(workload: str, serving: str) -> tuple[str, ...]:
    """Return the names of the Kubernetes Services that come of a workload: its own, its predictor's, or both.

    Upstream: kserve pkg/controller/v1beta1/inferenceservice/reconcilers (ingress in Knative mode, service in Standard).
    """
    if serving == "knative":
        return (workload,)
    return (predictor(workload),) if serving == "kserve-standard" else (workload, predictor(workload))


def autoscaler(workload: str) -> str:
    """Return the name of our own HPA or ScaledObject: ``chat-autoscaler``.

    Never the predictor's: whatever the class, KServe overwrites an HPA of that name with its own settings, and deletes
    it as its own at the next look (kserve pkg/controller/v1beta1/inferenceservice/reconcilers/hpa, checkHPAExist).
    """
    return fit(workload, "autoscaler")


def keda_autoscaler(workload: str) -> str:
    """Return the name of the HPA that KEDA makes of our ScaledObject: ``keda-hpa-chat-autoscaler``.

    Upstream: kedacore/keda controllers/keda/hpa.go, getHPAName.
    """
    return f"{KEDA_HPA}{autoscaler(workload)}"


def claim(workload: str, number: int) -> str:
    """Return the name of a workload's n-th new volume claim: ``chat-data-1``."""
    return fit(workload, f"data-{number}")


def gpu_claim(workload: str) -> str:
    """Return the name of a workload's resource claim template: ``chat-gpu``."""
    return fit(workload, "gpu")


def storage_account(workload: str) -> str:
    """Return the name of the service account that may read a model: ``chat-storage``."""
    return fit(workload, "storage")


def volume(kind: str, number: int) -> str:
    """Return a pod volume's name: ``secret-1``."""
    return f"{kind}-{number}"
