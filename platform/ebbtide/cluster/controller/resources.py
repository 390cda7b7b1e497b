"""The rendering of a custom resource: the objects and the problems of its document, by the code of ``ebbtide render``.

The API server adds metadata to a resource, and GitOps tools mark it. Without these, it is the document that the author wrote.
Upstream: argo-cd util/argo/resource_tracking.go, fluxcd/pkg ssa (labels of the owner), helm pkg/action/validate.go.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.cluster.client.protocol import INFERENCE, KINDS
from ebbtide.cluster.write.apply import Workload
from ebbtide.core import manifests
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem, has_errors
from ebbtide.core.documents import load_document
from ebbtide.core.documents.check import Batch

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object

#: Prefixes of labels and annotations that belong to the tool that applied the resource.
TOOLS: Final = (
    "argocd.argoproj.io/",
    "config.kubernetes.io/",
    "helm.toolkit.fluxcd.io/",
    "internal.config.kubernetes.io/",
    "kubectl.kubernetes.io/",
    "kustomize.toolkit.fluxcd.io/",
    "meta.helm.sh/",
)
#: Hexadecimal digits of a digest.
DIGEST_LENGTH: Final = 16


class Rendered(NamedTuple):
    """The result of rendering a resource; the workload is None if the document has errors."""

    workload: Workload | None
    problems: tuple[Problem, ...]
    #: Digest of the objects, as ``ebbtide render`` prints them.
    digest: str = ""


def render_resource(resource: Object, profile: Profile) -> Rendered:
    """Return the workload of a resource, or the problems that prevent it."""
    loaded = load_document(make_document(resource), profile)
    batch = Batch(profile)
    objects, translation, problems = batch.add_document(loaded)
    problems += batch.batch_problems()
    plan = None if translation is None else translation.plan
    namespace = resource["metadata"]["namespace"]
    if plan is not None and objects and (outside := _find_outside(objects, namespace)):
        where = ("spec", "project") if get_at(resource, "spec", "project") else ("metadata", "namespace")
        message = f"the spec belongs to namespace {outside}, but this resource is in namespace {namespace}"
        fix = f"create it in namespace {outside}, or remove spec.project"
        problems.append(Problem("RES061", where, message, fix))
    if plan is None or has_errors(problems):
        return Rendered(None, tuple(problems))
    text = "".join(manifests.write_documents(objects))
    return Rendered(Workload(tuple(objects), plan), tuple(problems), sha256(text.encode()).hexdigest()[:DIGEST_LENGTH])


def make_document(resource: Object) -> dict[str, Any]:
    """Return the document of a resource, as its author wrote it into a file."""
    metadata = resource["metadata"]
    kept: dict[str, Any] = {"name": metadata["name"]}
    # spec.project determines the namespace, and a native document must not set both.
    if resource["kind"] != INFERENCE.name or get_at(resource, "spec", "project") is None:
        kept["namespace"] = metadata["namespace"]
    for part in ("labels", "annotations"):
        pairs = metadata.get(part) or {}
        if own := {name: value for name, value in pairs.items() if not name.startswith(TOOLS)}:
            kept[part] = own
    head = {"apiVersion": resource["apiVersion"], "kind": resource["kind"], "metadata": kept}
    return {**head, "spec": resource["spec"]} if "spec" in resource else head


def _find_outside(objects: list[Object], namespace: str) -> str:
    """Return the namespace of the first object that is not in ``namespace``; empty if all are."""
    for obj in objects:
        kind = KINDS.get((obj["apiVersion"], obj["kind"]))
        other = str(obj["metadata"].get("namespace", ""))
        if (kind is None or kind.namespaced) and other != namespace:
            return other
    return ""
