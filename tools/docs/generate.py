"""Write docs/reference from the code: fields, metrics, GPU backends, priorities, commands.

Everything here is read from the tables and models that the translation itself uses, so the pages cannot say
something else. ``--check`` writes nothing and fails where a page is not what would be written now.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import warnings
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ebbtide import __version__
from ebbtide.base import metrics
from ebbtide.cli import COMMANDS, parser
from ebbtide.documents import profiles
from ebbtide.profile.models import Profile, Scheduling
from ebbtide.readers.fields import json_schema, models_in, texts
from ebbtide.spec.inference import Inference
from ebbtide.translation import gpu, plan, priority
from ebbtide.translation.gpu import mig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pydantic import BaseModel

ROOT: Final = Path(__file__).parent.parent.parent
TARGET: Final = ROOT / "docs" / "reference"
NOTE: Final = "<!-- Written by tools/docs/generate.py. Change the code, then: make generate -->\n\n"
#: Our additions to Run:ai's schema, with all that is inside them.
OURS: Final = (
    "metadata",
    "spec.project",
    "spec.serving",
    "spec.model",
    "spec.slo",
    "spec.traffic",
    "spec.podAntiAffinity",
    "spec.patches",
    "spec.probes.liveness",
    "spec.probes.startup",
    "spec.probes.readiness.handler.tcpSocket",
    "spec.probes.readiness.handler.grpc",
)
#: The version of Run:ai whose REST schema has the field first, or for how long it had it.
VERSIONS: Final = {
    "spec.autoscaling.initialReplicas": "2.20",
    "spec.autoscaling.activationReplicas": "2.20",
    "spec.autoscaling.metricName": "classic workloads only",
    "spec.autoscaling.metricThresholdPercentage": "2.20",
    "spec.autoscaling.concurrencyHardLimit": "2.20",
    "spec.autoscaling.scaleDownDelaySeconds": "2.20",
    "spec.autoscaling.initializationTimeoutSeconds": "deprecated in 2.22",
    "spec.servingConfiguration": "2.22",
    "spec.servingPort.authorizationType": "2.19",
    "spec.priorityClass": "2.22",
    "spec.preemptibility": "2.24",
    "spec.compute.migProfile": "up to 2.23",
}
TYPES: Final = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
#: The one page of docs/reference that is written by hand.
BY_HAND: Final = "problems.md"


def cell(text: str) -> str:
    """Return a text that is safe in a table's cell."""
    parts = text.replace("``", "`").replace("|", "\\|").split("`")
    for place in range(0, len(parts), 2):
        parts[place] = parts[place].replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
    return "`".join(parts)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines) + "\n"


def words(*lines: str) -> str:
    """Return a text that is written in several lines."""
    return " ".join(lines)


def prose(*lines: str) -> str:
    """Return a paragraph."""
    return words(*lines) + "\n\n"


# Fields.


def fields_page(title: str, lead: str, root: type[BaseModel], *, spec: bool) -> str:
    """Return the page of one kind of document: a table for each block of fields."""
    schema = described(root)
    out = [NOTE, f"# {title}\n\n", lead, "\n\n"]
    for path, model in blocks(root):
        own = schema if model is root else schema["$defs"][model.__name__]
        out.append(f"## {path or root.__name__}\n\n{cell((model.__doc__ or '').strip())}\n\n")
        head = ("Field", "Type", "Default", *(("Run:ai",) if spec else ()), "Meaning")
        out.append(table(head, rows_of(path, model, own, schema["$defs"], spec=spec)))
    return "".join(out)


