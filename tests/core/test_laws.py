"""Properties of every input: no traceback, deterministic bytes, valid names, minimum and maximum replicas preserved."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import cases
import strategies as made
from ebbtide.core import manifests
from ebbtide.core.base import keys, names, quantities
from ebbtide.core.base.problems import format_path
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.documents.problem_texts import read_problem_texts
from ebbtide.core.profile.built_in import FULL
from ebbtide.core.readers import shapes
from ebbtide.core.readers.loaded import canonical_json
from ebbtide.core.translation import gpu, objects, patches, pods, project
from ebbtide.core.translation.placed_fields import split_command
from ebbtide.core.translation.translate import make_patches, make_plan, translate

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from ebbtide.core.base.problems import Path as Place
    from ebbtide.core.base.problems import Problem
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.translate import Translation

ROOT = Path(__file__).parents[2]
CODES = read_problem_texts()
settings.register_profile(
    "laws",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
LAWS = settings.get_profile("laws")
MANY = settings(LAWS, max_examples=150)
#: Kinds whose name is a domain: a DomainMapping has the name of its host.
DOMAINS = {"DomainMapping"}
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
#: Problems of the text itself, whose message is sufficient without a fix.
SELF_EVIDENT = {"YML001"}


def translated(native: Any, profile: Any) -> Translation:
    """Return the translation of a native document. A document that the models reject is skipped."""
    cluster, problems = profiles.validate_profile_data(profile)
    assert cluster is not None, problems
    loaded = load_document(native, cluster)
    assume(loaded.inference is not None)
    assert loaded.inference is not None
    return translate(loaded.inference, cluster, loaded.canonical)


def everything(value: Any) -> Any:
    """Yield every value in data, including the data itself."""
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from everything(item)


def scale_of(item: dict[str, Any]) -> dict[str, str]:
    """Return the autoscaling annotations of a ksvc's or InferenceService's pods."""
    spec = item["spec"]
    of_pod = spec["template"]["metadata"] if item["kind"] == "Service" else spec["predictor"]
    annotations: dict[str, str] = of_pod.get("annotations", {})
    return annotations


@MANY
@given(made.hostile_pairs)
def test_no_valid_document_raises(pair: tuple[Any, Any]) -> None:
    made_of = translated(*pair)

    assert made_of.objects or [problem for problem in made_of.problems if problem.severity == "error"]


@pytest.mark.parametrize("seed", range(0, 3000, 250))
def test_no_random_document_of_the_models_raises(seed: int) -> None:
    for number in range(seed, seed + 250):
        rng = made.dice(number)
        native = made.random_any(rng)
        inference, problems = shapes.validate_inference(native)
        assert inference is not None, (number, problems)
        cluster, _ = profiles.validate_profile_data(made.random_profile(rng))
        assert cluster is not None

        result = translate(inference, cluster, "{}")

        assert result.objects or result.problems, number


@pytest.mark.parametrize("portion", [5e-324, 1e-300, 1e-9])
@pytest.mark.parametrize("backend", [*gpu.BACKENDS])
def test_the_smallest_portions_do_not_raise(portion: float, backend: str) -> None:
    profile = made.random_profile(made.dice(1))
    profile["spec"]["nodePools"] = [
        {"name": "default", "backend": backend, "product": "NVIDIA-A100-SXM4-80GB", "gpuMemoryMebibytes": 81920}
        | ({"replicas": 4} if "replicas" in gpu.BACKENDS[backend].needs else {})
    ]
    profile["spec"]["scheduling"]["scheduler"] = "kai-scheduler"
    native = made.native_of({"name": "a", "spec": {"image": "server", "compute": {"gpuPortionRequest": portion}}})

    cluster, _ = profiles.validate_profile_data(profile)
    assert cluster is not None
    inference, _ = shapes.validate_inference(native)
    assert inference is not None
    assert translate(inference, cluster, "{}").problems


@MANY
@example({"kind": []})
@given(made.json_like | made.documents)
def test_the_readers_do_not_raise_for_any_data(data: Any) -> None:
    loaded = load_document(data, profiles.load_built_in("full"))

    assert loaded.problems or loaded.inference is not None


@LAWS
@given(made.pairs)
def test_the_same_spec_renders_the_same_bytes(pair: tuple[Any, Any]) -> None:
    native, profile = pair
    first, second = translated(native, profile), translated(json.loads(json.dumps(native)), profile)

    assert "".join(manifests.write_documents(first.objects)) == "".join(manifests.write_documents(second.objects))
    assert first.problems == second.problems


def test_another_process_renders_the_same_bytes_for_any_hash_seed() -> None:
    program = (
        "import sys; sys.path[:0] = ['tests']\n"
        "import strategies\nfrom ebbtide.core import manifests\nfrom ebbtide.core.documents import load_document, profiles\n"
        "from ebbtide.core.base.bodies import serialize_body\nfrom ebbtide.core.translation.translate import translate\n"
        "for seed in range(60):\n"
        "    rng = strategies.dice(seed)\n"
        "    native, data = strategies.random_pair(rng)\n"
        "    profile, _ = profiles.validate_profile_data(data)\n"
        "    loaded = load_document(native, profile)\n"
        "    if loaded.inference is None: print(serialize_body(loaded.problems)); continue\n"
        "    made = translate(loaded.inference, profile, loaded.canonical)\n"
        "    print(''.join(manifests.write_documents(made.objects)), serialize_body(made.problems))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "4242")
    }

    assert len(outputs) == 1
    assert b"kind: Service" in outputs.pop()


@MANY
@given(made.pairs)
def test_every_rendered_name_is_valid_in_kubernetes(pair: tuple[Any, Any]) -> None:
    for obj in translated(*pair).objects:
        name = obj["metadata"]["name"]
        if obj["kind"] in DOMAINS:
            assert SUBDOMAIN.fullmatch(name), name
            assert len(name) <= 253
        else:
            assert names.LABEL.fullmatch(name), (obj["kind"], name)
            assert len(name) <= names.LONGEST
        namespace = obj["metadata"].get("namespace", "default")
        assert names.LABEL.fullmatch(namespace)
        assert len(namespace) <= names.LONGEST


def test_half_of_the_documents_that_are_drawn_from_a_profile_render() -> None:
    """Otherwise the laws of objects would be about rejections, and depend on a few seeds."""
    rendered = 0
    for seed in range(200):
        native, profile = made.random_pair(made.dice(seed))
        cluster, _ = profiles.validate_profile_data(profile)
        assert cluster is not None
        loaded = load_document(native, cluster)
        if loaded.inference is not None:
            rendered += bool(translate(loaded.inference, cluster, loaded.canonical).objects)

    assert rendered >= 100


@MANY
@given(made.fitting_pairs)
def test_minimum_and_maximum_replicas_are_preserved_and_in_order(pair: tuple[Any, Any]) -> None:
    result = translated(*pair)
    assume(result.objects)
    assert result.plan is not None
    given_bounds = pair[0]["spec"].get("autoscaling", {})
    minimum = given_bounds.get("minReplicas", 1)
    maximum = given_bounds.get("maxReplicas", max(minimum, 1))
    assert (result.plan.scaling.minimum, result.plan.scaling.maximum) == (minimum, maximum)
    assert {*bounds_of(result)} == {(minimum, maximum)}


def bounds_of(result: Translation) -> Iterator[tuple[int, int]]:
    """Yield the bounds that each rendered object sets."""
    assert result.plan is not None
    for obj in result.objects:
        spec = obj.get("spec", {})
        match obj["kind"]:
            case "Service":
                annotations = scale_of(obj)
                yield int(annotations[keys.MIN_SCALE]), int(annotations[keys.MAX_SCALE])
            case "HorizontalPodAutoscaler":
                yield spec["minReplicas"], spec["maxReplicas"]
            case "ScaledObject":
                yield spec["minReplicaCount"], spec["maxReplicaCount"]
            case "InferenceService" if result.plan.scaling.scaler not in {"own-hpa", "keda"}:
                yield spec["predictor"]["minReplicas"], spec["predictor"]["maxReplicas"]
            case "LLMInferenceService" if "replicas" in spec:
                yield spec["replicas"], spec["replicas"]


@LAWS
@given(made.fitting_pairs, st.randoms(use_true_random=False))
def test_the_order_of_pod_patches_does_not_change_the_pod(pair: tuple[Any, Any], rng: random.Random) -> None:
    native, profile = pair
    cluster, _ = profiles.validate_profile_data(profile)
    assert cluster is not None
    inference, _ = shapes.validate_inference(native)
    assert inference is not None
    plan, _ = make_plan(inference, cluster)
    assume(plan is not None)
    assert plan is not None
    parts = list(make_patches(plan))
    shuffled = rng.sample(parts, len(parts))

    assert pods.merge_patches(shuffled) == pods.merge_patches(parts)


@LAWS
@given(made.pairs)
def test_objects_are_in_apply_order(pair: tuple[Any, Any]) -> None:
    kinds = [obj["kind"] for obj in translated(*pair).objects]

    assert [objects.ORDER[kind] for kind in kinds] == sorted(objects.ORDER[kind] for kind in kinds)


@MANY
@given(made.fitting_pairs)
def test_no_object_contains_null_and_each_is_rendered_once(pair: tuple[Any, Any]) -> None:
    objects = translated(*pair).objects

    assert [value for obj in objects for value in everything(obj) if value is None] == []
    identities = [
        (obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects
    ]
    assert len(set(identities)) == len(identities)


without_nulls = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=1), inner, max_size=4),
    max_leaves=12,
)


#: Parts of a pod with lists that are merged by key, and with duplicate or missing keys.
pods_without_nulls = st.recursive(
    st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(
        st.sampled_from(["containers", "env", "ports", "x"]),
        st.lists(
            st.builds(
                lambda key, number, more: {**more, "name": key, "containerPort": number},
                st.sampled_from(["a", "b", "c"]),
                st.integers(1, 3),
                inner,
            )
            | inner,
            max_size=4,
        )
        | inner,
        max_size=3,
    ),
    max_leaves=10,
)


@MANY
@given(without_nulls | pods_without_nulls, without_nulls | pods_without_nulls)
def test_merging_a_difference_returns_the_other_value(old: Any, new: Any) -> None:
    assume(isinstance(old, dict) or not isinstance(new, dict))
    before = json.dumps(old)

    assert patches.is_same(patches.apply_patch(old, patches.make_patch(old, new)), new)
    assert json.dumps(old) == before
    assert patches.make_patch(new, new) == {} or not isinstance(new, dict)


@pytest.mark.parametrize(
    ("written", "order"),
    [
        ({"x": [{"name": "b"}, {"name": "a"}]}, {"$setElementOrder/x": ["a", "b"]}),
        ({"env": [{"name": "b"}, {"name": "a"}]}, {"$setElementOrder/env": "a"}),
        ({"image": "a"}, {"$setElementOrder/env": ["a"]}),
    ],
    ids=["a list without keys", "an order that is not a list", "no list"],
)
def test_an_order_that_applies_to_no_list_changes_nothing(written: dict[str, Any], order: dict[str, Any]) -> None:
    assert patches.apply_patch(written, order) == written


@MANY
@given(pods_without_nulls, pods_without_nulls)
def test_a_patch_covers_a_value_exactly_if_it_changes_it(written: Any, patch: Any) -> None:
    assume(isinstance(written, dict))
    covered = list(patches.find_overrides(patch, written))

    if not covered:
        assert everything_in(written) <= everything_in(patches.apply_patch(written, patch))


def everything_in(value: Any, path: tuple[Any, ...] = ()) -> set[tuple[Any, ...]]:
    """Return the scalars of a value with their paths, in which items of lists that are merged by key have their key."""
    if isinstance(value, dict):
        found: set[tuple[Any, ...]] = set()
        for name, item in value.items():
            keyed = patches.index_items(name, item)
            if keyed is None:
                found |= everything_in(item, (*path, name))
            else:
                found |= {part for key, inner in keyed.items() for part in everything_in(inner, (*path, name, key))}
        return found
    return {(*path, json.dumps(value))}


def at(data: Any, path: Place) -> bool:
    """Return whether there is a value at ``path``."""
    for part in path:
        present = (
            part in data
            if isinstance(data, dict)
            else isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if not present:
            return False
        data = data[part]
    return True


def assert_told(problem: Problem, document: Any) -> None:
    """Assert that a problem has a known code, a message, a fix, and a field in the document."""
    assert problem.code in CODES, problem
    assert problem.message
    assert problem.fix or problem.code in SELF_EVIDENT, problem
    assert problem.field == () or at(document, problem.field) or _placeable(document, problem.field), problem


def _placeable(document: Any, path: Place) -> bool:
    """Return whether an author can find the field: its block exists, or all missing parts are fields of the schema."""
    above = path[:-1]
    while above and not at(document, above):
        if isinstance(above[-1], int):
            return False
        above = above[:-1]
    return True


@MANY
@given(made.rest_bodies, made.profiles)
def test_every_problem_of_a_rest_body_has_a_code_a_fix_and_a_place_in_it(body: Any, profile: Any) -> None:
    cluster, _ = profiles.validate_profile_data(profile)
    assert cluster is not None
    batch = Batch(cluster)
    _, _, problems = batch.add_document(load_document(body, cluster, name="chat.json"))

    for problem in problems:
        assert_told(problem, body)
        assert problem.document == "chat.json"
    for problem in batch.batch_problems():
        assert problem.code in CODES
        assert problem.message
        assert problem.fix


@MANY
@given(made.pairs)
def test_every_problem_of_a_native_document_has_a_code_a_fix_and_a_place_in_it(pair: tuple[Any, Any]) -> None:
    for problem in translated(*pair).problems:
        assert_told(problem, pair[0])


@LAWS
@given(made.documents)
def test_every_problem_of_any_document_has_a_code_and_a_message(data: Any) -> None:
    cluster = profiles.load_built_in("full")
    _, _, problems = Batch(cluster).add_document(load_document(data, cluster, name="any"))

    for problem in problems:
        assert problem.code in CODES, problem
        assert problem.message
        assert problem.fix or problem.code in SELF_EVIDENT, problem
        assert isinstance(format_path(problem.field), str)


@pytest.mark.parametrize("backend", [*gpu.BACKENDS])
def test_more_devices_never_lower_the_limits(backend: str) -> None:
    profile = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Profile",
        "metadata": {"name": backend},
        "spec": {
            "kubernetes": {"version": "1.36", "dra": True},
            "knative": profiles.load_built_in("full").spec.knative.__dict__,
            "nodePools": [
                {
                    "name": "default",
                    "backend": backend,
                    "product": "NVIDIA-A100-SXM4-80GB",
                    "gpuMemoryMebibytes": 81920,
                    "devices": 8,
                    **({"replicas": 4} if "replicas" in gpu.BACKENDS[backend].needs else {}),
                }
            ],
            "scheduling": {"scheduler": gpu.BACKENDS[backend].scheduler or "default-scheduler"},
        },
    }
    cluster, problems = profiles.validate_profile_data(profile)
    assert cluster is not None, problems
    limits: list[dict[str, str]] = []
    for devices in range(1, 9):
        native = made.native_of({"name": "a", "spec": {"image": "server", "compute": {"gpuDevicesRequest": devices}}})
        del native["spec"]["project"]
        inference, _ = shapes.validate_inference(native)
        assert inference is not None
        plan, _ = make_plan(inference, cluster)
        if plan is not None:
            limits.append(pods.merge_patches(make_patches(plan)).parts["limits"])

    for fewer, more in itertools.pairwise(limits):
        assert fewer.keys() <= more.keys()
        for resource, amount in fewer.items():
            assert (quantities.parse_nano(more[resource]) or 0) >= (quantities.parse_nano(amount) or 0)
    if backend in {"devices", "kai", "hami"}:
        assert limits[-1] != limits[0]


@MANY
@given(made.json_like)
def test_canonical_json_round_trips(data: Any) -> None:
    assume("nan" not in repr(data) and "inf" not in repr(data) and "\\ud" not in repr(data))
    text = canonical_json(data)

    assert canonical_json(json.loads(text)) == text
    assert "null" not in text or "null" in json.dumps(data, ensure_ascii=False)


@LAWS
@given(made.fitting)
def test_the_annotation_contains_the_whole_spec(native: Any) -> None:
    cluster = profiles.load_built_in("full")
    for item in translated(native, FULL).objects:
        text = item["metadata"].get("annotations", {}).get(keys.SPEC)
        if text is not None:
            again = load_document({**native, "spec": json.loads(text)}, cluster)
            assert again.canonical == text


@LAWS
@given(made.fitting)
def test_the_same_spec_twice_in_one_call_is_refused(native: Any) -> None:
    batch = Batch(profiles.load_built_in("full"))
    first, _, _ = batch.add_document(load_document(native, batch.profile, name="one"))
    assume(first)

    second, _, problems = batch.add_document(load_document(native, batch.profile, name="two"))

    assert second == []
    assert "NAM004" in [problem.code for problem in problems if problem.severity == "error"]


@LAWS
@given(st.text("aZ09_@%+=:,./- '\"\\#~$\t\n\x0b\u00a0", max_size=12))
def test_a_command_is_split_as_a_shell_splits_it(command: str) -> None:
    try:
        words = shlex.split(command)
    except ValueError:
        with pytest.raises(ValueError, match="No"):
            split_command(command)
    else:
        assert split_command(command) == words


# Namespaces.

#: A namespace that no spec of the tests has.
MARKER = "marked-by-the-test"


def list_objects(data: dict[str, Any], cluster: Profile) -> tuple[list[dict[str, Any]], set[str]]:
    """Return the objects of a document without its namespace and its project, and the codes of its errors."""
    data = copy.deepcopy(data)
    for part, name in (("metadata", "namespace"), ("spec", "project")):
        if isinstance(data.get(part), dict):
            data[part].pop(name, None)
    loaded = load_document(data, cluster)
    if loaded.inference is None:
        return [], set()
    result = translate(loaded.inference, cluster, loaded.canonical)
    return list(result.objects), {problem.code for problem in result.problems if problem.severity == "error"}


def assert_no_namespace(data: dict[str, Any], cluster: Profile) -> bool:
    """Assert that a rendering without a namespace differs from one with a namespace only in ``metadata.namespace``.

    A text that contains the namespace must be an error without one. Returns whether objects were rendered.
    """
    bare, codes = list_objects(data, project.with_default_namespace(cluster, "none"))
    marked, marked_codes = list_objects(data, project.with_default_namespace(cluster, MARKER))
    if "NAM006" in codes:
        assert codes - {"NAM006"} == marked_codes
        assert not bare
        for item in marked:
            item["metadata"].pop("namespace", None)
        assert not marked or MARKER in json.dumps(marked)
        return False
    assert codes == marked_codes
    for item in marked:
        assert item["metadata"].pop("namespace", MARKER) == MARKER
    assert MARKER not in json.dumps(marked)
    assert bare == marked
    return bool(bare)


@MANY
@given(made.fitting_pairs)
def test_no_rendered_object_names_a_namespace_that_the_spec_does_not_set(pair: tuple[Any, Any]) -> None:
    data, profile_data = pair
    cluster, _ = profiles.validate_profile_data(profile_data)
    assert cluster is not None
    assert_no_namespace(data, cluster)


def test_no_golden_case_names_a_namespace_that_its_spec_does_not_set() -> None:
    rendered = 0
    for folder in cases.FOLDERS:
        cluster = cases.profile(folder)
        for document in manifests.read_documents(cases.spec_file(folder).read_bytes(), folder.name):
            data = document.data
            if not document.problems and isinstance(data, dict) and data.get("kind") == "Inference":
                rendered += assert_no_namespace(data, cluster)
    assert rendered > 250
