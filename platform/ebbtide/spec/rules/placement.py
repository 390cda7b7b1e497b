"""Rules for tolerations, node affinity, pod affinity, disruption budgets and deployment strategies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base.problems import Problem, remove_field, set_value
from ebbtide.spec.rules.naming import LABEL_KEY, LABEL_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.spec.inference import Inference, InferenceSpec
    from ebbtide.spec.scheduling import DeploymentStrategy

MAX_PERCENT: Final = 100


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
                fixes=remove_field(),
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
                fixes=set_value("NoExecute", "effect") + remove_field(),
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
    yield from _check_spread(inference.spec)
    budget = inference.spec.disruption_budget
    if budget is not None and (budget.min_available is None) == (budget.max_unavailable is None):
        yield Problem(
            "PLC018",
            ("spec", "disruptionBudget"),
            "a disruption budget has exactly one of minAvailable and maxUnavailable",
            "remove minAvailable" if budget.min_available is not None else "set maxUnavailable: 1",
        )
    yield from _check_strategy(inference.spec.deployment_strategy)
    affinity = inference.spec.node_affinity_required
    for number, term in enumerate(affinity.node_selector_terms if affinity else ()):
        for index, rule in enumerate(term.match_expressions):
            place = ("spec", "nodeAffinityRequired", "nodeSelectorTerms", number, "matchExpressions", index)
            is_existence = rule.operator in {"Exists", "DoesNotExist"}
            is_comparison = rule.operator in {"Gt", "Lt"}
            if is_existence and rule.values:
                yield Problem(
                    "PLC004",
                    (*place, "values"),
                    f"operator {rule.operator} does not accept values",
                    "remove values",
                    fixes=remove_field(),
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


def _check_strategy(strategy: DeploymentStrategy | None) -> Iterator[Problem]:
    """Reject what Kubernetes rejects (pkg/apis/apps/validation, ValidateDeploymentStrategy)."""
    step = None if strategy is None else strategy.rolling_update
    if strategy is None or step is None:
        return
    path = ("spec", "deploymentStrategy", "rollingUpdate")
    if strategy.type == "Recreate":
        message = "rollingUpdate is only valid with type RollingUpdate: Recreate removes all replicas in one step"
        yield Problem(
            "PLC090",
            path,
            message,
            "remove rollingUpdate",
            fixes=remove_field(),
        )
        return
    zero = {0, "0%"}
    if step.max_surge in zero and step.max_unavailable in zero:
        message = "maxSurge and maxUnavailable are both 0, so an update could neither add nor remove a replica"
        yield Problem(
            "PLC090",
            (*path, "maxUnavailable"),
            message,
            "set maxUnavailable: 1",
            fixes=set_value(1),
        )
    if isinstance(step.max_unavailable, str) and int(step.max_unavailable.removesuffix("%")) > MAX_PERCENT:
        message = f"maxUnavailable {step.max_unavailable} is more than all replicas"
        yield Problem(
            "PLC090",
            (*path, "maxUnavailable"),
            message,
            "use at most 100%",
            fixes=set_value("100%"),
        )


def _check_spread(spec: InferenceSpec) -> Iterator[Problem]:
    """Check what Kubernetes accepts (k8s.io/kubernetes pkg/apis/core/validation, validateTopologySpreadConstraints)."""
    pairs: set[tuple[str, str]] = set()
    for index, item in enumerate(spec.topology_spread_constraints):
        where = ("spec", "topologySpreadConstraints", index)
        labels = {} if item.label_selector is None else item.label_selector.match_labels
        for field, key in (
            ("topologyKey", item.topology_key),
            *(("matchLabelKeys", key) for key in item.match_label_keys),
        ):
            if LABEL_KEY.fullmatch(key) is None:
                yield Problem("PLC017", (*where, field), f"invalid label key {key!r}", "use the key of a label")
            elif field == "matchLabelKeys" and key in labels:
                yield Problem(
                    "PLC017",
                    (*where, field),
                    f"label {key} is in matchLabels too",
                    "remove it from one of them",
                    fixes=remove_field(),
                )
        for key in labels:
            if LABEL_KEY.fullmatch(key) is None:
                yield Problem(
                    "PLC017",
                    (*where, "labelSelector", "matchLabels", key),
                    f"invalid label key {key!r}",
                    "use a pod's label",
                )
        if item.min_domains is not None and item.when_unsatisfiable != "DoNotSchedule":
            yield Problem(
                "PLC017",
                (*where, "minDomains"),
                "minDomains is only valid with whenUnsatisfiable: DoNotSchedule",
                "remove minDomains",
                fixes=remove_field(),
            )
        pair = (item.topology_key, item.when_unsatisfiable)
        if pair in pairs:
            yield Problem(
                "PLC017",
                where,
                f"another constraint has topologyKey {item.topology_key} and {item.when_unsatisfiable} too",
                "remove the item",
                fixes=remove_field(),
            )
        pairs.add(pair)
