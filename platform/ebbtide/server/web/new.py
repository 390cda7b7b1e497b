"""Creating and editing an inference workload: the form with its YAML, the plan, and the submit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from ebbtide.cluster.client.protocol import ClusterError, ConflictError, RefusedError
from ebbtide.cluster.read.amounts import parse_amount
from ebbtide.cluster.read.pods import count_held_gpus
from ebbtide.cluster.write.apply import ApplyPlan
from ebbtide.core import manifests
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem
from ebbtide.core.base.prose import count_noun
from ebbtide.core.documents.model_specs import ModelSpec, make_model_spec
from ebbtide.core.manifests.edit import NotEdited, edit_text
from ebbtide.core.profile.projects import UNKNOWN_NAMESPACE
from ebbtide.core.readers.fields import field_names_at
from ebbtide.core.translation import gpu, model_catalog
from ebbtide.server.api.answers import Plans
from ebbtide.server.api.gpus import list_nodes
from ebbtide.server.api.offline import InputError
from ebbtide.server.web import canary, form, words
from ebbtide.server.web.assets import CACHE_FOREVER
from ebbtide.server.web.errors import PageError
from ebbtide.server.web.fields import ALL_STEPS, LISTS, STEPS, list_completions
from ebbtide.server.web.frame import PageVisit
from ebbtide.server.web.remedies import apply_fix, find_fixes
from ebbtide.server.web.shared import label_gpus, list_quota_uses, workload_path

EXAMPLES: Final = Path(__file__).parent / "examples"
TABS: Final = {"yaml": "YAML", "manifests": "Manifests", "explanation": "Explanation"}
#: The maximum length of an item's path in a remove button.
MAX_PATH_CHARACTERS: Final = 200
#: The maximum length of a number in the choice of a model.
MAX_DIGITS: Final = 7


@dataclass(frozen=True, slots=True)
class ExampleSpec:
    """An example spec; its first line is a comment with its title."""

    key: str
    title: str
    text: str


@cache
def load_examples() -> dict[str, ExampleSpec]:
    """Return the example specs, the simplest first."""
    specs = {}
    for key in ("hello", "chat", "model", "promise", "batch"):
        text = (EXAMPLES / f"{key}.yaml").read_text(encoding="utf-8")
        specs[key] = ExampleSpec(key, text.partition("\n")[0].removeprefix("# "), text)
    return specs


# The form.


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model of the catalog with a GPU model, the longest request in tokens, and the requests in flight, as text."""

    name: str = ""
    gpu: str = ""
    context: str = str(model_catalog.CONTEXT)
    requests: str = str(model_catalog.REQUESTS)

    def propose(self, *, to_zero: bool) -> ModelSpec | None:
        """Return the fields for the model; none, with the reason, if it does not fit; None if no model is selected."""
        model, gpu = model_catalog.find_model(self.name), model_catalog.find_gpu(self.gpu)
        if model is None or gpu is None:
            return None
        context, requests = (
            int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0 for text in (self.context, self.requests)
        )
        if not 0 < context <= model.context:
            return ModelSpec("", f"the context must be a whole number from 1 to {model.context:,} tokens", {})
        if requests < 1:
            return ModelSpec("", "the requests must be a whole number of at least 1", {})
        return make_model_spec(model, gpu, context, requests, to_zero=to_zero)


@dataclass(frozen=True, slots=True)
class FormState:
    """The state of the form page: the YAML, the last readable YAML, and the edited workload."""

    text: str
    good: str
    of: tuple[str, str] | None = None
    tab: str = "yaml"
    step: str = STEPS[0][0]
    #: Fields that could not be changed in the YAML.
    refused: tuple[str, ...] = ()
    model: ModelChoice = field(default_factory=ModelChoice)


def show_new_form(visit: PageVisit) -> Response:
    """Show the form, filled from an example."""
    key = visit.query("example")
    chosen = load_examples().get(key)
    if key and chosen is None:
        raise PageError(404, "Example not found", f"Available examples: {', '.join(load_examples())}.")
    text = chosen.text if chosen else load_examples()["hello"].text
    project = visit.query("project")
    if project:
        text = edit_text(text, {("spec", "project"): project}, field_names_at)
    return _render_form_page(visit, FormState(text, text, step=_chosen_step(visit.query("step"))))


def show_edit_form(visit: PageVisit) -> Response:
    """Show the form with a live workload's spec."""
    text = form.write_live_spec(visit.read_workload().top, visit.backend.profile)
    return _render_form_page(visit, FormState(text, text, visit.place, step=_chosen_step(visit.query("step"))))


def _chosen_step(text: str) -> str:
    return text if text in {ALL_STEPS, *(key for key, *_ in STEPS)} else STEPS[0][0]


