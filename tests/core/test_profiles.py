"""Profiles: lookup, problems with their lines, and the built-in profile."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import strategies
from ebbtide.core.documents import profiles
from ebbtide.core.documents.problem_texts import read_problem_texts
from ebbtide.core.profile.built_in import BUILT_INS, FEATURES, FULL, FULL_NAME, OTHER_FLAGS
from ebbtide.core.profile.models import EndpointLimits, Profile
from ebbtide.core.translation.endpoints.backend import LIMITS, EndpointLimit
from ebbtide.core.translation.objects import to_camel

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Problem

ROOT = Path(__file__).parents[2]
CODES = read_problem_texts()
FILES = sorted([*(ROOT / "tests" / "profiles").glob("*.yaml"), *(ROOT / "overlays").glob("*/profile.yaml")])
POOL = ("spec", "nodePools", 0)


def changed(*path: str | int, value: Any) -> dict[str, Any]:
    """Return the built-in profile with one value changed."""
    data = copy.deepcopy(FULL)
    place: Any = data
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return data


def only(problems: list[Problem]) -> Problem:
    (problem,) = problems
    return problem


def test_the_full_profile_has_no_problem_and_equals_its_data() -> None:
    profile, problems = profiles.validate_profile_data(FULL)

    assert problems == []
    assert profile is not None
    built_in = profiles.load_built_in("full")
    assert built_in.metadata.name == FULL_NAME
    assert [pool.backend for pool in built_in.spec.node_pools] == ["kai"]
    assert built_in.spec.scheduling.classes["inference"] == 125
    assert dict(built_in.spec.knative.features) == FEATURES


@pytest.mark.parametrize("name", BUILT_INS)
def test_a_built_in_profile_is_found_by_its_name(name: str) -> None:
    profile, data, problems = profiles.load_profile_with_data(name)

    assert profile is not None
    assert profile.metadata.name == name
    assert data == BUILT_INS[name]
    assert problems == []


def test_the_default_profile_needs_nothing_but_knative() -> None:
    spec = profiles.load_built_in().spec

    assert spec.knative.installed
    assert not spec.knative.hpa
    assert not any(spec.knative.__dict__[part] for part in ("features", "autoscaler", "defaults", "deployment"))
    assert not spec.kserve.installed
    assert spec.metrics.adapter == "none"
    assert [(pool.name, pool.resource, pool.backend) for pool in spec.node_pools] == [
        ("default", "nvidia.com/gpu", "devices")
    ]
    assert spec.scheduling.scheduler == "default-scheduler"


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_profile_in_the_repository_is_valid_and_read_as_by_pydantic(file: Path) -> None:
    profile, data, problems = profiles.load_profile_with_data(str(file))

    assert [problem for problem in problems if problem.severity == "error"] == []
    assert profile is not None
    assert profile.metadata.name == data["metadata"]["name"]
    assert Profile.model_validate(data).spec.domain == profile.spec.domain


@pytest.mark.parametrize("overlay", ["dev", "staging", "production"])
def test_the_folder_of_an_overlay_selects_its_profile(overlay: str) -> None:
    folder = ROOT / "overlays" / overlay

    assert (
        profiles.load_profile_with_data(str(folder))[1]
        == profiles.load_profile_with_data(str(folder / "profile.yaml"))[1]
    )
    profile, problems = profiles.load_profile(str(folder))
    assert profile is not None, problems


@pytest.mark.parametrize("where", ["nowhere.yaml", "nowhere/profile.yaml"])
def test_a_missing_profile_is_a_problem(tmp_path: Path, where: str) -> None:
    profile, problems = profiles.load_profile(str(tmp_path / where))

    assert profile is None
    assert (only(problems).code, only(problems).document) == ("PRF001", str(tmp_path / where))
    assert "profile.yaml" in only(problems).fix


def test_a_folder_without_a_profile_is_a_problem(tmp_path: Path) -> None:
    profile, problems = profiles.load_profile(str(tmp_path))

    assert profile is None
    assert only(problems).code == "PRF001"
    assert only(problems).document == str(tmp_path / "profile.yaml")


@pytest.mark.parametrize("text", ["", "# nothing\n", "[1]\n", "text\n"])
def test_a_file_without_a_profile_is_a_problem(tmp_path: Path, text: str) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text(text)

    profile, problems = profiles.load_profile(str(file))

    assert profile is None
    assert only(problems).severity == "error"
    assert only(problems).message
    assert only(problems).fix


def test_a_spec_that_is_named_as_the_profile_is_one_problem(tmp_path: Path) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text("apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata: {name: a}\nspec: {image: a}\n")

    _, problems = profiles.load_profile(str(file))
    assert [(row.code, row.path, row.line) for row in problems] == [("PRF001", "kind", 2)]


def test_invalid_yaml_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text("kind: Profile\nspec: {a: [1\n")

    profile, problems = profiles.load_profile(str(file))

    assert profile is None
    assert problems[0].code == "YML001"
    assert problems[0].line >= 2


WRONG: dict[str, tuple[dict[str, Any], str, tuple[str | int, ...]]] = {
    "a limit that is no number": (
        changed("spec", "knative", "defaults", value={"max-revision-timeout-seconds": "10m"}),
        "PRF002",
        ("spec", "knative", "defaults", "max-revision-timeout-seconds"),
    ),
    "a scale limit that is no number": (
        changed("spec", "knative", "autoscaler", value={"max-scale-limit": "-1"}),
        "PRF002",
        ("spec", "knative", "autoscaler", "max-scale-limit"),
    ),
    "a concurrency limit that is no number": (
        changed("spec", "knative", "defaults", value={"container-concurrency-max-limit": ""}),
        "PRF002",
        ("spec", "knative", "defaults", "container-concurrency-max-limit"),
    ),
    "a flag that is neither on nor off": (
        changed("spec", "knative", "features", value={"kubernetes.podspec-affinity": "Enabled"}),
        "PRF002",
        ("spec", "knative", "features", "kubernetes.podspec-affinity"),
    ),
    "a pool that is listed twice": (
        changed("spec", "nodePools", value=[{"name": "a"}, {"name": "a"}]),
        "PRF004",
        ("spec", "nodePools", 1, "name"),
    ),
    "time-slicing into no number of shares": (
        changed("spec", "nodePools", value=[{"name": "a", "backend": "time-slicing"}]),
        "PRF004",
        POOL,
    ),
    "MPS into no number of shares": (
        changed("spec", "nodePools", value=[{"name": "a", "backend": "mps"}]),
        "PRF004",
        POOL,
    ),
    "MIG on no product": (
        changed("spec", "nodePools", value=[{"name": "a", "backend": "mig"}]),
        "PRF004",
        POOL,
    ),
    "KAI's fractions without KAI": (
        changed("spec", "scheduling", value={"scheduler": "default-scheduler"}),
        "PRF004",
        POOL,
    ),
    "an unknown field": (changed("spec", "knativ", value={}), "SPEC001", ("spec", "knativ")),
    "a number that is a text": (
        changed(*POOL, "devices", value="8"),
        "SPEC002",
        (*POOL, "devices"),
    ),
    "no spec": ({key: value for key, value in FULL.items() if key != "spec"}, "SPEC003", ("spec",)),
    "a backend that is none": (changed(*POOL, "backend", value="magic"), "SPEC004", (*POOL, "backend")),
    "a version that is none": (
        changed("spec", "kubernetes", "version", value="v1.34"),
        "SPEC004",
        ("spec", "kubernetes", "version"),
    ),
    "a namespace without its project": (
        changed("spec", "projects", value={"namespace": "all"}),
        "SPEC004",
        ("spec", "projects", "namespace"),
    ),
    **{
        f"a limit that the gateway cannot enforce: {limit.field}": (
            changed("spec", "endpoint", value={"gateway": "envoy-gateway", "limits": {to_camel(limit.field): 1000}}),
            "PRF004",
            ("spec", "endpoint", "limits", to_camel(limit.field)),
        )
        for limit in LIMITS
        if limit.field not in {"requests_per_minute", "requests_per_minute_per_key"}
    },
    "a limit without a gateway": (
        changed("spec", "endpoint", value={"limits": {"requestsPerMinute": 1000}}),
        "PRF004",
        ("spec", "endpoint", "limits", "requestsPerMinute"),
    ),
    "another kind": (changed("kind", value="Profil"), "SPEC004", ("kind",)),
}


def test_the_table_of_limits_has_all_fields_of_a_profile() -> None:
    assert {limit.field for limit in LIMITS} == {*EndpointLimits.model_fields}


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.field)
def test_a_rate_limit_service_enforces_every_limit(limit: EndpointLimit) -> None:
    settings = {"gateway": "envoy-gateway", "rateLimitService": True, "limits": {to_camel(limit.field): 1000}}

    profile, problems = profiles.validate_profile_data(changed("spec", "endpoint", value=settings))

    assert profile is not None, problems
    assert not problems


@pytest.mark.parametrize("name", WRONG)
def test_an_inconsistent_setting_is_reported_with_its_path(name: str) -> None:
    data, code, where = WRONG[name]

    profile, problems = profiles.validate_profile_data(data)

    assert profile is None
    problem = only(problems)
    assert (problem.code, problem.field, problem.severity) == (code, where, "error")
    assert problem.message
    assert problem.fix


@pytest.mark.parametrize(
    ("component", "known", "unknown"),
    [
        ("kubernetes", ("1.30", "1.37", "1.37.9"), ("1.29", "1.38", "2.0")),
        ("knative", ("1.16", "1.24", "1.24.3"), ("1.15.9", "1.25", "0.26")),
        ("kserve", ("0.15.2", "0.21"), ("0.14", "0.22", "1.0")),
    ],
)
def test_an_unknown_version_is_accepted_with_a_warning(
    component: str, known: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    for version in known:
        assert profiles.validate_profile_data(changed("spec", component, "version", value=version))[1] == []
    for version in unknown:
        profile, problems = profiles.validate_profile_data(changed("spec", component, "version", value=version))
        assert profile is not None
        assert (only(problems).code, only(problems).severity) == ("PRF065", "warning")
        assert only(problems).field == ("spec", component, "version")
        assert version in only(problems).message


def test_the_version_of_a_component_that_is_not_installed_is_not_judged() -> None:
    data = changed("spec", "kserve", value={"installed": False, "version": "0.9"})

    assert profiles.validate_profile_data(data)[1] == []


def test_an_unknown_flag_is_accepted_with_a_warning() -> None:
    data = changed("spec", "knative", "features", value={**FEATURES, "kubernetes.podspec-teleport": "enabled"})

    profile, problems = profiles.validate_profile_data(data)

    assert profile is not None
    assert (only(problems).code, only(problems).severity) == ("PRF003", "warning")
    assert "podspec-teleport" in only(problems).message


@pytest.mark.parametrize("flag", [*sorted(OTHER_FLAGS), "secure-pod-defaults", "multi-container"])
def test_a_flag_that_only_other_tools_use_is_accepted(flag: str) -> None:
    value = "AllowRootBounded" if flag == "secure-pod-defaults" else "enabled"

    profile, problems = profiles.validate_profile_data(
        changed("spec", "knative", "features", value={**FEATURES, flag: value})
    )

    assert profile is not None
    assert problems == []


def test_problems_of_a_file_have_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text(
        "apiVersion: ebbtide.dev/v1alpha1\n"
        "kind: Profile\n"
        "metadata:\n"
        "  name: odd\n"
        "spec:\n"
        "  nodePools:\n"
        "    - name: a\n"
        "    - name: a\n"
        "    - name: b\n"
        "      backend: mig\n"
        "  knative:\n"
        "    defaults:\n"
        "      max-revision-timeout-seconds: never\n"
    )

    profile, problems = profiles.load_profile(str(file))

    assert profile is None
    assert {(problem.code, problem.line) for problem in problems} == {
        ("PRF004", 8),
        ("PRF004", 9),
        ("PRF002", 13),
    }
    assert {problem.document for problem in problems} == {str(file)}


@pytest.mark.parametrize(
    "data", [FULL["spec"], None, [], 3, "text"], ids=["spec-alone", "null", "list", "number", "text"]
)
def test_an_invalid_profile_is_a_problem_not_a_traceback(data: Any) -> None:
    profile, problems = profiles.validate_profile_data(data)

    assert profile is None
    assert problems
    assert {problem.code for problem in problems} <= CODES.keys()


@pytest.mark.parametrize("seed", range(0, 600, 100))
def test_no_mutated_profile_causes_a_traceback(seed: int) -> None:
    refused = 0
    for number in range(seed, seed + 100):
        rng = strategies.dice(number)
        profile, problems = profiles.validate_profile_data(strategies.mutated(rng, strategies.random_profile(rng)))
        refused += profile is None
        assert profile is not None or problems
        for problem in problems:
            assert problem.code in CODES, number
            assert problem.message
            assert problem.fix
    assert 0 < refused < 100


@pytest.mark.parametrize("seed", range(0, 400, 100))
def test_every_random_profile_is_valid(seed: int) -> None:
    for number in range(seed, seed + 100):
        profile, problems = profiles.validate_profile_data(strategies.random_profile(strategies.dice(number)))
        assert profile is not None, (number, problems)


def test_each_code_of_profiles_is_tested_here() -> None:
    """A new PRF code needs a row above."""
    source = Path(__file__).read_text()
    codes = {code for code in CODES if code.startswith("PRF")}

    assert codes == set(re.findall(r"PRF[0-9]{3}", source))


@pytest.mark.parametrize(
    ("backend", "resource", "valid"),
    [
        ("mps", "nvidia.com/gpu", True),
        ("mps", "nvidia.com/gpu.shared", True),
        ("mps", "nvidia.com/gpu.mps", False),
        ("mps", "nvidia.com/mig-1g.10gb", False),
        ("time-slicing", "nvidia.com/mig-1g.10gb.shared", True),
        ("time-slicing", "example.com/gpu", False),
    ],
)
def test_a_share_has_a_name_that_the_device_plugin_can_list(backend: str, resource: str, valid: bool) -> None:
    pool = {"name": "shared", "backend": backend, "replicas": 4, "resource": resource}
    spec = {**FULL["spec"], "nodePools": [pool], "scheduling": {}}
    profile, problems = profiles.validate_profile_data({**FULL, "spec": spec})

    assert (profile is not None) == valid, problems
    assert [problem.field for problem in problems] == ([] if valid else [("spec", "nodePools", 0, "resource")])


def test_the_profile_of_specs_is_the_one_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    spec, nearby = tmp_path / "specs" / "chat.yaml", tmp_path / "specs" / "profile.yaml"
    nearby.touch()

    for files in (
        [str(spec)],
        [str(spec.parent)],
        [str(spec), f"{spec.parent}/"],
        [f"{tmp_path}/specs/../specs/a.yaml"],
    ):
        path, problems = profiles.find_profile_of_specs(files)
        assert problems == []
        assert Path(path).samefile(nearby)
    # Neither a folder above nor one below.
    assert profiles.find_profile_of_specs([str(tmp_path)]) == ("", [])
    assert profiles.find_profile_of_specs([str(tmp_path / "specs" / "sub")]) == (str(nearby), [])
    assert profiles.find_profile_of_specs([]) == ("", [])
    assert profiles.find_profile_of_specs(["x" * 5000, f"{'x' * 5000}/a.yaml", "\0"]) == ("", [])


def test_specs_in_folders_with_different_profiles_are_a_problem(tmp_path: Path) -> None:
    one, other, bare = (tmp_path / name for name in ("one", "other", "bare"))
    for folder in (one, other, bare):
        folder.mkdir()
    (one / "profile.yaml").touch()
    (other / "profile.yaml").touch()

    for folders, named in (((one, other), other), ((one, bare), bare), ((bare, one), bare)):
        path, problems = profiles.find_profile_of_specs(map(str, folders))
        assert path == ""
        assert only(problems).code == "PRF213"
        assert str(one / "profile.yaml") in only(problems).message
        assert str(named) in only(problems).message
    (other / "profile.yaml").unlink()
    (other / "profile.yaml").symlink_to(one / "profile.yaml")
    assert profiles.find_profile_of_specs([str(one), str(other)]) == (str(one / "profile.yaml"), [])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"apiVersion": "kubeflow.org/v1", "kind": "Profile"}, True),
        ({"replicas": 2}, True),
        ({"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference"}, True),
        (FULL, False),
        ({"kind": "Profile"}, False),
        ({}, False),
        (None, False),
        ([], False),
    ],
)
def test_a_profile_of_another_tool_is_recognized(data: Any, expected: bool) -> None:
    assert profiles.belongs_to_other_tool(data) is expected
