"""Affinity and tolerations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.base.problems import Problem
from ebbtide.spec.rules.naming import LABEL_KEY, LABEL_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.spec.inference import Inference


def placement(inference: Inference) -> Iterator[Problem]:
    """Tolerations and node conditions are ones that Kubernetes takes."""
    for index, item in enumerate(inference.spec.tolerations):
        where = ("spec", "tolerations", index)
        if item.exclude:
            continue
        if item.operator == "Exists" and item.value:
            yield Problem(
                "PLC003",
                (*where, "value"),
                "operator Exists takes any value, so Kubernetes refuses one beside it",
                "remove value, or use operator Equal",
            )
        if item.operator != "Exists" and not item.key:
            yield Problem(
                "PLC003",
                where,
                "a toleration without a key tolerates every taint, which needs operator Exists",
                "set key, or operator: Exists",
            )
        if item.seconds is not None and item.effect != "NoExecute":
            yield Problem(
                "PLC003",
                (*where, "seconds"),
                "seconds count only for the effect NoExecute",
                "set effect: NoExecute, or remove seconds",
            )
        if item.key is not None and LABEL_KEY.fullmatch(item.key) is None:
            yield Problem("PLC003", (*where, "key"), f"{item.key!r} is no taint's key", "use the taint's own key")
        if item.value is not None and LABEL_VALUE.fullmatch(item.value) is None:
            yield Problem(
                "PLC003",
                (*where, "value"),
                f"{item.value!r} is no taint's value",
                "use the taint's own value",
            )
    affinity = inference.spec.node_affinity_required
    for number, term in enumerate(affinity.node_selector_terms if affinity else ()):
        for index, rule in enumerate(term.match_expressions):
            place = ("spec", "nodeAffinityRequired", "nodeSelectorTerms", number, "matchExpressions", index)
            bare = rule.operator in {"Exists", "DoesNotExist"}
            one = rule.operator in {"Gt", "Lt"}
            if bare and rule.values:
                yield Problem("PLC004", (*place, "values"), f"{rule.operator} takes no values", "remove them")
            elif not bare and not rule.values:
                yield Problem("PLC004", (*place, "values"), f"{rule.operator} needs values", "list them")
            elif one and (len(rule.values) != 1 or not rule.values[0].lstrip("-").isdigit()):
                yield Problem(
                    "PLC004",
                    (*place, "values"),
                    f"{rule.operator} compares with one whole number",
                    "give one",
                )
            elif any(LABEL_VALUE.fullmatch(value) is None for value in rule.values):
                yield Problem(
                    "PLC004",
                    (*place, "values"),
                    "a value here is no label's value",
                    "use the node label's value",
                )
            if LABEL_KEY.fullmatch(rule.key) is None:
                yield Problem(
                    "PLC004",
                    (*place, "key"),
                    f"{rule.key!r} is no label's key",
                    "use the node label's own key",
                )
    for field, affinity_rule in (
        ("podAffinity", inference.spec.pod_affinity),
        ("podAntiAffinity", inference.spec.pod_anti_affinity),
    ):
        if affinity_rule is not None and LABEL_KEY.fullmatch(affinity_rule.key) is None:
            yield Problem(
                "PLC004",
                ("spec", field, "key"),
                f"{affinity_rule.key!r} is no node label's key",
                "use kubernetes.io/hostname or topology.kubernetes.io/zone, say",
            )