def serve_fields(visit: PageVisit) -> Response:
    """Return the fields of a spec for completion in the YAML editor; the address contains their hash."""
    del visit
    return JSONResponse(list_completions(), headers={"Cache-Control": CACHE_FOREVER})


@cache
def hash_fields() -> str:
    """Return a hash of the fields, so that browsers may cache them indefinitely."""
    return hashlib.sha256(json.dumps(list_completions()).encode()).hexdigest()[:12]


def check_form(visit: PageVisit) -> Response:
    """Synchronize form and YAML, and show the problems."""
    return _render_form_page(visit, _read_form_state(visit))


def _normalize_newlines(text: str) -> str:
    return text.replace("\r\n", "\n")


def _read_form_state(visit: PageVisit) -> FormState:
    """Return the state of a submitted form after the action of its button."""
    fields = visit.form
    base, text = _normalize_newlines(fields.get("base", "")), _normalize_newlines(fields.get("yaml", ""))
    profile = visit.backend.profile
    spec = form.read_spec(text, profile)
    refused: tuple[str, ...] = ()
    if not spec.read_only_reason:
        merge = form.merge_form(base, text, fields)
        text, refused = merge.text, merge.refused
    elif spec.convertible and fields.get("do") == "convert":
        text = manifests.write_document(form.order_fields(spec.data))
    if 0 < len(fields.get("remove", "")) < MAX_PATH_CHARACTERS:
        path = tuple(int(part) if part.isdecimal() else part for part in fields["remove"].split("."))
        try:
            text = edit_text(text, {path: None}, field_names_at)
        except NotEdited:
            refused = (*refused, fields["remove"])
    if fields.get("fix"):
        text = apply_fix(form.read_spec(text, profile), profile, fields["fix"])
    # With JavaScript, selecting an example loads it immediately, and the response clears the selection.
    if fields.get("example") in load_examples() and (visit.is_partial or fields.get("do") == "example"):
        text = load_examples()[fields["example"]].text
    posted = {part: fields.get(f"model-{part}") for part in ("name", "gpu", "context", "requests")}
    model = ModelChoice(**{part: text[:80] for part, text in posted.items() if text is not None})
    if fields.get("do") == "model" and (proposed := model.propose(to_zero=_scales_to_zero(text))) and proposed.fields:
        text = form.fill_fields(text, proposed.fields)
    namespace, _, name = fields.get("of", "").partition("/")
    tab = fields.get("tab", "")
    of, tab = (namespace, name) if name else None, tab if tab in TABS else "yaml"
    if of:
        text = canary.name_stable_revision(visit, *of, text)
    return FormState(text, base, of, tab, _chosen_step(fields.get("step", "")), refused, model)


def _scales_to_zero(text: str) -> bool:
    return bool(get_at(form.parse_document(text), "spec", "autoscaling", "minReplicas") == 0)


def _list_gpu_models(visit: PageVisit) -> dict[str, list[str]]:
    """Return the GPU models of the catalog, those of the cluster's nodes first."""
    try:
        products = {node.product for node in list_nodes(visit.backend, visit.user).value}
    except ClusterError:
        products = set()
    present = {found[0] for product in products if product and (found := model_catalog.find_gpu(product))}
    every = [name for name, _, _ in model_catalog.GPUS]
    groups = {
        "In this cluster": [name for name in every if name in present],
        "Others": [name for name in every if name not in present],
    }
    return {title: names for title, names in groups.items() if names}


def _render_form_page(visit: PageVisit, state: FormState, status: int = 200, **context: Any) -> Response:
    spec = form.read_spec(state.text, visit.backend.profile)
    visible_spec = spec if spec.readable else form.read_spec(state.good, visit.backend.profile)
    groups, unplaced = form.render_form(visible_spec.data, spec.problems)
    fixes = find_fixes(spec, visit.backend.profile)
    return visit.render_page(
        "form",
        status,
        page="" if state.of else "new",
        state=state,
        spec=spec,
        base=state.text if spec.readable else state.good,
        groups=groups,
        steps=form.list_steps(groups),
        all_steps=ALL_STEPS,
        first_error=form.find_first_error(groups),
        fields_hash=hash_fields(),
        fit=describe_fit(visit, spec),
        projects=_list_projects(visit),
        unplaced=unplaced,
        lists=LISTS,
        fixes={_problem_key(spec.problems[number]): offered for number, offered in fixes.items()},
        key=_problem_key,
        choices={"pools": [pool.name for pool in visit.backend.profile.spec.node_pools]},
        marks=_mark_lines(spec),
        examples=load_examples().values(),
        models=model_catalog.MODELS.values(),
        format_bytes=model_catalog.format_bytes,
        gpu_models={} if state.of else _list_gpu_models(visit),
        proposed=state.model.propose(to_zero=_scales_to_zero(state.text)),
        tabs=TABS,
        panel=_render_panel(visit, spec, state.tab),
        **context,
    )


