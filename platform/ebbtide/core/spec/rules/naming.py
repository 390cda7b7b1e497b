"""Rules for names of workloads, namespaces and projects, and for keys of labels and annotations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import keys, names
from ebbtide.core.base.problems import Path, Problem

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import Inference

LABEL_KEY: Final = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
# fmt: off
#: Keys that Ebbtide or a controller sets; a user's value would be overwritten or break the workload.
RESERVED_KEYS: Final = (
    "autoscaling.knative.dev/", "serving.knative.dev/", "networking.knative.dev/", "networking.internal.knative.dev/",
    "queue.sidecar.serving.knative.dev/", "features.knative.dev/", "serving.kserve.io/",
    "internal.serving.kserve.io/", "networking.kserve.io/", "ebbtide.dev/", "app.kubernetes.io/", "gpu-fraction",
    "gpu-memory", "kai.scheduler/", "priorityClassName", "hami.io/",
)
# fmt: on
#: The annotation with a reserved prefix that only users set; PRI028 reports where it has no effect.
ALLOWED_KEY: Final = ("annotation", keys.KAI_PREEMPTION_DELAY)
# fmt: off
#: The only keys that a spec with ``defaults: none`` must not set: those that its other fields render.
RENDERED_KEYS: Final = frozenset({
    keys.METRIC, keys.TARGET, keys.TARGET_UTILIZATION, keys.MIN_SCALE, keys.MAX_SCALE, keys.INITIAL_SCALE,
    keys.ACTIVATION_SCALE, keys.SCALE_DOWN_DELAY, keys.RETENTION, keys.WINDOW, keys.PANIC_WINDOW, keys.PANIC_THRESHOLD,
    keys.BURST_CAPACITY, keys.AGGREGATION, keys.ROLLOUT_DURATION, keys.PROGRESS_DEADLINE, keys.KNATIVE_VISIBILITY,
    keys.KSERVE_VISIBILITY, keys.KAI_FRACTION, keys.KAI_MEMORY, keys.PRIORITY_LABEL, *keys.OLDER_SPELLINGS,
})
# fmt: on
RENDERED_PREFIXES: Final = (keys.EBBTIDE, "kai.scheduler/", "hami.io/")


def is_reserved_key(key: str, defaults: str | None) -> bool:
    """Return whether labels and annotations of a spec must not have a key."""
    if defaults == "none":
        return key in RENDERED_KEYS or key.startswith(RENDERED_PREFIXES)
    return key.startswith(RESERVED_KEYS)


def check_name(inference: Inference) -> Iterator[Problem]:
    """Check that the name is valid for a Knative Service, an InferenceService and the names derived from them."""
    text = inference.metadata.name
    where = ("metadata", "name")
    if names.WORKLOAD.fullmatch(text) is None:
        fix = "use lowercase letters, digits and dashes, starting with a letter and not ending with a dash"
        yield Problem("NAM001", where, f"invalid service name {text!r}", fix)
    elif len(text) > names.LONGEST_WORKLOAD:
        message = (
            f"the name has {len(text)} characters; the names of Knative's revisions, <name>-00001, must have at most 63"
        )
        yield Problem("NAM002", where, message, f"use at most {names.LONGEST_WORKLOAD} characters")
    namespace, project = inference.metadata.namespace, inference.spec.project
    if namespace is not None and project is not None:
        message = f"namespace ({namespace}) and project ({project}) are both set; the project determines the namespace"
        yield Problem("NAM003", ("metadata", "namespace"), message, "remove one of them")
    for path, value in ((("metadata", "namespace"), namespace), (("spec", "project"), project)):
        if value is not None and names.LABEL.fullmatch(value) is None:
            fix = "use lowercase letters, digits and dashes, starting and ending with a letter or digit"
            yield Problem("NAM001", path, f"invalid {path[1]} name {value!r}", fix)


def check_metadata_keys(inference: Inference) -> Iterator[Problem]:
    """Check that keys and values of labels and annotations are valid, and that no key belongs to a controller."""
    spec, meta = inference.spec, inference.metadata
    for kind, field, items in (("label", "labels", spec.labels), ("annotation", "annotations", spec.annotations)):
        rows = [(index, item.name, item.value) for index, item in enumerate(items) if not item.exclude]
        yield from _check_entries(kind, ("spec", field), rows, spec.defaults)
    for kind, field, entries in (("label", "labels", meta.labels), ("annotation", "annotations", meta.annotations)):
        pairs = [(key, key, value) for key, value in (entries or {}).items()]
        yield from _check_entries(kind, ("metadata", field), pairs, spec.defaults)


def _check_entries(
    kind: str, where: Path, entries: Sequence[tuple[str | int, str, str]], defaults: str | None
) -> Iterator[Problem]:
    """Check labels or annotations: the place in their list or mapping, the key and the value of each."""
    keys_used = set()
    for place, key, value in entries:
        path = (*where, place)
        if LABEL_KEY.fullmatch(key) is None:
            fix = "use letters, digits, -, _ and ., with an optional prefix followed by /"
            yield Problem("LAB001", path, f"invalid {kind} key {key!r}", fix)
        elif is_reserved_key(key, defaults) and (kind, key) != ALLOWED_KEY:
            message = f"{key} is reserved for Ebbtide or a controller: it would be overwritten or break the service"
            yield Problem(
                "LAB002", path, message, "use the field of the spec that sets it, or patches if there is none"
            )
        elif key in keys_used:
            yield Problem("LAB003", path, f"duplicate key {key}", "keep one of the entries")
        elif kind == "label" and LABEL_VALUE.fullmatch(value) is None:
            fix = "use at most 63 letters, digits, -, _ and ., or use an annotation"
            yield Problem("LAB001", path, f"invalid label value {value!r}", fix)
        keys_used.add(key)
