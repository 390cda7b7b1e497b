"""Default values that API servers, controllers and webhooks add to objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.adopt.view import iterate_matches
from ebbtide.core.base import keys, quantities
from ebbtide.core.base.annotations import parse_whole_seconds
from ebbtide.core.base.paths import get_at

if TYPE_CHECKING:
    from ebbtide.core.translation.objects import Object


class _Any:
    """A marker that equals every value."""


ANY: Final = _Any()


@dataclass(frozen=True, slots=True)
class DefaultValue:
    """A value that a server or a webhook adds: its path (``*`` is each item of a list), the value, and its upstream source.

    ``marked`` is for a value that a spec can set too: it is removed only from objects that a server has written.
    """

    where: tuple[str, ...]
    value: Any
    source: str
    marked: bool = False


_META: Final = "Kubernetes metav1.ObjectMeta, set by the API server"
_USER: Final = "serving pkg/apis/serving/metadata_validation.go, SetUserInfo"
# fmt: off
#: Metadata that only a server writes.
_WRITTEN: Final = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "managedFields", "selfLink", "ownerReferences", "finalizers",
)
# fmt: on
#: Fields that every server adds to any kind.
SERVER: Final = (
    DefaultValue(("status",), ANY, "set by the controllers"),
    *(DefaultValue(("metadata", name), ANY, _META) for name in _WRITTEN),
    *(
        DefaultValue(("metadata", "annotations", name), ANY, source)
        for name, source in (
            ("kubectl.kubernetes.io/last-applied-configuration", "kubectl apply"),
            ("serving.knative.dev/creator", _USER),
            ("serving.knative.dev/lastModifier", _USER),
        )
    ),
)
#: Metadata that shows that a server has written the object.
SERVER_MARKS: Final = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")


def drop_defaults(obj: Object, rows: tuple[DefaultValue, ...], *, marked: bool) -> None:
    """Remove the default values of ``rows`` from ``obj``, in place."""
    for row in rows:
        if row.marked and not marked:
            continue
        for holder in iterate_matches(obj, row.where[:-1]):
            if not isinstance(holder, dict) or row.where[-1] not in holder:
                continue
            value = holder[row.where[-1]]
            # False equals 0 in Python, but not in Kubernetes.
            if row.value is ANY or (value == row.value and type(value) is type(row.value)):
                del holder[row.where[-1]]


def rewrite_annotations(holder: Any) -> None:
    """Rename annotations of older spellings in ``holder`` and write their numbers and durations as Ebbtide does, in place."""
    annotations = holder.get("annotations") if isinstance(holder, dict) else None
    if isinstance(annotations, dict):
        for older in [name for name in annotations if name in keys.OLDER_SPELLINGS]:
            annotations.setdefault(keys.OLDER_SPELLINGS[older], annotations[older])
            del annotations[older]
        for key in (keys.TARGET, keys.TARGET_UTILIZATION):
            number = quantities.parse_number(annotations.get(key))
            if number is not None:
                annotations[key] = quantities.format_number(number)
        for key in (keys.SCALE_DOWN_DELAY, keys.RETENTION, keys.WINDOW, keys.PROGRESS_DEADLINE, keys.ROLLOUT_DURATION):
            seconds = parse_whole_seconds(annotations.get(key))
            if seconds is not None:
                annotations[key] = f"{seconds}s"


def is_server_written(obj: Object) -> bool:
    """Return whether a server has written ``obj``, so that the defaults in it may not be its author's."""
    metadata = obj.get("metadata")
    return "status" in obj or any(get_at(metadata, mark) is not None for mark in SERVER_MARKS)


def strip_ebbtide_keys(value: Any) -> tuple[Any, list[str]]:
    """Return ``value`` without Ebbtide's labels and annotations at any depth, and the keys of those removed."""
    removed: list[str] = []
    return _strip_keys(value, removed), removed


def _strip_keys(value: Any, removed: list[str]) -> Any:
    if isinstance(value, list):
        return [_strip_keys(item, removed) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        rest = item
        if key in {"labels", "annotations"} and isinstance(item, dict):
            ours = [name for name in item if isinstance(name, str) and name.startswith(keys.EBBTIDE)]
            removed.extend(ours)
            rest = {name: text for name, text in item.items() if name not in ours}
            if not rest:
                continue
        result[key] = _strip_keys(rest, removed)
    return result
