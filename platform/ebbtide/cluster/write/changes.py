"""Differences between a live object and the result of an apply, without fields that the server and controllers set.

A server-side dry run returns the resulting object, including defaults, webhooks and field managers; the changes are
exactly its differences from the live object. Upstream: knative.dev/serving pkg/apis/serving/v1/service_defaults.go
(annotations of the editors), pkg/reconciler/configuration (only the template creates a revision), kserve
pkg/controller/v1beta1/inferenceservice/reconcilers/knative (annotations are passed to the template).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, NamedTuple

from ebbtide.cluster.client.protocol import LIVE_MANAGER, LLM, MANAGER
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import STORED_SPEC, UnreadableError
from ebbtide.core.base.bodies import WrittenBy, mark_body
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.translation.objects import Object

#: Metadata fields that the server sets.
SERVERS: Final = frozenset(
    {"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink", "ownerReferences"}
)
#: Annotations in which Knative's webhook records the editors.
EDITORS: Final = frozenset({f"{keys.KNATIVE_PREFIX}creator", f"{keys.KNATIVE_PREFIX}lastModifier"})
#: Keys that identify a list item, so that an inserted item does not count as a change of all following ones.
NAMES: Final = ("name", "containerPort", "mountPath", "key", "revisionName")
#: Predictor fields of an InferenceService that do not affect its pods.
NO_POD: Final = ("canaryTrafficPercent",)
#: The same in Standard mode, where KServe scales the Deployment without a rollout.
NO_POD_IN_STANDARD: Final = ("canaryTrafficPercent", "minReplicas", "maxReplicas", "scaleTarget", "scaleMetric")
#: Fields of an LLMInferenceService that do not affect the pods of its server.
NO_POD_OF_LLM: Final = ("replicas", "rolloutStrategy", "router", "scaling")
ABSENT: Final = None
#: The key of a list's item in a path of the API server.
ITEM_KEY: Final = re.compile(r"\[\w+=\"?([^\"\]]*)\"?\]")
#: Length of a value above which a plan names its parts only.
LONG: Final = 120


@mark_body()
class FieldChange(NamedTuple):
    """A changed field: its path, its current value and its new value; null if absent."""

    path: Annotated[tuple[str, ...], WrittenBy(_format_path)]
    before: Any
    after: Any

    def is_within(self, fields: Iterable[str]) -> bool:
        """Return whether the field is one of ``fields`` or inside one, as the API server formats them."""
        path = "".join(part if part.startswith("[") else f".{part}" for part in self.path).lstrip(".")
        names = (ITEM_KEY.sub(r"[\1]", field) for field in fields)
        return any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in names)

    def describe(self, *, full: bool = False) -> str:
        """Return the change as one line: ``spec.template…image: a -> b``. Without ``full``, long values are shortened."""
        path = _format_path(self.path)
        if self.path == ("metadata", "annotations", keys.SPEC):
            return f"{path}: {_describe_spec_change(self.before, self.after)}"
        before, after = (_format_value(value, full=full) for value in (self.before, self.after))
        if self.before is ABSENT:
            return f"{path}: + {after}"
        if self.after is ABSENT:
            return f"{path}: - {before}"
        return f"{path}: {before} -> {after}"


def diff_objects(live: Object, result: Object) -> tuple[FieldChange, ...]:
    """Return the changes from a live object to the result of a dry run."""
    return tuple(
        change
        for change in _walk_differences(live, result, ())
        if change.path[0] != "status"
        and not (change.path[0] == "metadata" and change.path[1] in SERVERS)
        and not (change.path[:2] == ("metadata", "annotations") and change.path[-1] in EDITORS)
    )


def list_other_owners(obj: Object) -> dict[str, tuple[str, ...]]:
    """Return the fields of a live object that programs other than Ebbtide own, by field manager."""
    owners: dict[str, tuple[str, ...]] = {}
    for row in get_at(obj, "metadata", "managedFields", default=[]):
        manager = str(row.get("manager", ""))
        if manager not in {MANAGER, LIVE_MANAGER} and not row.get("subresource"):
            owners[manager] = (*owners.get(manager, ()), *_list_owned_fields(row.get("fieldsV1") or {}))
    return owners


def _list_owned_fields(fields: Object, path: str = "") -> Iterator[str]:
    """Yield the paths in ``fieldsV1``: ``f:`` starts a field's name, ``k:`` the key of a list's item as JSON."""
    for name, inner in fields.items():
        kind, _, text = name.partition(":")
        if kind == "f":
            inside = f"{path}.{text}".lstrip(".")
        elif kind == "k":
            inside = f"{path}[{next(iter(json.loads(text).values()), '')}]"
        else:
            continue
        if set(inner or {}) <= {"."}:
            yield inside
        else:
            yield from _list_owned_fields(inner, inside)


def creates_pods(obj: Object, differences: tuple[FieldChange, ...]) -> bool:
    """Return whether changes of a workload's top object create pods: a new revision, or a rollout of its Deployment."""
    return any(_change_creates_pods(obj, change) for change in differences)