def describe_fit(visit: PageVisit, spec: form.ParsedSpec) -> str:
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


def _sum_gpu_requests(spec: form.ParsedSpec) -> dict[str, float]:
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


def _problem_key(problem: Any) -> tuple[str, str, int]:
    return (problem.code, problem.path, problem.line)


def _mark_lines(spec: form.ParsedSpec) -> list[tuple[int, str, str]]:
    """Return each line number with its most severe problem: severity and message."""
    worst: dict[int, tuple[str, str]] = {}
    for problem in sorted(spec.problems, key=lambda problem: problem.severity == "error"):
        if problem.line:
            worst[problem.line] = (problem.severity, problem.message)
    count = spec.text.count("\n") + 1
    return [(number, *worst.get(number, ("", ""))) for number in range(1, count + 1)]


def _render_panel(visit: PageVisit, spec: form.ParsedSpec, tab: str) -> Any:
    """Return the content of a preview tab; None if the spec has errors."""
    if spec.errors or not spec.objects:
        return None
    if tab == "manifests":
        return [(f"{obj['kind']} {obj['metadata']['name']}", manifests.write_document(obj)) for obj in spec.objects]
    if tab == "explanation":
        with suppress(InputError):
            return visit.backend.specs.explain(spec.text)
    return None


# The plan and the submit.


def show_plan(visit: PageVisit) -> Response:
    """Show the changes that an apply would make."""
    state = _read_form_state(visit)
    plans = visit.backend.writes.plan(visit.user, visit.backend.specs.documents(state.text))
    if any(problem.severity == "error" for problem in plans.problems):
        message = _join_errors("Fix the highlighted errors before you review the plan.", plans.problems)
        return _render_form_page(visit, state, 422, message=message)
    return _render_plan(visit, state, plans)


def _join_errors(message: str, problems: Iterable[Problem]) -> str:
    """Return a message with the errors that the form does not highlight, because only an apply needs a namespace."""
    unknown = [f"{row.message}: {row.fix}." for row in problems if row.code == UNKNOWN_NAMESPACE]
    return " ".join([message, *unknown[:1]])


def _render_plan(visit: PageVisit, state: FormState, plans: Plans, status: int = 200, message: str = "") -> Response:
    steps = [step for workload_plan in plans.planned for step in workload_plan.steps]
    moved = state.of is not None and state.of not in {
        (workload_plan.workload.namespace, workload_plan.workload.name) for workload_plan in plans.planned
    }
    return visit.render(
        "page_plan.html",
        status,
        page="" if state.of else "new",
        state=state,
        planned=plans.planned,
        warnings=[problem for problem in plans.problems if problem.severity != "error"],
        count=sum(step.verdict not in {"keep", "refused"} for step in steps),
        refused=any(step.verdict == "refused" for step in steps),
        owned=any(step.owners for step in steps),
        fit=describe_fit(visit, form.read_spec(state.text, visit.backend.profile)),
        prices=[_describe_price(visit, workload_plan) for workload_plan in plans.planned],
        moved=moved,
        message=message,
    )


def _describe_price(visit: PageVisit, planned: ApplyPlan) -> str:
    """Return the price of a workload's GPUs per hour at its minimum and maximum; empty without a price or GPUs."""
    share = gpu.count_gpus_per_replica(planned.workload.plan)
    if visit.backend.gpu_hour is None or not share:
        return ""
    low, high = (
        f"{count * share * visit.backend.gpu_hour:.2f} per hour at {count_noun(int(count), 'replica')}"
        for count in (planned.workload.plan.scaling.minimum, planned.workload.plan.scaling.maximum)
    )
    return f"GPU cost: {low}, {high}"


def submit_form(visit: PageVisit) -> Response:
    """Apply the spec and redirect to the workload's page, which shows the rollout."""
    state = _read_form_state(visit)
    try:
        documents = visit.backend.specs.documents(state.text)
        submitted = visit.backend.writes.submit(visit.user, documents, force=visit.form.get("force") == "on")
    except InputError as error:
        message = _join_errors("Fix the highlighted errors first. Nothing was applied.", error.problems)
        return _render_form_page(visit, state, 422, message=message)
    except (ConflictError, RefusedError) as error:
        return _render_plan(
            visit,
            state,
            visit.backend.writes.plan(visit.user, visit.backend.specs.documents(state.text)),
            422,
            str(error),
        )
    first = submitted.planned[0].workload
    return visit.redirect(f"{workload_path(first.namespace, first.name)}?told=applied")
