"""The placement of replicas: node pools in order, node type, affinity, tolerations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ebbtide.core.base import keys
from ebbtide.core.base.problems import Change, Fix, Problem, make_warning, offer_values, remove_field, set_value
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.objects import make_object, prune_nulls, write_model
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.pods import PodPatch

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodeAutoscaler, NodePool
    from ebbtide.core.spec.inference import InferenceSpec
    from ebbtide.core.spec.scheduling import PodAffinity

#: The maximum weight of a Kubernetes scheduling preference; the minimum is 1.
MAX_WEIGHT = 100


def choose(plan: Plan) -> tuple[NodePool, ...]:
    """Return the spec's node pools that the profile has, in the spec's order, or the profile's first by default."""
    by_name = {pool.name: pool for pool in plan.cluster.node_pools}
    pools = [by_name[name] for name in dict.fromkeys(plan.pool_names) if name in by_name]
    return tuple(pools if pools or plan.pool_names else plan.cluster.node_pools[:1])


def check(plan: Plan) -> Iterator[Problem]:
    """Reject unknown node pools, pools that cannot be combined, and pools whose nodes have another type."""
    spec, pools = plan.spec, plan.pools
    known = [pool.name for pool in plan.cluster.node_pools]
    for index, name in enumerate(plan.pool_names):
        if name not in known:
            message = f"node pool {name} not found in the cluster profile"
            fix = f"use one of {', '.join(known)}" if known else "remove nodePools: the profile has no node pools"
            fixes = offer_values(known) or remove_field(("spec", "nodePools"))
            yield Problem("PLC001", ("spec", "nodePools", index), message, fix, fixes=fixes)
    for key, value in (spec.node_selector or {}).items():
        yield from _check_selected_label(plan, key, value)
    if len({pool.backend for pool in pools}) > 1:
        backends = ", ".join(f"{pool.name}: {pool.backend}" for pool in pools)
        message = f"the node pools have different GPU backends ({backends}), and a pod can request GPUs through one backend only"
        yield Problem("PLC002", ("spec", "nodePools"), message, "list only pools with the same backend")
    yield from _check_disruption_budget(plan)
    yield from _check_combination(pools)
    for pool in pools:
        node_type = pool.selector.get(keys.NODE_TYPE)
        if spec.node_type is not None and node_type is not None and node_type != spec.node_type:
            message = f"nodeType is {spec.node_type}, but the nodes of pool {pool.name} have type {node_type}, so no node matches both"
            fix = "remove nodeType, or use another pool in nodePools"
            yield Problem("PLC005", ("spec", "nodeType"), message, fix, fixes=remove_field())


def _check_selected_label(plan: Plan, key: str, value: str) -> Iterator[Problem]:
    """Yield a problem if another field of the spec or the GPU backend selects nodes by another value of a label."""
    path = ("spec", "nodeSelector", key)
    if key == keys.NODE_TYPE and plan.spec.node_type not in {None, value}:
        message = f"nodeSelector requires {key} {value}, but nodeType requires {plan.spec.node_type}"
        fix = "remove nodeType, or remove the label from nodeSelector"
        yield Problem("PLC016", path, message, fix, fixes=remove_field(("spec", "nodeType")))
    for pool in _list_selecting_pools(plan):
        if plan.gpu is not None and key == keys.GPU_PRODUCT and BACKENDS[pool.backend].partitioned:
            message = f"the GPU backend of node pool {pool.name} selects nodes by {key}, with the suffix that the device plugin adds"
            fix = "remove it, and select the node pool with nodePools"
            yield Problem("PLC016", path, message, fix, fixes=remove_field())
        elif pool.selector.get(key, value) != value:
            message = (
                f"nodeSelector requires {key} {value}, but the nodes of pool {pool.name} have {pool.selector[key]}, so no node "
                "matches both"
            )
            yield Problem("PLC016", path, message, "remove it, or use another pool in nodePools", fixes=remove_field())


def _list_selecting_pools(plan: Plan) -> tuple[NodePool, ...]:
    """Return the node pools by which the pods select nodes: those of the spec, or the default one for a GPU request."""
    if plan.pool_names:
        return plan.pools
    if plan.gpu is None or plan.pool is None:
        return ()
    whole = plan.gpu.kind == "devices"
    return plan.pools if selects_by_default(plan.pool, whole=whole, defaults=plan.adds_defaults) else ()


