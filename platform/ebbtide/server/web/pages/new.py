"""Creating and editing an inference workload: the form of a new one, the editor of its YAML, the diff, and the submit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from ebbtide.cluster.client.protocol import ClusterError, ConflictError, RefusedError
from ebbtide.cluster.read.amounts import parse_amount
from ebbtide.cluster.read.pods import count_held_gpus
from ebbtide.cluster.slo.promises import find_price
from ebbtide.cluster.write.apply import ApplyDiff
from ebbtide.core import manifests
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem
from ebbtide.core.base.prose import count_noun
from ebbtide.core.documents.model_specs import ModelRequest, ModelSpec, choose_proposal, name_workload, propose_model
from ebbtide.core.profile.models import Profile
from ebbtide.core.profile.projects import UNKNOWN_NAMESPACE
from ebbtide.core.translation import gpu, model_catalog
from ebbtide.core.units import format_bytes, format_money
from ebbtide.server.api.answers import Diffs
from ebbtide.server.api.gpus import list_nodes
from ebbtide.server.api.offline import InputError
from ebbtide.server.web.parts import canary, specs, words
from ebbtide.server.web.parts.assets import CACHE_FOREVER
from ebbtide.server.web.parts.errors import PageError
from ebbtide.server.web.parts.fields import list_completions, list_fields, make_document, place_problems
from ebbtide.server.web.parts.frame import PageVisit
from ebbtide.server.web.parts.shared import label_gpus, list_quota_uses, workload_path

TABS: Final = {"yaml": "YAML", "manifests": "Manifests", "explanation": "Explanation"}
#: The maximum length of a number in the choice of a model.
MAX_DIGITS: Final = 7


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model of the catalog with a node pool, the longest request in tokens, and the requests in flight, as text."""

    name: str = ""
    pool: str = ""
    """Empty for the pool on which a replica takes the least GPU memory."""
    context: str = str(model_catalog.CONTEXT)
    requests: str = str(model_catalog.REQUESTS)

    def propose(self, profile: Profile, document: Mapping[str, Any]) -> ModelSpec | None:
        """Return the fields for the model; none, with the reason, if it does not fit; None if no model is selected."""
        model = model_catalog.find_model(self.name)
        if model is None:
            return None
        context, requests = (
            int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0 for text in (self.context, self.requests)
        )
        if not 0 < context <= model.context:
            return ModelSpec("", f"the context must be a whole number from 1 to {model.context:,} tokens", {})
        if requests < 1:
            return ModelSpec("", "the requests must be a whole number of at least 1", {})
        to_zero = get_at(document, "spec", "autoscaling", "minReplicas") == 0
        project = get_at(document, "spec", "project")
        proposals = propose_model(ModelRequest(model, context, requests, to_zero=to_zero, project=project), profile)
        return choose_proposal({self.pool: proposals[self.pool]} if self.pool in proposals else proposals)


# The form of a new workload.


def show_new_form(visit: PageVisit) -> Response:
    """Show the form, or the editor with an example."""
    key, project = visit.query("example"), visit.query("project")
    chosen = specs.load_examples().get(key)
    if key and chosen is None:
        raise PageError(404, "Example not found", f"Available examples: {', '.join(specs.load_examples())}.")
    if chosen is not None:
        return _render_editor(visit, EditorState(chosen.text))
    return _render_new_form(visit, {"spec.project": project})


def continue_form(visit: PageVisit) -> Response:
    """Show the YAML or the plan of a submitted form; or the form, if its model does not fit or it has errors."""
    values = {name: _normalize_newlines(text) for name, text in visit.form.items()}
    action = values.get("do", "")
    document = make_document(values)
    model = _read_model_choice(values)
    if action == "model" and (proposed := model.propose(visit.backend.profile, document)) and proposed.fields:
        return _render_editor(visit, EditorState(specs.write_native(_fill_fields(document, model, proposed))))
    state = EditorState(specs.write_native(document))
    if action == "yaml":
        return _render_editor(visit, state)
    if action == "diff":
        spec = specs.read_spec(state.text, visit.backend.profile)
        if spec.errors:
            return _render_new_form(visit, values, 422, model=model, problems=tuple(spec.errors))
        return _diff(visit, state)
    return _render_new_form(visit, values, model=model)


