"""Checks of custom resources: their definitions, the controller that applies them, and resources that it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ebbtide.cluster.doctor.findings import Finding, SpecRequirements, make_error_finding, make_warning_finding
from ebbtide.cluster.doctor.observed import STALE_SECONDS, ObservedCluster, describe_stopped_controller
from ebbtide.cluster.read.inventory import parse_timestamp
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.readers.fields import make_json_schema
from ebbtide.core.translation.objects import Object

#: Seconds after which a refused resource is reported: its author would have seen it by then.
REFUSED_SECONDS: Final = 600.0
#: Names that a finding lists; it counts the others.
MAX_NAMES: Final = 5


def _check_applied(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Finding]:
    """Yield custom resources that no controller applies."""
    if observed.definition is None or observed.controllers is None:
        return
    waiting = [_name_resource(row) for row in observed.resources if _waits(row)]
    if not any(lease.runs for lease in observed.controllers):
        state = describe_stopped_controller(observed.controllers)
        held = f", and {_list_names(waiting)} {'waits' if len(waiting) == 1 else 'wait'} for it" if waiting else ""
        yield (make_error_finding if waiting else make_warning_finding)(
            "DOC189",
            f"custom resources are installed, but Ebbtide's controller {state}{held}",
            "new and changed resources are not applied; the services go on",
            "run kubectl apply -k kustomize/crd, or delete the definitions if no resource is left",
        )
    elif waiting:
        yield make_error_finding(
            "DOC190",
            f"the controller does not apply {_list_names(waiting)}",
            "their objects are neither created nor changed",
            "start the controller with --inferences, as kustomize/crd does, and read its log",
        )


def _check_refused(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Finding]:
    """Yield custom resources whose document or permissions prevent an apply."""
    refused = [(row, _find_refusal(row)) for row in observed.resources]
    found = [f"{_name_resource(row)} ({message})" for row, message in refused if message]
    if found:
        yield make_warning_finding(
            "DOC191",
            f"{count_noun(len(found), 'custom resource')} {'is' if len(found) == 1 else 'are'} refused: {_list_names(found)}",
            "the live objects do not follow these documents",
            "correct each document; kubectl describe prints all problems with their fixes",
        )


def _check_definition(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Finding]:
    """Yield a definition without fields that this version reads."""
    definition = observed.definition
    if definition is None:
        return
    schema = make_json_schema()
    known = {
        path
        for version in get_at(definition, "spec", "versions", default=())
        for path in _list_fields(
            get_at(version, "schema", "openAPIV3Schema", "properties", "spec", default={}), {}, "spec"
        )
    }
    missing = [
        path for path in _list_fields(schema["properties"]["spec"], schema["$defs"], "spec") if path not in known
    ]
    # The fields of a missing field need no mention.
    tops = [path for path in missing if path.rpartition(".")[0] not in missing]
    if tops:
        yield make_warning_finding(
            "DOC192",
            f"the definition {definition['metadata']['name']} is older than this version of Ebbtide: {_list_names(tops)} missing",
            "the API server does not check the types of these fields, and kubectl explain does not know them",
            "run kubectl apply -k kustomize/crd, and update the controller",
        )


def _list_fields(schema: Object, definitions: Object, where: str) -> Iterator[str]:
    """Yield the path of each field of a schema, in which references and unions with null are resolved."""
    for part in (schema, *schema.get("anyOf", ())):
        entry: Any = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        for name, field in (entry.get("properties") or {}).items():
            yield f"{where}.{name}"
            yield from _list_fields(field, definitions, f"{where}.{name}")
        if isinstance(entry.get("items"), dict):
            yield from _list_fields(entry["items"], definitions, where)


def _waits(resource: Object) -> bool:
    """Return whether a resource has waited for the controller longer than a running one takes."""
    metadata = resource["metadata"]
    if get_at(resource, "status", "observedGeneration") == metadata.get("generation", 1):
        return False
    edits = [row.get("time") for row in metadata.get("managedFields") or () if not row.get("subresource")]
    changed = max([parse_timestamp(metadata.get("creationTimestamp")), *map(parse_timestamp, edits)])
    return datetime.now(UTC).timestamp() - changed >= STALE_SECONDS


def _find_refusal(resource: Object) -> str:
    """Return the message of a condition Stalled that has been true for some time; empty without one."""
    for row in get_at(resource, "status", "conditions", default=()):
        if row["type"] == "Stalled" and row["status"] == "True":
            age = datetime.now(UTC).timestamp() - parse_timestamp(row.get("lastTransitionTime"))
            return str(row.get("message", "")) if age >= REFUSED_SECONDS else ""
    return ""


def _name_resource(resource: Object) -> str:
    return f"{resource['metadata']['namespace']}/{resource['metadata']['name']}"


def _list_names(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


CHECKS: Final = (_check_applied, _check_refused, _check_definition)
