"""Rules for tolerations, node affinity and pod affinity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.base.problems import Problem
from ebbtide.spec.rules.naming import LABEL_KEY, LABEL_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.spec.inference import Inference


def check_placement(inference: Inference) -> Iterator[Problem]:
    """Check that Kubernetes accepts the tolerations and the affinity terms."""
    for index, toleration in enumerate(inference.spec.tolerations):
        where = ("spec", "tolerations", index)
        if toleration.exclude:
            continue
        if toleration.operator == "Exists" and toleration.value:
            yield Problem(
                "PLC003",
                (*where, "value"),
                "operator Exists matches any value, so Kubernetes rejects a toleration with value",
                "remove value, or use operator Equal",
            )
        if toleration.operator != "Exists" and not toleration.key:
            yield Problem(
                "PLC003",
                where,
                "a toleration without a key matches every taint and requires operator Exists",
                "set key, or operator: Exists",
            )
        if toleration.seconds is not None and toleration.effect != "NoExecute":
            yield Problem(
                "PLC003",
                (*where, "seconds"),
                "seconds is only valid with effect NoExecute",
                "set effect: NoExecute, or remove seconds",
            )
        if toleration.key is not None and LABEL_KEY.fullmatch(toleration.key) is None:
            yield Problem(
                "PLC003",
                (*where, "key"),
                f"invalid taint key {toleration.key!r}",
                "use the key of the node's taint",
            )
        if toleration.value is not None and LABEL_VALUE.fullmatch(toleration.value) is None:
            yield Problem(
                "PLC003",
                (*where, "value"),
                f"invalid taint value {toleration.value!r}",
                "use the value of the node's taint",
            )
    for key in inference.spec.node_selector or ():
        if LABEL_KEY.fullmatch(key) is None:
            yield Problem(
                "PLC004", ("spec", "nodeSelector", key), f"invalid label key {key!r}", "use the key of a node label"
            )
    affinity = inference.spec.node_affinity_required
    for number, term in enumerate(affinity.node_selector_terms if affinity else ()):
        for index, rule in enumerate(term.match_expressions):
            place = ("spec", "nodeAffinityRequired", "nodeSelectorTerms", number, "matchExpressions", index)
            is_existence = rule.operator in {"Exists", "DoesNotExist"}
            is_comparison = rule.operator in {"Gt", "Lt"}
            if is_existence and rule.values:
                yield Problem(
                    "PLC004", (*place, "values"), f"operator {rule.operator} does not accept values", "remove values"
                )
            elif not is_existence and not rule.values:
                yield Problem(
                    "PLC004", (*place, "values"), f"operator {rule.operator} requires values", "list at least one value"
                )
            elif is_comparison and (len(rule.values) != 1 or not rule.values[0].lstrip("-").isdigit()):
                yield Problem(
                    "PLC004",
                    (*place, "values"),
                    f"operator {rule.operator} requires exactly one whole number",
                    "list one whole number",
                )
            elif any(LABEL_VALUE.fullmatch(value) is None for value in rule.values):
                yield Problem(
                    "PLC004",
                    (*place, "values"),
                    "values contains an invalid label value",
                    "use values of the node's label",
                )
            if LABEL_KEY.fullmatch(rule.key) is None:
                yield Problem(
                    "PLC004",
                    (*place, "key"),
                    f"invalid label key {rule.key!r}",
                    "use the key of a node label",
                )
    for field, affinity_rule in (
        ("podAffinity", inference.spec.pod_affinity),
        ("podAntiAffinity", inference.spec.pod_anti_affinity),
    ):
        if affinity_rule is not None and LABEL_KEY.fullmatch(affinity_rule.key) is None:
            yield Problem(
                "PLC004",
                ("spec", field, "key"),
                f"invalid node label key {affinity_rule.key!r}",
                "use a topology key such as kubernetes.io/hostname or topology.kubernetes.io/zone",
            )