def _normalize_newlines(text: str) -> str:
    return text.replace("\r\n", "\n")


def _read_model_choice(values: Mapping[str, str]) -> ModelChoice:
    posted = {part: values.get(f"model-{part}") for part in ("name", "pool", "context", "requests")}
    return ModelChoice(**{part: text[:80] for part, text in posted.items() if text is not None})


def _fill_fields(document: Mapping[str, Any], model: ModelChoice, proposed: ModelSpec) -> dict[str, Any]:
    """Return a document with the fields of a served model in place of all others but its name, project and replica bounds."""
    bounds = get_at(document, "spec", "autoscaling", default={})
    kept = {name: bounds[name] for name in ("minReplicas", "maxReplicas") if name in bounds}
    project = {"project": document["spec"]["project"]} if "project" in document["spec"] else {}
    spec = {**project, **proposed.fields, "autoscaling": {**proposed.fields["autoscaling"], **kept}}
    served = model_catalog.find_model(model.name)
    name = document["metadata"]["name"] or (name_workload(served) if served else "")
    return {**document, "metadata": {**document["metadata"], "name": name}, "spec": spec}


def _render_new_form(
    visit: PageVisit,
    values: Mapping[str, str],
    status: int = 200,
    *,
    model: ModelChoice | None = None,
    problems: tuple[Problem, ...] = (),
) -> Response:
    placed, unplaced = place_problems(problems)
    model, profile, document = model or ModelChoice(), visit.backend.profile, make_document(values)
    proposed = model.propose(profile, document)
    fit = ""
    if proposed and proposed.fields:
        text = specs.write_native(_fill_fields(document, model, proposed))
        fit = describe_fit(visit, specs.read_spec(text, profile))
    return visit.render(
        "page_new.html",
        status,
        page="new",
        fields=list_fields(),
        values=values,
        placed=placed,
        unplaced=unplaced,
        projects=_list_projects(visit),
        examples=specs.load_examples().values(),
        model=model,
        models=_list_models(model, profile, document),
        pools=_list_pools(profile),
        proposed=proposed,
        fit=fit,
    )


