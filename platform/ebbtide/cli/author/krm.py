"""``ebbtide-krm``: a KRM function for kustomize that reads a ResourceList from stdin and writes one to stdout.

The function's config is a Profile. Items of kind Inference are replaced by their objects. Every other item is passed
through, and an object that is already among the items is not generated. Problems are the list's results; with an error
the exit code is 1, and kustomize stops. References in a spec to other items get the names that kustomize gives to these.

Upstream: kustomize.io, KRM functions specification (config.kubernetes.io/v1 ResourceList).
"""

from __future__ import annotations

import sys
from typing import Any, Final, NoReturn

from ebbtide.cli.author.renames import rename_references
from ebbtide.cli.base import streams
from ebbtide.core import manifests
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem, has_errors
from ebbtide.core.base.prose import make_printable
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch, object_identity
from ebbtide.core.documents.files import read_stdin
from ebbtide.core.profile.built_in import BUILT_IN
from ebbtide.core.readers.reading import KIND
from ebbtide.core.translation.objects import Object

API_VERSION: Final = "config.kubernetes.io/v1"
LIST: Final = "ResourceList"
#: Annotation prefixes that kustomize adds to items; they must not reach the spec.
MARKS: Final = ("internal.config.kubernetes.io/", "config.kubernetes.io/", "config.k8s.io/", "kustomize.config.k8s.io/")
#: Annotation of items that are local to kustomize, unless its value is "false". Neither they nor objects made from them
#: are in the output. Upstream: sigs.k8s.io/kustomize/api v0.21.1 resource/factory.go (DropLocalNodes).
LOCAL: Final = "config.kubernetes.io/local-config"
NO_LIST: Final = Problem(
    "SPEC005",
    (),
    "stdin does not contain a ResourceList",
    "run ebbtide-krm from kustomize, or pipe a ResourceList into it",
)


def transform_list(text: bytes) -> tuple[dict[str, Any], int]:
    document = next(iter(manifests.read_documents(text, "stdin")), None)
    if document is not None and document.problems:
        return _make_list([], document.problems), 1
    data = {} if document is None else document.data
    items = get_at(data, "items") or []
    if get_at(data, "kind") != LIST or not isinstance(items, list):
        return _make_list([], [NO_LIST]), 1
    config = data.get("functionConfig")
    profile, profile_problems = profiles.validate_profile_data(
        BUILT_IN if config is None else _drop_annotations(config)
    )
    if profile is None:
        return _make_list(items, profile_problems), 1
    batch = Batch(profile)
    problems = list(profile_problems)
    output_items: list[Any] = []
    others = [item for item in items if _is_object(item) and item["kind"] != KIND and not _is_local(item)]
    existing = {_make_key(item): _drop_annotations(item) for item in others}
    for item in items:
        if not (isinstance(item, dict) and item.get("kind") == KIND):
            output_items.append(item)
            continue
        if _is_local(item):
            continue
        clean = _drop_annotations(rename_references(item, others))
        loaded = load_document(clean, profile, name=str(get_at(clean, "metadata", "name", default="")))
        objects, _, item_problems = batch.add_document(loaded)
        problems.extend(item_problems)
        problems.extend(loaded.place_problems(_find_clashes(objects, existing)))
        output_items.extend(obj for obj in objects if _make_key(obj) not in existing)
    output_items.extend(batch.list_models())
    problems.extend(batch.batch_problems())
    return _make_list(output_items, problems), int(has_errors(problems))


def _is_object(item: Any) -> bool:
    if not (isinstance(item, dict) and isinstance(item.get("metadata"), dict)):
        return False
    metadata = item["metadata"]
    identifiers = (item.get("apiVersion"), item.get("kind"), metadata.get("name"), metadata.get("namespace", ""))
    return all(isinstance(text, str) for text in identifiers)


def _make_key(item: Object) -> tuple[str, ...]:
    """Return the key by which kustomize identifies an object: group, kind, namespace and name."""
    return item["apiVersion"].rpartition("/")[0], *object_identity(item)


def _find_clashes(objects: list[Object], existing: dict[tuple[str, ...], Object]) -> list[Problem]:
    """Return an error for each object that the list already contains with different content."""
    return [
        Problem(
            "NAM005",
            ("spec",),
            f"{obj['kind']} {obj['metadata']['name']} is already among the resources and differs from the object that this spec produces",
            "remove it from the resources so that it is generated from the spec, or make both identical",
        )
        for obj in objects
        if existing.get(_make_key(obj), obj) != obj
    ]


def _is_local(item: dict[str, Any]) -> bool:
    annotations = get_at(item, "metadata", "annotations")
    return isinstance(annotations, dict) and annotations.get(LOCAL, "false") != "false"


def _drop_annotations(item: Any) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict):
        return item
    metadata = dict(item["metadata"])
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict):
        remaining = {key: value for key, value in annotations.items() if not key.startswith(MARKS)}
        metadata["annotations"] = remaining
        if not remaining:
            del metadata["annotations"]
    return {**item, "metadata": metadata}


def _make_list(items: list[Any], problems: list[Problem]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": LIST,
        "items": items,
        "results": [
            {
                "message": f"{problem.code}: {problem.message}" + (f" (fix: {problem.fix})" if problem.fix else ""),
                "severity": problem.severity,
                "resourceRef": {"name": problem.document},
                "field": {"path": problem.path},
            }
            for problem in problems
        ],
    }


def entry() -> NoReturn:
    """Run as a process. Problems also go to stderr, because kustomize does not print results."""
    streams.run_process(lambda: streams.run_guarded("ebbtide-krm", run_function))


def run_function() -> int:
    """Transform the list on stdin and return the exit code."""
    answer, code = transform_list(read_stdin())
    sys.stdout.write(manifests.write_document(answer))
    for result in answer["results"] if code else ():
        where = f"{result['resourceRef']['name']} {result['field']['path']}"
        sys.stderr.write(make_printable(f"{result['severity']} {where}: {result['message']}") + "\n")
    return code
