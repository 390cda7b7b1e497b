"""The stable revision of a canary on a Knative Service, which only the cluster knows.

Knative splits traffic between named revisions (knative.dev/serving pkg/apis/serving/v1/route_types.go).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ebbtide.cluster.client.protocol import KNATIVE, Cluster, MissingError
from ebbtide.core.base.paths import get_at
from ebbtide.core.readers.shapes import validate_inference
from ebbtide.core.translation.objects import Object, apply_merge_patch
from ebbtide.core.translation.translate import make_plan

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.loaded import LoadedDocument

WHOLE_PERCENT: Final = 100


def find_stable_revision(service: Object) -> str:
    """Return the revision that serves next to a canary of a Knative Service; empty if none is ready.

    It is the revision that the traffic names, as for a running canary or after a rollback, or else the newest ready one.
    """
    rows = get_at(service, "spec", "traffic", default=[])
    named = [row for row in rows if row.get("revisionName") and row.get("percent")]
    if named:
        return str(max(named, key=lambda row: row["percent"])["revisionName"])
    return str(get_at(service, "status", "latestReadyRevisionName", default=""))


def lacks_stable_revision(loaded: LoadedDocument) -> bool:
    """Return whether a spec is a canary that does not name the stable revision."""
    if loaded.inference is None:
        return False
    traffic = loaded.inference.spec.traffic
    percent = traffic.canary_percent
    return percent is not None and percent < WHOLE_PERCENT and traffic.stable_revision is None


def fill_stable_revision(loaded: LoadedDocument, cluster: Cluster, profile: Profile) -> LoadedDocument:
    """Return a document with the stable revision of its canary; unchanged if that is set, not needed, or unknown."""
    if not lacks_stable_revision(loaded):
        return loaded
    # Any name will do for a plan, which has the namespace.
    named = _set_stable_revision(loaded, "unknown").inference
    plan = None if named is None else make_plan(named, profile)[0]
    if plan is None or plan.serving != "knative":
        return loaded
    try:
        stable = find_stable_revision(cluster.get(KNATIVE, plan.name, plan.namespace))
    except MissingError:
        return loaded
    return _set_stable_revision(loaded, stable) if stable else loaded


def _set_stable_revision(loaded: LoadedDocument, stable: str) -> LoadedDocument:
    native = apply_merge_patch(loaded.reading.native, {"spec": {"traffic": {"stableRevision": stable}}})
    inference, _ = validate_inference(native)
    return replace(loaded, inference=inference, reading=replace(loaded.reading, native=native))
