"""Names of workloads, namespaces and projects, and keys of labels and annotations."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ebbtide.base import names
from ebbtide.base.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.spec.inference import Inference

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


def name(inference: Inference) -> Iterator[Problem]:
    """The name fits a Knative Service, an InferenceService and what they derive."""
    text = inference.metadata.name
    where = ("metadata", "name")
    if names.WORKLOAD.fullmatch(text) is None:
        yield Problem(
            "NAM001",
            where,
            f"{text!r} is no name for a service",
            "start with a lower-case letter, go on with lower-case letters, digits and dashes, end with no dash",
        )
    elif len(text) > names.LONGEST_WORKLOAD:
        yield Problem(
            "NAM002",
            where,
            f"the name has {len(text)} characters; Knative names revisions <name>-00001, which must fit 63",
            f"use at most {names.LONGEST_WORKLOAD} characters",
        )
    namespace, project = inference.metadata.namespace, inference.spec.project
    if namespace is not None and project is not None:
        yield Problem(
            "NAM003",
            ("metadata", "namespace"),
            f"both a namespace ({namespace}) and a project ({project}) are given; a project is its namespace",
            "remove one of the two",
        )
    for field, value in (("namespace", namespace), ("project", project)):
        if value is not None and names.LABEL.fullmatch(value) is None:
            yield Problem(
                "NAM001",
                ("metadata", field) if field == "namespace" else ("spec", field),
                f"{value!r} is no name for a {field}",
                "use lower-case letters, digits and dashes, a letter or digit at each end",
            )


def metadata_keys(inference: Inference) -> Iterator[Problem]:
    """Labels and annotations have lawful keys and touch none that a controller owns."""
    spec, meta = inference.spec, inference.metadata
    groups = (
        (
            "label",
            ("spec", "labels"),
            [(i, item.name, item.value) for i, item in enumerate(spec.labels) if not item.exclude],
        ),
        (
            "annotation",
            ("spec", "annotations"),
            [(i, item.name, item.value) for i, item in enumerate(spec.annotations) if not item.exclude],
        ),
        ("label", ("metadata", "labels"), [(key, key, value) for key, value in (meta.labels or {}).items()]),
        (
            "annotation",
            ("metadata", "annotations"),
            [(key, key, value) for key, value in (meta.annotations or {}).items()],
        ),
    )
    for kind, where, items in groups:
        seen = set()
        for place, key, value in items:
            if LABEL_KEY.fullmatch(key) is None:
                yield Problem(
                    "LAB001",
                    (*where, place),
                    f"{key!r} is no key for a {kind}",
                    "use letters, digits, -, _ and ., with an optional prefix and / in front",
                )
            elif key.startswith(RESERVED_KEYS):
                yield Problem(
                    "LAB002",
                    (*where, place),
                    f"{key} belongs to Ebbtide or to a controller and would be overwritten or break the service",
                    "use the spec's own field for it, or patches if there is none",
                )
            elif key in seen:
                yield Problem("LAB003", (*where, place), f"{key} is set twice", "keep one")
            elif kind == "label" and LABEL_VALUE.fullmatch(value) is None:
                yield Problem(
                    "LAB001",
                    (*where, place),
                    f"{value!r} is no value for a label",
                    "use at most 63 letters, digits, -, _ and ., or make it an annotation",
                )
            seen.add(key)