def list_autoscaled_pools(plan: Plan) -> list[tuple[NodePool, NodeAutoscaler]]:
    """Return the node pools of the replicas whose nodes an autoscaler starts."""
    pools = plan.pools if plan.gpu is not None or plan.pool_names else ()
    return [(pool, pool.node_autoscaler) for pool in pools if pool.node_autoscaler is not None]


def find_node_start(plan: Plan) -> tuple[str, int]:
    """Return the node pool whose nodes take longest to start, and the seconds; 0 without such a pool."""
    starts = [(pool.name, autoscaler.start_seconds or 0) for pool, autoscaler in list_autoscaled_pools(plan)]
    return max(starts, key=lambda row: row[1], default=("", 0))


def selects_by_default(pool: NodePool, *, whole: bool, defaults: bool) -> bool:
    """Return whether a GPU request selects the default node pool, which the spec need not name.

    Without Ebbtide's defaults, a request for whole devices selects no nodes by labels that the spec does not set.
    """
    return defaults or not whole or not pool.selector


def _check_combination(pools: tuple[NodePool, ...]) -> Iterator[Problem]:
    """Yield a problem for several node pools that one pod cannot request together."""
    if len(pools) < 2:  # noqa: PLR2004 - one pool has no other to agree with
        return
    kinds = {
        (pool.backend, pool.resource, pool.mig_strategy, pool.product if BACKENDS[pool.backend].partitioned else None)
        for pool in pools
    }
    if len({pool.backend for pool in pools}) == 1 and len(kinds) > 1:
        message = (
            f"the node pools {', '.join(pool.name for pool in pools)} advertise their GPUs under different resource names or as "
            "different products, and a pod can request only one of them"
        )
        fix = "list only pools with the same resource name, MIG strategy and product"
        yield Problem("PLC002", ("spec", "nodePools"), message, fix)
    for pool in pools:
        if not pool.selector:
            message = f"node pool {pool.name} has no selector in the profile, so its nodes cannot be selected"
            fix = "set nodePools[].selector for it in the profile, or list one pool only"
            yield Problem("PLC005", ("spec", "nodePools"), message, fix)


def make_placement_patches(plan: Plan) -> Iterator[PodPatch]:
    """Yield node selector, affinity and tolerations, each with the spec's field that causes it."""
    spec = plan.spec
    pools = _list_selecting_pools(plan)
    selector = dict(pools[0].selector) if len(pools) == 1 else {}
    if plan.gpu is not None and plan.pool is not None and BACKENDS[plan.pool.backend].partitioned:
        # The backend itself selects the product, with the suffix that strategy single adds to it.
        selector.pop(keys.GPU_PRODUCT, None)
    if selector:
        yield PodPatch(by="placement/pool", cause=("spec", "nodePools"), node_selector=selector)
    for pool, autoscaler in list_autoscaled_pools(plan):
        if autoscaler.keep_replicas and plan.adds_defaults:
            keep = keys.KEEP_NODE[autoscaler.name]
            yield PodPatch(by=f"placement/keep {pool.name}", cause=("spec", "nodePools"), annotations=keep)
    if spec.node_type is not None:
        yield PodPatch(by="placement/type", cause=("spec", "nodeType"), node_selector={keys.NODE_TYPE: spec.node_type})
    if spec.node_selector:
        yield PodPatch(by="placement/selector", cause=("spec", "nodeSelector"), node_selector=spec.node_selector)
    node = _render_node_affinity(spec, pools if len(pools) > 1 else ())
    if node:
        cause = "nodeAffinityRequired" if spec.node_affinity_required is not None else "nodePools"
        yield PodPatch(by="placement/node", cause=("spec", cause), affinity={"nodeAffinity": prune_nulls(node)})
    for field, rule in (("podAffinity", spec.pod_affinity), ("podAntiAffinity", spec.pod_anti_affinity)):
        if rule is not None:
            affinity = {field: _render_pod_affinity(plan.name, rule)}
            yield PodPatch(f"placement/{field}", ("spec", field), affinity=affinity)
    if spec.topology_spread_constraints:
        of_workload = {"matchLabels": {keys.APP_NAME: plan.name}}
        rows = write_model(spec.topology_spread_constraints)
        spread = prune_nulls([{**row, "labelSelector": row["labelSelector"] or of_workload} for row in rows])
        yield PodPatch("placement/spread", ("spec", "topologySpreadConstraints"), topology_spread=spread)
    if spec.disruption_budget is not None:
        # knative.dev/serving pkg/reconciler/revision/resources/meta.go (makeLabels), kserve
        # pkg/controller/v1beta1/inferenceservice/components/predictor.go (buildObjectMeta).
        of_pods = {"matchLabels": plan.mode.label_pods(plan.name)}
        budget = {**write_model(spec.disruption_budget), "selector": of_pods}
        objects = [make_object("policy/v1", "PodDisruptionBudget", plan.name, budget)]
        yield PodPatch("placement/disruption", ("spec", "disruptionBudget"), objects=objects)
    tolerations = [
        {
            "key": toleration.key or None,
            "operator": toleration.operator or ("Equal" if toleration.value is not None else None),
            "value": toleration.value,
            "effect": None if toleration.effect == "Any" else toleration.effect,
            "tolerationSeconds": toleration.seconds,
        }
        for toleration in spec.tolerations
        if not toleration.exclude
    ]
    for pool in pools:
        tolerations.extend(toleration for toleration in pool.tolerations if toleration not in tolerations)
    if tolerations:
        cause = "tolerations" if spec.tolerations else "nodePools"
        yield PodPatch("placement/tolerations", ("spec", cause), tolerations=prune_nulls(tolerations))