def described(root: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a document."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return json_schema(root)


def blocks(root: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each model with the first path it stands at, outermost first."""
    seen: set[type[BaseModel]] = set()
    todo: list[tuple[str, type[BaseModel]]] = [("", root)]
    while todo:
        path, model = todo.pop(0)
        if model in seen:
            continue
        seen.add(model)
        yield path, model
        inner = []
        for info in model.model_fields.values():
            for part in models_in(info.annotation):
                text = str(info.annotation)
                mark = "[]" if "list[" in text else ".NAME" if "dict[" in text else ""
                inner.append((f"{path}.{info.alias}{mark}".lstrip("."), part))
        todo = inner + todo


def rows_of(
    path: str, model: type[BaseModel], own: dict[str, Any], known: dict[str, Any], *, spec: bool
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each field of a model."""
    said = texts(model)
    for name, info in model.model_fields.items():
        entry = own["properties"][info.alias or name]
        here = f"{path}.{info.alias}".lstrip(".")
        default = "required" if info.is_required() else shown(info.default)
        origin = (since(here),) if spec else ()
        yield (f"`{info.alias}`", type_of(entry, known), default, *origin, cell(said.get(name, "")))


def since(path: str) -> str:
    """Say where a field of the spec comes from: ours, a version of Run:ai, or Run:ai's from the start."""
    plain = path.replace("[]", "")
    inside = f"{plain}."
    if any(inside.startswith(f"{field}.") for field in OURS):
        return "ours"
    version = next((text for field, text in VERSIONS.items() if inside.startswith(f"{field}.")), "yes")
    return version if "." in plain else ""


def shown(value: Any) -> str:
    """Return a default for a person; nothing where the text says it."""
    if value in (None, (), [], {}) or hasattr(value, "model_fields_set"):
        return ""
    return f"`{json.dumps(value, ensure_ascii=False)}`" if not isinstance(value, str) else f"`{value}`"


def type_of(entry: dict[str, Any], known: dict[str, Any]) -> str:
    """Return a field's type and bounds in words."""
    if "anyOf" in entry:
        parts = [type_of(part, known) for part in entry["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(parts))
    if "$ref" in entry:
        name = entry["$ref"].rpartition("/")[2]
        return f"[{name}](#{anchor(name, known)})" if name in known else name
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in entry:
        return " ".join(f"`{value}`" if value != "" else '`""`' for value in entry["enum"])
    return container_of(entry, known)


def container_of(entry: dict[str, Any], known: dict[str, Any]) -> str:
    """Return a list's, mapping's or plain value's type in words."""
    kind = entry.get("type")
    if kind == "array":
        return f"list of {type_of(entry.get('items', {}), known)}"
    if kind == "object":
        inner = entry.get("additionalProperties")
        return f"map to {type_of(inner, known)}" if isinstance(inner, dict) else "mapping"
    return TYPES.get(str(kind), "anything") + bounds(entry)


ANCHORS: dict[str, str] = {}


def anchor(name: str, known: dict[str, Any]) -> str:
    """Return the anchor of a model's heading, as GitHub makes it of the path."""
    del known
    return ANCHORS[name]


def bounds(entry: dict[str, Any]) -> str:
    """Return the bounds of a number or a text."""
    found = []
    low = entry.get("minimum", entry.get("exclusiveMinimum"))
    high = entry.get("maximum")
    if low is not None:
        found.append(f"above {low:g}" if "exclusiveMinimum" in entry else f"from {low:g}")
    if high is not None and high < 2**31 - 1:
        found.append(f"to {high:g}")
    if "maxLength" in entry:
        found.append(f"at most {entry['maxLength']} characters")
    if "pattern" in entry:
        found.append("like `" + entry["pattern"].replace("|", "\\|") + "`")
    return (" " + ", ".join(found)).rstrip()


def named_anchors(root: type[BaseModel]) -> None:
    """Note the anchor of each block, for links between tables."""
    ANCHORS.clear()
    for path, model in blocks(root):
        text = (path or root.__name__).lower()
        ANCHORS[model.__name__] = "".join(letter for letter in text if letter.isalnum() or letter in "-_")


def spec_page() -> str:
    named_anchors(Inference)
    lead = words(
        "Every field of `kind: Inference`. Names are those of Run:ai's REST schema; the",
        "column *Run:ai* says since which of its versions a field is there (*yes*: since the",
        "oldest schema that was read, 2.18), or that it is *ours*. Unknown fields are",
        'refused, and no value is converted: `"2"` is no number. What holds *between* fields',
        "is in [problems](problems.md).",
    )
    return fields_page("The spec", lead, Inference, spec=True)


def profile_page() -> str:
    named_anchors(Profile)
    lead = words(
        "Every field of `kind: Profile`: what one cluster offers. `ebbtide profile show`",
        "prints the one in use with every default. The translation is a function of the spec",
        "and this; it never asks a cluster.",
    )
    return fields_page("The profile", lead, Profile, spec=False)


# Tables of meaning.


def metrics_page() -> str:
    autoscalers = {"kpa": "Knative's KPA", "hpa": "HPA"}
    rows = (
        (
            f"`{row.name}`",
            autoscalers[row.autoscaler],
            cell(row.unit),
            "yes" if row.to_zero else "no",
            f"`{row.knative}`" if row.knative else "from the profile" if row.named else "its own",
            cell(row.how),
        )
        for row in metrics.ROWS.values()
    )
    out = [
        NOTE,
        "# Metrics\n\n",
        prose(
            "What `autoscaling.metric` may be, and who carries it out. Hyphens and underscores",
            "are both read; any other Prometheus-style name is taken as `custom` is, but for one that looks like a slip of",
            "a built-in one and is not in the profile's `metrics.custom`. Without a",
            "metric, 0..1 is the KPA with any request waking the one replica, and equal bounds",
            "are a fixed number.",
        ),
        table(("Metric", "Autoscaler", "Threshold", "To zero", "Name for the autoscaler", "Counted by"), rows),
        prose(
            "In KServe Standard mode there is no queue-proxy: our own HPA or ScaledObject (an HPA",
            "for CPU) scales there, on CPU, GPU and custom metrics, and on the first two and `latency` only where",
            "the profile names a metric that a gateway or the server has",
            "(`metrics.standardConcurrency`, `standardThroughput`, `standardLatency`).",
        ),
        "## A metric of the server's own\n\n",
        prose(
            "A service scales on any gauge of its server by the gauge's own name, once the spec's",
            '`annotations` say where it is: `prometheus.io/scrape` "true", `prometheus.io/port` and,',
            "where it is not /metrics, `prometheus.io/path`. `kustomize/metrics` has the monitor that",
            "reads it and the rule that serves it; a counter `x_total` is served as `x_per_second`.",
            "The request goes to the container itself and is in none of Knative's queues and",
            "counts. A first value is there after a scrape and prometheus-adapter's",
            "`--metrics-relist-interval`; its `--metrics-max-age` must be longer than the 15 s",
            "between scrapes, or the metric comes and goes.",
        ),
        "## Names that mislead\n\n",
        table(
            ("Name", "Say"),
            ((f"`{name}`", f"`{say}`" if say else "refused") for name, say in metrics.misleading().items()),
        ),
        "## The latency histogram\n\n",
        prose(
            "`latency` is the 95th percentile of queue-proxy's response time, so its bounds say",
            "what can be seen: a threshold at or above the last is refused, one between two is",
            "warned of.",
        ),
        table(
            ("Knative from", "Series", "Unit", "Own queue included", "Bounds in ms"),
            (
                (
                    ".".join(map(str, since_version)) if any(since_version) else "the beginning",
                    f"`{row.series}`",
                    "s" if row.milliseconds == 1000 else "ms",  # noqa: PLR2004 - milliseconds of a second
                    "yes" if row.queue_included else "no: refused",
                    ", ".join(f"{bound:g}" for bound in row.bounds),
                )
                for since_version, row in metrics.HISTOGRAMS
            ),
        ),
        "## PromQL for KEDA\n\n",
        "Where the profile's `metrics.queries` says no other:\n\n",
        *(f"- `{row.name}`: `{row.query}`\n" for row in metrics.ROWS.values() if row.query),
        *(f"- `{row.name}` on MIG: `{row.partition_query}`\n" for row in metrics.ROWS.values() if row.partition_query),
    ]
    return "".join(out)


def gpu_page() -> str:
    profile = profiles.built_in()
    pool = profile.spec.node_pools[0]
    quarter = plan.GpuRequest("portion", 1, portion=0.25, portion_limit=0.25)
    everywhere = {
        row.backend.name: row
        for row in gpu.everywhere(quarter, pool, profile.spec, "kserve-standard", "chat", "kserve-container")
    }
    out = [
        NOTE,
        "# GPU backends\n\n",
        prose(
            "One request, as the spec has it, on each way of sharing GPUs.",
            "A node pool of the profile has one backend.",
        ),
        table(
            ("Backend", "Rounding", "Memory", "Compute", "Isolates memory"),
            (
                (
                    f"`{row.name}`",
                    cell(row.rounding),
                    cell(row.memory),
                    cell(row.compute),
                    "yes" if row.isolates_memory else "no",
                )
                for _, row in sorted(gpu.BACKENDS.items())
            ),
        ),
        prose(
            f"In each section the last lines show a quarter of an {pool.product} under KServe",
            "Standard; `ebbtide explain --backends` shows the same for a spec of yours.",
        ),
    ]
    for _, row in sorted(gpu.BACKENDS.items()):
        module = inspect.cleandoc(row.about or "")
        upstream = module.partition("Upstream:")[2].strip()
        out.append(f"## {row.title}\n\n{cell(module.partition('.')[0])}.\n\n")
        if upstream:
            out.append(f"Upstream: {cell(' '.join(upstream.split()))}\n\n")
        here = everywhere[row.name]
        out += [f"- `{key}: {value}`\n" for key, value in here.written.items()]
        if here.possible:
            out.append(f"- {here.fits} on one device\n")
        out += [
            words(
                f"- {'refused' if problem.severity == 'error' else 'warning'}",
                f"[{problem.code}](problems.md#{problem.code.lower()}): {cell(problem.message)}\n",
            )
            for problem in here.problems
        ]
        out.append("\n")
    names = ("1g", "1g, more memory", "2g", "3g", "4g", "7g")
    out += [
        "## MIG profiles\n\n",
        prose(
            "By the label `nvidia.com/gpu.product`, with how many fit on one GPU. A portion",
            "becomes the smallest profile with enough memory; of equals, the one that fits most",
            "often.",
        ),
        table(
            ("Product matches", "GB", *names),
            (
                (f"`{pattern.replace('|', chr(92) + '|')}`", str(memory), *mig_cells(rows, len(names)))
                for pattern, memory, rows in mig.PRODUCTS
            ),
        ),
    ]
    return "".join(out)


def mig_cells(rows: tuple[mig.Profile, ...], wanted: int) -> list[str]:
    """Return a GPU's profiles in the columns of the table."""
    places = {(1, 0): 0, (1, 1): 1, (2, 0): 2, (3, 0): 3, (4, 0): 4, (7, 0): 5}
    cells = [""] * wanted
    for slices, group in groupby(rows, key=lambda row: row.slices):
        for place, row in enumerate(group):
            cells[places[slices, place]] = f"{row.name}, {row.instances}"
    return cells


def priorities_page() -> str:
    classes = Scheduling().classes
    out = [
        NOTE,
        "# Priorities\n\n",
        prose(
            f"For Run:ai and KAI a class of {priority.NON_PREEMPTIBLE} or more is never preempted",
            f"and never goes over its quota. A spec that says nothing gets `{priority.DEFAULT}`.",
        ),
        "## The four classes\n\n",
        table(
            ("Class", "Value", "May be preempted"),
            (
                (f"`{name}`", str(classes[name]), "yes" if classes[name] < priority.NON_PREEMPTIBLE else "no")
                for name in priority.FOUR
            ),
        ),
        prose(
            "The profile says whose they are (`scheduling.classesOwner`): Ebbtide renders only",
            "its own, since a class's value can never be changed.",
        ),
        "## Run:ai's levels\n\n",
        prose(
            "Run:ai's documents give the order of the seven levels and not their values; the values",
            "are Ebbtide's, on both sides of the line so that preemptibility stands in the class itself.",
        ),
        f"With `preemptibility: preemptible` alone the level is `{priority.USUAL_LEVEL}`.\n\n",
        table(
            ("Level", "preemptible", "", "non-preemptible", ""),
            (
                (
                    f"`{name}`",
                    f"`{priority.level(name, preemptible=True).name}`",
                    str(low),
                    f"`{priority.level(name, preemptible=False).name}`",
                    str(high),
                )
                for name, (low, high) in priority.LEVELS.items()
            ),
        ),
    ]
    return "".join(out)


# Commands.


def cli_page() -> str:
    root = parser()
    out = [
        NOTE,
        "# Commands\n\n",
        f"ebbtide {__version__}. {cell(root.description or '')}\n\n",
        prose(
            "Exit codes: 0 success, 1 invalid input, 2 usage error, 3 cluster error, 4 differences found.",
            "Output goes to stdout. `render`, `convert` and `submit` report problems on stderr, and print",
            "nothing on stdout if there is an error.",
        ),
        prose(
            "`ebbtide-krm` provides the same translation as a KRM function, which reads a ResourceList from",
            "stdin and writes one to stdout. See [kustomize](../kustomize.md).",
        ),
    ]
    action = next(item for item in root._actions if isinstance(item, argparse._SubParsersAction))  # noqa: SLF001 - argparse shows it nowhere else
    for name, _, text in COMMANDS:
        command = action.choices[name]
        out.append(f"## ebbtide {name}\n\n{cell(text)}.\n\n")
        rows = [option_row(item) for item in command._actions if not isinstance(item, argparse._HelpAction)]  # noqa: SLF001 - as above
        out.append(table(("Argument", "Meaning"), rows))
    return "".join(out)


def option_row(action: argparse.Action) -> tuple[str, str]:
    """Return an option as one row, the same for every version of argparse."""
    value = str(action.metavar or action.dest.upper())
    if action.nargs == 0:
        value = ""
    elif action.choices:
        value = "\\|".join(map(str, action.choices))
    names = ", ".join(action.option_strings)
    many = {"+": " …", "?": " (optional)"}.get(str(action.nargs), "")
    return f"`{' '.join(part for part in (names, value) if part)}`{many}", cell((action.help or "").replace("%%", "%"))


def schema_text(root: type[BaseModel]) -> Callable[[], str]:
    """Return what ``ebbtide schema`` prints."""
    return lambda: json.dumps(described(root), indent=2, ensure_ascii=False) + "\n"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "cli.md": cli_page,
    "gpu.md": gpu_page,
    "metrics.md": metrics_page,
    "priorities.md": priorities_page,
    "profile.md": profile_page,
    "profile.schema.json": schema_text(Profile),
    "spec.md": spec_page,
    "spec.schema.json": schema_text(Inference),
}


def main(argv: list[str]) -> int:
    """Write the pages, or check them."""
    options = argparse.ArgumentParser(description="write docs/reference")
    options.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    check = options.parse_args(argv).check
    stale = []
    for name, make in PAGES.items():
        file, text = TARGET / name, make().rstrip("\n") + "\n"
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            TARGET.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    unknown = sorted(file.name for file in TARGET.glob("*") if file.name not in {*PAGES, BY_HAND})
    for name in stale:
        sys.stdout.write(f"docs/reference/{name} {'is stale: make generate' if check else 'written'}\n")
    for name in unknown:
        sys.stdout.write(f"docs/reference/{name} is made by nothing here: remove it\n")
    return 1 if unknown or (check and stale) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