def _change_creates_pods(obj: Object, change: FieldChange) -> bool:
    path = change.path
    if obj["kind"] == "Service" and obj["apiVersion"].startswith("serving.knative.dev/"):
        return path[:2] == ("spec", "template")
    if obj["kind"] == LLM.name:
        return path[0] == "spec" and path[1] not in NO_POD_OF_LLM
    if obj["kind"] != "InferenceService":
        return False
    standard = get_at(obj, "metadata", "annotations", keys.DEPLOYMENT_MODE) in {"Standard", "RawDeployment"}
    if path[:2] == ("spec", "predictor"):
        return path[2] not in (NO_POD_IN_STANDARD if standard else NO_POD)
    if path[:2] == ("metadata", "annotations"):
        return not path[2].startswith((keys.EBBTIDE, keys.KSERVE_PREFIX))
    return path[:2] == ("metadata", "labels") and not standard


def _walk_differences(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[FieldChange]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _walk_differences(before.get(name), after.get(name), (*path, str(name)))
    elif _has_named_items(before) and _has_named_items(after):
        old, new = ({_item_name(row): row for row in rows} for rows in (before, after))
        for name in dict.fromkeys((*old, *new)):
            yield from _walk_differences(old.get(name), new.get(name), (*path, f"[{name}]"))
        if set(old) == set(new) and list(old) != list(new):
            yield FieldChange(path, list(old), list(new))
    else:
        yield FieldChange(path, before, after)


def _has_named_items(value: Any) -> bool:
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        return False
    names = [_item_name(row) for row in value]
    return None not in names and len(set(names)) == len(names)


def _item_name(row: Object) -> str | None:
    return next((str(row[key]) for key in NAMES if key in row), None)


def _format_path(path: tuple[str, ...]) -> str:
    text = ""
    for part in path:
        plain = part.startswith("[") or not text
        # A key that contains dots would look like several keys.
        text += part if plain else f"[{part}]" if "." in part else f".{part}"
    return text


def _format_value(value: Any, *, full: bool) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if full or len(text) <= LONG:
        return text
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(map(str, value)))}}} (--full shows the values)"
    if isinstance(value, list):
        return f"a list of {count_noun(len(value), 'item')} (--full shows them)"
    return f"a text of {len(str(value))} characters (--full shows it)"


def _describe_spec_change(before: Any, after: Any) -> str:
    """Return the fields of the stored spec that differ."""
    try:
        old, new = (STORED_SPEC.read(text) if isinstance(text, str) else {} for text in (before, after))
    except UnreadableError:
        return "the stored spec changes"
    fields = sorted(_format_path(change.path) for change in _walk_differences(old, new, ()))
    return f"the stored spec changes in {', '.join(fields)}" if fields else "the stored spec is reformatted"