def _check_disruption_budget(plan: Plan) -> Iterator[Problem]:
    """Reject a budget that leaves no node drain possible, and warn about one that does so at the minimum of replicas."""
    budget, scaling = plan.spec.disruption_budget, plan.scaling
    if budget is None:
        return
    for field, value, blocking in (
        ("minAvailable", budget.min_available, (scaling.maximum, "100%")),
        ("maxUnavailable", budget.max_unavailable, (0, "0%")),
    ):
        if value in blocking or (field == "minAvailable" and isinstance(value, int) and value > scaling.maximum):
            one = ("spec", "disruptionBudget", "maxUnavailable")
            message = f"{field} {value} never allows an eviction, so no node with a replica could be drained"
            fix = f"{'remove minAvailable, and ' if field == 'minAvailable' else ''}set maxUnavailable: 1"
            fixes = (Fix((Change(()), Change(one, 1))),)
            yield Problem("PLC018", ("spec", "disruptionBudget", field), message, fix, fixes=fixes)
        elif field == "minAvailable" and isinstance(value, int) and value >= scaling.minimum > 0:
            message = f"with minReplicas {scaling.minimum}, minAvailable {value} allows no eviction until the autoscaler adds replicas"
            fix = f"set minReplicas to {value + 1}, or use maxUnavailable instead"
            yield make_warning(
                "PLC019",
                ("spec", "disruptionBudget", field),
                message,
                fix,
                fixes=set_value(value + 1, ("spec", "autoscaling", "minReplicas")),
            )


def _render_node_affinity(spec: InferenceSpec, pools: tuple[NodePool, ...]) -> dict[str, Any]:
    """Return node affinity for any of several pools, the first one preferred, each combined with the spec's conditions."""
    required = spec.node_affinity_required
    of_spec = [
        [
            {"key": expression.key, "operator": expression.operator, "values": [*expression.values] or None}
            for expression in term.match_expressions
        ]
        for term in (required.node_selector_terms if required is not None else ())
    ]
    of_pools = [
        [{"key": key, "operator": "In", "values": [value]} for key, value in pool.selector.items()]
        for pool in pools
        if pool.selector
    ]
    combined = [pool_terms + spec_terms for pool_terms in (of_pools or [[]]) for spec_terms in (of_spec or [[]])]
    terms = [{"matchExpressions": expressions} for expressions in combined if expressions]
    if not terms:
        return {}
    affinity: dict[str, Any] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    if len(of_pools) > 1:
        step = MAX_WEIGHT // len(of_pools)
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = [
            {"weight": max(1, MAX_WEIGHT - rank * step), "preference": {"matchExpressions": expressions}}
            for rank, expressions in enumerate(of_pools)
        ]
    return affinity


def _render_pod_affinity(name: str, rule: PodAffinity) -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": {keys.APP_NAME: name}}, "topologyKey": rule.key}
    if rule.type == "Required":
        return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": MAX_WEIGHT, "podAffinityTerm": term}]}
