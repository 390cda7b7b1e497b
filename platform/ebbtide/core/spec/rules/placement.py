"""Rules for tolerations, node affinity, pod affinity, disruption budgets and deployment strategies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ebbtide.core.base.problems import Path, Problem, remove_field, set_value
from ebbtide.core.spec.rules.naming import LABEL_KEY, LABEL_VALUE

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import Inference, InferenceSpec
    from ebbtide.core.spec.scheduling import DeploymentStrategy, MatchExpression, Toleration

MAX_PERCENT: Final = 100


def check_placement(inference: Inference) -> Iterator[Problem]:
    """Check that Kubernetes accepts the tolerations, the affinity terms, the disruption budget and the strategy."""
    spec = inference.spec
    for index, toleration in enumerate(spec.tolerations):
        if not toleration.exclude:
            yield from _check_toleration(("spec", "tolerations", index), toleration)
    for key in spec.node_selector or ():
        if LABEL_KEY.fullmatch(key) is None:
            yield _invalid_key("PLC004", ("spec", "nodeSelector", key), key, "use the key of a node label")
    yield from _check_spread(spec)
    budget = spec.disruption_budget
    if budget is not None and (budget.min_available is None) == (budget.max_unavailable is None):
        message = "a disruption budget has exactly one of minAvailable and maxUnavailable"
        fix = "remove minAvailable" if budget.min_available is not None else "set maxUnavailable: 1"
        yield Problem("PLC018", ("spec", "disruptionBudget"), message, fix)
    yield from _check_strategy(spec.deployment_strategy)
    affinity = spec.node_affinity_required
    for number, term in enumerate(affinity.node_selector_terms if affinity else ()):
        place = ("spec", "nodeAffinityRequired", "nodeSelectorTerms", number, "matchExpressions")
        for index, rule in enumerate(term.match_expressions):
            yield from _check_expression((*place, index), rule)
    for field, affinity_rule in (("podAffinity", spec.pod_affinity), ("podAntiAffinity", spec.pod_anti_affinity)):
        if affinity_rule is not None and LABEL_KEY.fullmatch(affinity_rule.key) is None:
            message = f"invalid node label key {affinity_rule.key!r}"
            fix = "use a topology key such as kubernetes.io/hostname or topology.kubernetes.io/zone"
            yield Problem("PLC004", ("spec", field, "key"), message, fix)


def _invalid_key(code: str, where: Path, key: str, fix: str) -> Problem:
    return Problem(code, where, f"invalid label key {key!r}", fix)


def _check_toleration(where: Path, toleration: Toleration) -> Iterator[Problem]:
    key, value = toleration.key, toleration.value
    if toleration.operator == "Exists" and value:
        message = "operator Exists matches any value, so Kubernetes rejects a toleration with value"
        fix = "remove value, or use operator Equal"
        yield Problem("PLC003", (*where, "value"), message, fix, fixes=remove_field())
    if toleration.operator != "Exists" and not key:
        message = "a toleration without a key matches every taint and requires operator Exists"
        yield Problem("PLC003", where, message, "set key, or operator: Exists")
    if toleration.seconds is not None and toleration.effect != "NoExecute":
        message, fix = "seconds is only valid with effect NoExecute", "set effect: NoExecute, or remove seconds"
        fixes = set_value("NoExecute", "effect") + remove_field()
        yield Problem("PLC003", (*where, "seconds"), message, fix, fixes=fixes)
    if key is not None and LABEL_KEY.fullmatch(key) is None:
        yield Problem("PLC003", (*where, "key"), f"invalid taint key {key!r}", "use the key of the node's taint")
    if value is not None and LABEL_VALUE.fullmatch(value) is None:
        yield Problem(
            "PLC003", (*where, "value"), f"invalid taint value {value!r}", "use the value of the node's taint"
        )


def _check_expression(place: Path, rule: MatchExpression) -> Iterator[Problem]:
    """Check one condition of a node affinity term."""
    where, operator = (*place, "values"), rule.operator
    if operator in {"Exists", "DoesNotExist"}:
        if rule.values:
            message = f"operator {operator} does not accept values"
            yield Problem("PLC004", where, message, "remove values", fixes=remove_field())
    elif not rule.values:
        yield Problem("PLC004", where, f"operator {operator} requires values", "list at least one value")
    elif operator in {"Gt", "Lt"} and (len(rule.values) != 1 or not rule.values[0].lstrip("-").isdigit()):
        message = f"operator {operator} requires exactly one whole number"
        yield Problem("PLC004", where, message, "list one whole number")
    elif any(LABEL_VALUE.fullmatch(value) is None for value in rule.values):
        message = "values contains an invalid label value"
        yield Problem("PLC004", where, message, "use values of the node's label")
    if LABEL_KEY.fullmatch(rule.key) is None:
        yield _invalid_key("PLC004", (*place, "key"), rule.key, "use the key of a node label")


def _check_strategy(strategy: DeploymentStrategy | None) -> Iterator[Problem]:
    """Reject what Kubernetes rejects (pkg/apis/apps/validation, ValidateDeploymentStrategy)."""
    step = None if strategy is None else strategy.rolling_update
    if strategy is None or step is None:
        return
    path = ("spec", "deploymentStrategy", "rollingUpdate")
    if strategy.type == "Recreate":
        message = "rollingUpdate is only valid with type RollingUpdate: Recreate removes all replicas in one step"
        yield Problem("PLC090", path, message, "remove rollingUpdate", fixes=remove_field())
        return
    where, unavailable, zero = (*path, "maxUnavailable"), step.max_unavailable, {0, "0%"}
    if step.max_surge in zero and unavailable in zero:
        message = "maxSurge and maxUnavailable are both 0, so an update could neither add nor remove a replica"
        yield Problem("PLC090", where, message, "set maxUnavailable: 1", fixes=set_value(1))
    if isinstance(unavailable, str) and int(unavailable.removesuffix("%")) > MAX_PERCENT:
        message = f"maxUnavailable {unavailable} is more than all replicas"
        yield Problem("PLC090", where, message, "use at most 100%", fixes=set_value("100%"))


def _check_spread(spec: InferenceSpec) -> Iterator[Problem]:
    """Check what Kubernetes accepts (k8s.io/kubernetes pkg/apis/core/validation, validateTopologySpreadConstraints)."""
    pairs: set[tuple[str, str]] = set()
    for index, item in enumerate(spec.topology_spread_constraints):
        where = ("spec", "topologySpreadConstraints", index)
        labels = {} if item.label_selector is None else item.label_selector.match_labels
        if LABEL_KEY.fullmatch(item.topology_key) is None:
            yield _invalid_key("PLC017", (*where, "topologyKey"), item.topology_key, "use the key of a label")
        for key in item.match_label_keys:
            path = (*where, "matchLabelKeys")
            if LABEL_KEY.fullmatch(key) is None:
                yield _invalid_key("PLC017", path, key, "use the key of a label")
            elif key in labels:
                message, fix = f"label {key} is in matchLabels too", "remove it from one of them"
                yield Problem("PLC017", path, message, fix, fixes=remove_field())
        for key in labels:
            if LABEL_KEY.fullmatch(key) is None:
                yield _invalid_key("PLC017", (*where, "labelSelector", "matchLabels", key), key, "use a pod's label")
        if item.min_domains is not None and item.when_unsatisfiable != "DoNotSchedule":
            message = "minDomains is only valid with whenUnsatisfiable: DoNotSchedule"
            yield Problem("PLC017", (*where, "minDomains"), message, "remove minDomains", fixes=remove_field())
        pair = (item.topology_key, item.when_unsatisfiable)
        if pair in pairs:
            message = f"another constraint has topologyKey {item.topology_key} and {item.when_unsatisfiable} too"
            yield Problem("PLC017", where, message, "remove the item", fixes=remove_field())
        pairs.add(pair)