def _list_models(model: ModelChoice, profile: Profile, document: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Return the name and the label of each model of the catalog, and whether it fits on a node pool."""
    rows = []
    for row in model_catalog.MODELS.values():
        context = str(min(row.context, model_catalog.CONTEXT))
        proposed = ModelChoice(row.name, context=context).propose(profile, document)
        fits = bool(proposed and proposed.fields) or row.name == model.name
        label = f"{row.name} ({format_bytes(row.weights)}, {row.precision}){'' if fits else ': does not fit'}"
        rows.append((row.name, label, fits))
    return rows


def _list_pools(profile: Profile) -> dict[str, str]:
    """Return the label of each node pool with GPUs, by its name."""
    pools = {pool.name: pool for pool in profile.spec.node_pools if pool.product or pool.gpu_memory_mebibytes}
    return {name: f"{name} ({pool.product or 'GPUs'})" for name, pool in pools.items()}


def _list_projects(visit: PageVisit) -> dict[str, tuple[str, str]]:
    """Return the visible projects by name: a label with what is left of the GPU quota, which is short, and a sentence."""
    try:
        rows = visit.backend.reads.projects(visit.user).value
    except ClusterError:
        return {name: (name, "") for name in visit.backend.profile.spec.projects.known}
    choices = {}
    for row in rows:
        uses = [use for use in list_quota_uses(row) if "GPU" in use.label and use.limit]
        left = ", ".join(f"{use.free} {use.label.removesuffix('s') if use.free == '1' else use.label}" for use in uses)
        quota = ", ".join(f"{use.free} of {use.hard} {use.label}" for use in uses)
        label = f"{row.name} ({left} left)" if left else row.name
        choices[row.name] = label, f"Quota left: {quota}." if quota else ""
    return choices


# The editor.


@dataclass(frozen=True, slots=True)
class EditorState:
    """The state of the editor: the YAML, the edited workload (None for a new one), and the preview tab."""

    text: str
    of: tuple[str, str] | None = None
    tab: str = "yaml"


def show_editor(visit: PageVisit) -> Response:
    """Show the editor with a live workload's spec."""
    text = specs.write_live_spec(visit.read_workload().top, visit.backend.profile)
    if visit.query("canary"):
        text = canary.write_first_canary(visit, *visit.place, text)
    return _render_editor(visit, EditorState(text, visit.place))


def serve_fields(visit: PageVisit) -> Response:
    """Return the fields of a spec for completion in the YAML editor; the address contains their hash."""
    del visit
    return JSONResponse(list_completions(), headers={"Cache-Control": CACHE_FOREVER})


@cache
def hash_fields() -> str:
    """Return a hash of the fields, so that browsers may cache them indefinitely."""
    return hashlib.sha256(json.dumps(list_completions()).encode()).hexdigest()[:12]


def check_text(visit: PageVisit) -> Response:
    """Show the problems of the text after the action of the button."""
    return _render_editor(visit, _read_state(visit))


def _read_state(visit: PageVisit) -> EditorState:
    """Return the state of a submitted editor after the action of its button."""
    fields, profile = visit.form, visit.backend.profile
    text = _normalize_newlines(fields.get("yaml", ""))
    if fields.get("do") == "convert" and (spec := specs.read_spec(text, profile)).convertible:
        text = specs.write_native(spec.data)
    if fields.get("fix"):
        text = specs.apply_fix(specs.read_spec(text, profile), profile, fields["fix"])
    namespace, _, name = fields.get("of", "").partition("/")
    tab = fields.get("tab", "")
    of, tab = (namespace, name) if name else None, tab if tab in TABS else "yaml"
    if of:
        text = canary.name_stable_revision(visit, *of, text)
    return EditorState(text, of, tab)


def _render_editor(visit: PageVisit, state: EditorState, status: int = 200, message: str = "") -> Response:
    spec = specs.read_spec(state.text, visit.backend.profile)
    return visit.render_page(
        "editor",
        status,
        page="" if state.of else "new",
        state=state,
        spec=spec,
        fields_hash=hash_fields(),
        fit=describe_fit(visit, spec),
        fixes=specs.find_fixes(spec, visit.backend.profile),
        marks=_mark_lines(spec),
        tabs=TABS,
        panel=_render_panel(visit, spec, state.tab),
        message=message,
    )


def describe_fit(visit: PageVisit, spec: specs.ParsedSpec) -> str:
    """Return how many replicas of a spec fit on the free GPUs of the nodes; empty if it has none, or that is not visible."""
    needs = _sum_gpu_requests(spec)
    if not needs:
        return ""
    try:
        nodes = list_nodes(visit.backend, visit.user).value
    except ClusterError:
        return ""
    texts = []
    for resource, amount in needs.items():
        free = []
        total = 0.0
        for node in nodes:
            whole = parse_amount(node.allocatable.get(resource, "0"))
            total += whole
            if node.ready and node.schedulable:
                free.append(whole - sum(share.amount for share in node.holders if share.resource == resource))
        if not total:
            return f"No node has {label_gpus(resource)}."
        room = sum(int(left // amount) for left in free if left >= amount)
        left = words.format_decimal(sum(max(0.0, left) for left in free))
        texts.append(
            f"{left} of {words.format_decimal(total)} {label_gpus(resource)} are free now: room for {count_noun(room, 'replica')}"
        )
    return f"{'; '.join(texts)}."


def _sum_gpu_requests(spec: specs.ParsedSpec) -> dict[str, float]:
    for obj in spec.objects:
        template = get_at(obj, "spec", "template") or {
            "metadata": {"annotations": get_at(obj, "spec", "predictor", "annotations", default={})},
            "spec": get_at(obj, "spec", "predictor", default={}),
        }
        containers = get_at(template, "spec", "containers") or [get_at(template, "spec", "model", default={})]
        if any(get_at(row, "resources") for row in containers):
            pod_spec = {**template["spec"], "containers": containers}
            return count_held_gpus({"metadata": template.get("metadata", {}), "spec": pod_spec})
    return {}


def _mark_lines(spec: specs.ParsedSpec) -> list[tuple[int, str, str]]:
    """Return each line number with its most severe problem: severity and message."""
    worst: dict[int, tuple[str, str]] = {}
    for problem in sorted(spec.problems, key=lambda problem: problem.severity == "error"):
        if problem.line:
            worst[problem.line] = (problem.severity, problem.message)
    count = spec.text.count("\n") + 1
    return [(number, *worst.get(number, ("", ""))) for number in range(1, count + 1)]


def _render_panel(visit: PageVisit, spec: specs.ParsedSpec, tab: str) -> Any:
    """Return the content of a preview tab; None if the spec has errors."""
    if spec.errors or not spec.objects:
        return None
    if tab == "manifests":
        return [(f"{obj['kind']} {obj['metadata']['name']}", manifests.write_document(obj)) for obj in spec.objects]
    if tab == "explanation":
        with suppress(InputError):
            return visit.backend.specs.explain(spec.text)
    return None


# The diff and the submit.


def show_diff(visit: PageVisit) -> Response:
    """Show the changes that an apply would make."""
    return _diff(visit, _read_state(visit))


def _diff(visit: PageVisit, state: EditorState) -> Response:
    diffs = visit.backend.writes.diff(visit.user, visit.backend.specs.documents(state.text))
    if any(problem.severity == "error" for problem in diffs.problems):
        message = _join_errors("Fix the highlighted errors before you review the changes.", diffs.problems)
        return _render_editor(visit, state, 422, message)
    return _render_diff(visit, state, diffs)


def _join_errors(message: str, problems: Iterable[Problem]) -> str:
    """Return a message with the errors that the editor does not highlight, because only an apply needs a namespace."""
    unknown = [f"{row.message}: {row.fix}." for row in problems if row.code == UNKNOWN_NAMESPACE]
    return " ".join([message, *unknown[:1]])


def _render_diff(visit: PageVisit, state: EditorState, diffs: Diffs, status: int = 200, message: str = "") -> Response:
    steps = [step for workload_diff in diffs.planned for step in workload_diff.steps]
    moved = state.of is not None and state.of not in {
        (workload_diff.workload.namespace, workload_diff.workload.name) for workload_diff in diffs.planned
    }
    return visit.render(
        "page_diff.html",
        status,
        page="" if state.of else "new",
        state=state,
        planned=diffs.planned,
        warnings=[problem for problem in diffs.problems if problem.severity != "error"],
        count=sum(step.verdict not in {"keep", "refused"} for step in steps),
        refused=any(step.verdict == "refused" for step in steps),
        owned=any(step.owners for step in steps),
        fit=describe_fit(visit, specs.read_spec(state.text, visit.backend.profile)),
        prices=[_describe_price(visit, workload_diff) for workload_diff in diffs.planned],
        moved=moved,
        message=message,
    )


def _describe_price(visit: PageVisit, planned: ApplyDiff) -> str:
    """Return the price of a workload's GPUs per hour at its minimum and maximum; empty without a price or GPUs."""
    plan, profile = planned.workload.plan, visit.backend.profile
    share, price = gpu.count_gpus_per_replica(plan), find_price(plan, profile, visit.backend.gpu_hour)
    if price is None or not share:
        return ""
    low, high = (
        f"{format_money(count * share * price, profile.spec.prices.currency or '')} per hour at {count_noun(int(count), 'replica')}"
        for count in (plan.scaling.minimum, plan.scaling.maximum)
    )
    return f"GPU cost: {low}, {high}"


def submit_text(visit: PageVisit) -> Response:
    """Apply the spec and redirect to the workload's page, which shows the rollout."""
    state = _read_state(visit)
    try:
        documents = visit.backend.specs.documents(state.text)
        submitted = visit.backend.writes.submit(visit.user, documents, force=visit.form.get("force") == "on")
    except InputError as error:
        message = _join_errors("Fix the highlighted errors first. Nothing was applied.", error.problems)
        return _render_editor(visit, state, 422, message)
    except (ConflictError, RefusedError) as error:
        return _render_diff(
            visit,
            state,
            visit.backend.writes.diff(visit.user, visit.backend.specs.documents(state.text)),
            422,
            str(error),
        )
    if not submitted.planned:
        return _render_editor(visit, state, 422, "The text contains no spec. Nothing was applied.")
    first = submitted.planned[0].workload
    return visit.redirect(f"{workload_path(first.namespace, first.name)}?told=applied")
