"""The writer of Run:ai's REST body: read back, a body has the meaning of the spec, except for what is reported."""

from __future__ import annotations

import copy
import warnings
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

import cases
import strategies
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.texts import load_text
from ebbtide.core.readers import rest
from ebbtide.core.readers.fields import models_in
from ebbtide.core.spec.inference import Inference
from ebbtide.core.translation.placed_fields import split_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path as File

    from pydantic import BaseModel

    from ebbtide.core.base.problems import Problem
    from ebbtide.core.profile.models import Profile

CLUSTER = "71f69d83-ba66-4822-adf5-55ce55efd210"
NUMBER = 400
FULL = profiles.load_built_in("full")
#: Fields whose meaning depends on a reported field, with which they are omitted.
WITH: dict[str, tuple[str, ...]] = {
    "metricName": ("metric", "metricThreshold"),
    "metrics": ("metric", "metricThreshold"),
    "migProfile": ("gpuRequestType",),
}
#: Problems of the cluster and of the project's ID, which are not in the spec.
OF_IDS = {"CNV002", "PRJ005", "PRJ006"}


@cache
def random_natives() -> list[dict[str, Any]]:
    natives = []
    for seed in range(NUMBER):
        loaded = load_document(strategies.random_rest(strategies.dice(seed), unlawful=0), FULL)
        assert loaded.inference is not None, (seed, loaded.problems)
        natives.append(loaded.reading.native)
    return natives


def read_meaning(native: dict[str, Any], lost: list[Problem]) -> tuple[dict[str, Any], list[str]]:
    """Return a native document without the reported fields, and its process: the command with its arguments."""
    native = copy.deepcopy(native)
    for problem in lost:
        path = problem.field
        drop(native, path)
        for name in WITH.get(str(path[-1]), ()):
            drop(native, (*path[:-1], name))
        if path[:3] == ("spec", "probes", "readiness"):
            drop(native, path[:3])
    native["metadata"] = {"name": native["metadata"]["name"]}
    spec = native["spec"]
    process = [word for name in ("command", "args") for word in list_words(spec.pop(name, None))]
    auto = spec.get("autoscaling", {})
    # Run:ai has one field for the name of any metric, and no hyphen in it; Ebbtide reads both spellings.
    name = auto.pop("metricName", None) or auto.get("metric")
    if name is not None:
        auto["metric"] = name.replace("-", "_")
    document = Inference.model_validate(without_empty(native))
    return without_empty(document.model_dump(by_alias=True, exclude_defaults=True, warnings=False)), process


def list_words(text: str | list[str] | None) -> list[str]:
    try:
        return split_command(text or [])
    except ValueError:
        # An open quote, which check rejects.
        return [str(text)]


def without_empty(value: Any) -> Any:
    """Return data without what was dropped, and without the blocks that are empty then."""
    if isinstance(value, list):
        return [item for item in map(without_empty, value) if item is not None]
    if isinstance(value, dict):
        items = {key: item if key == "patch" else without_empty(item) for key, item in value.items()}
        # Run:ai requires text for amounts, and Ebbtide reads both.
        items |= {key: str(item) for key, item in items.items() if key in rest.AMOUNTS and item is not None}
        if items.get("authorizationType") == "public" and "url" in items:
            # The default of a host name.
            del items["authorizationType"]
        return {key: item for key, item in items.items() if item not in (None, [], {}) or key == "patch"}
    return value


def drop(data: Any, path: tuple[Any, ...]) -> None:
    *above, last = path
    for part in above:
        if not isinstance(data, (dict, list)) or (isinstance(data, dict) and part not in data):
            return
        data = data[part]
    if isinstance(data, list) or (isinstance(data, dict) and last in data):
        data[last] = None


def check_read_back(native: dict[str, Any], profile: Profile) -> list[Problem]:
    """Check that the body of a document is read back as the document without what is reported."""
    body, lost = rest.write_body(native, profile, profile.spec.cluster_id or CLUSTER)
    assert {problem.code for problem in lost} <= {"CNV001", "CNV003"}
    read = load_document(body, profile)
    problems = [problem for problem in read.problems if problem.code not in OF_IDS]
    assert problems == []
    assert read_meaning(read.reading.native, lost) == read_meaning(native, lost)
    return lost


def test_random_bodies_are_written_and_read_back() -> None:
    lost = [problem for native in random_natives() for problem in check_read_back(native, FULL)]

    # A REST body has all that a REST body can express, except for the names of the cluster's priority classes.
    assert {problem.path for problem in lost if problem.code == "CNV001"} == {"spec.priorityClass"}
    assert all(problem.message and problem.fix for problem in lost)


@pytest.mark.parametrize("folder", cases.FOLDERS, ids=lambda folder: folder.name)
def test_golden_cases_are_written_and_read_back(folder: File) -> None:
    profile, file = cases.profile(folder), cases.spec_file(folder)
    for loaded in load_text(file.read_bytes(), file.name, profile):
        if loaded.inference is None:
            continue
        native = copy.deepcopy(loaded.reading.native)
        native["spec"].setdefault("project", "team-a")
        check_read_back(native, profile)


def list_strange_fields(value: Any, model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the fields of a body that NVIDIA's model does not have."""
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, dict):
            continue
        fields = {info.alias or name: info for name, info in model.model_fields.items()}
        for name, inner in item.items():
            if name not in fields:
                yield (*path, name)
            elif inside := next(models_in(fields[name].annotation), None):
                yield from list_strange_fields(inner, inside, (*path, name))


def test_bodies_are_valid_for_nvidias_client() -> None:
    """Every field that Run:ai's API does not have is reported, and every value has the type that it requires."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # runapy's own
        request = import_module("runai.models").InferenceCreationRequest
    natives = [(native, FULL) for native in random_natives()]
    for folder in cases.RENDERED:
        documents = [loaded for loaded in cases.make(folder).documents if loaded.inference is not None]
        natives += [(copy.deepcopy(loaded.reading.native), cases.profile(folder)) for loaded in documents]
    for native, profile in natives:
        native["spec"].setdefault("project", "team-a")
        body, _ = rest.write_body(native, profile, profile.spec.cluster_id or CLUSTER)
        assert [*list_strange_fields(body, request)] == [], native
        request(**body)
