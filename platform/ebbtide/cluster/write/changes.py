"""What an apply would change of a live object, in words that leave out what servers and controllers set.

The question is put to the API server: a server-side dry run gives the object as it would be, defaults, webhooks and field
managers included; what differs from the live one is a change, and nothing else is. Upstream: knative.dev/serving
pkg/apis/serving/v1/service_defaults.go (the annotations of who edited), pkg/reconciler/configuration (only the template
makes a revision), kserve pkg/controller/v1beta1/inferenceservice/reconcilers/knative (annotations pass to the template).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from ebbtide.base import keys
from ebbtide.base.bodies import Written, mark_body
from ebbtide.base.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.translation.objects import Object

#: What the server sets in metadata.
SERVERS: Final = frozenset(
    {"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink", "ownerReferences"}
)
#: Annotations that Knative's webhook writes to say who came by.
EDITORS: Final = frozenset({f"{keys.KNATIVE_PREFIX}creator", f"{keys.KNATIVE_PREFIX}lastModifier"})
#: What names an item of a list, so that one more item is no change of all that follow.
NAMES: Final = ("name", "containerPort", "mountPath", "key", "revisionName")
#: Of an InferenceService, what changes no pod.
NO_POD: Final = ("canaryTrafficPercent",)
#: As above in Standard mode, where the Deployment is scaled and not made anew.
NO_POD_IN_STANDARD: Final = ("canaryTrafficPercent", "minReplicas", "maxReplicas", "scaleTarget", "scaleMetric")
ABSENT: Final = None


@mark_body()
class Change(NamedTuple):
    """One field: its path, what it is and what it would be; None for absent."""

    path: Annotated[tuple[str, ...], Written(_shown_path)]
    before: Any
    after: Any

    def __str__(self) -> str:
        """Return it as one line: ``spec.template…image: a → b``."""
        place = _shown_path(self.path)
        if self.path == ("metadata", "annotations", keys.SPEC):
            return f"{place}: {_spec_words(self.before, self.after)}"
        if self.before is ABSENT:
            return f"{place}: + {_shown(self.after)}"
        if self.after is ABSENT:
            return f"{place}: - {_shown(self.before)}"
        return f"{place}: {_shown(self.before)} -> {_shown(self.after)}"


def changes(live: Object, wanted: Object) -> tuple[Change, ...]:
    """Return what differs between an object and what it would be."""
    return tuple(
        change
        for change in _differences(live, wanted, ())
        if change.path[0] != "status"
        and not (change.path[0] == "metadata" and change.path[1] in SERVERS)
        and not (change.path[:2] == ("metadata", "annotations") and change.path[-1] in EDITORS)
    )


def makes_pods(item: Object, found: tuple[Change, ...]) -> bool:
    """Whether changes of a workload's top object make new pods: a new revision, or a rollout of its Deployment."""
    return any(_moves_pods(item, change) for change in found)


def _moves_pods(item: Object, change: Change) -> bool:
    path = change.path
    if item["kind"] == "Service" and item["apiVersion"].startswith("serving.knative.dev/"):
        return path[:2] == ("spec", "template")
    if item["kind"] != "InferenceService":
        return False
    standard = at(item, "metadata", "annotations", keys.DEPLOYMENT_MODE) in {"Standard", "RawDeployment"}
    if path[:2] == ("spec", "predictor"):
        return path[2] not in (NO_POD_IN_STANDARD if standard else NO_POD)
    if path[:2] == ("metadata", "annotations"):
        return not path[2].startswith((keys.EBBTIDE, keys.KSERVE_PREFIX))
    return path[:2] == ("metadata", "labels") and not standard


def _differences(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _differences(before.get(name), after.get(name), (*path, str(name)))
    elif _named(before) and _named(after):
        old, new = ({_name(row): row for row in rows} for rows in (before, after))
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(old.get(name), new.get(name), (*path, f"[{name}]"))
        if set(old) == set(new) and list(old) != list(new):
            yield Change(path, list(old), list(new))
    else:
        yield Change(path, before, after)


def _named(value: Any) -> bool:
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        return False
    found = [_name(row) for row in value]
    return None not in found and len(set(found)) == len(found)


def _name(row: Object) -> str | None:
    return next((str(row[key]) for key in NAMES if key in row), None)


def _shown_path(path: tuple[str, ...]) -> str:
    text = ""
    for part in path:
        plain = part.startswith("[") or not text
        # A key with dots of its own would read as several.
        text += part if plain else f"[{part}]" if "." in part else f".{part}"
    return text


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."  # noqa: PLR2004 - a line's worth


def _spec_words(before: Any, after: Any) -> str:
    """Say which fields of the kept spec differ."""
    try:
        old, new = (json.loads(text) if text else {} for text in (before, after))
    except (TypeError, ValueError):
        return "the kept spec changes"
    fields = sorted(_shown_path(change.path) for change in _differences(old, new, ()))
    return f"the kept spec: {', '.join(fields)}" if fields else "the kept spec is written anew"
