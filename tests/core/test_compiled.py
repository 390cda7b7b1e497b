"""The compiled schema validates exactly as the models do, with the same errors and values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic_core
import pytest
from pydantic import BaseModel

import strategies
from ebbtide.core.profile.built_in import FULL
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers import _compiled, compiled, shapes
from ebbtide.core.spec.inference import Inference

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
NUMBER = 2400
CHUNK = 400
CHUNKS = [range(start, start + CHUNK) for start in range(0, NUMBER, CHUNK)]
NATIVE: dict[str, Any] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Inference",
    "metadata": {"name": "chat"},
    "spec": {"image": "registry.example.com/chat:1"},
}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Clear the cached validators before and after each test."""
    clear()
    yield
    clear()


def clear() -> None:
    compiled.inference_validator.cache_clear()
    compiled.profile_validator.cache_clear()
    compiled.is_compatible.cache_clear()


def plain(value: Any) -> Any:
    """Return a validated value as nested data: models with class name and attributes, lists distinct from tuples."""
    if isinstance(value, (str, bytes, int, float, bool, type(None))):
        return type(value).__name__, value
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [plain(item) for item in value]
    if isinstance(value, dict):
        return "dict", {key: plain(item) for key, item in value.items()}
    return type(value).__name__, {name: plain(item) for name, item in value.__dict__.items()}


def verdict(validator: Any, data: Any) -> Any:
    """Return the result of a validator: the value, or its errors with type, location and bounds.

    The class names in pydantic's errors are ignored, because ``shapes`` does not show them.
    """
    try:
        return plain(validator.validate_python(data))
    except pydantic_core.ValidationError as error:
        rows = error.errors(include_url=False, include_context=True, include_input=False)
        return [(row["type"], row["loc"], bounds(row.get("ctx", {}))) for row in rows]


def bounds(context: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((name, repr(value)) for name, value in context.items() if name != "class_name")


def differences(name: str, make: Callable[[random.Random], Any], seeds: range) -> tuple[list[int], int]:
    """Return the seeds with different results, and the number of accepted documents."""
    ours, theirs = compiled.compiled_validator(name), compiled.pydantic_validator(name)
    different, accepted = [], 0
    for seed in seeds:
        data = make(strategies.dice(seed))
        mine, other = verdict(ours, data), verdict(theirs, data)
        accepted += isinstance(other, tuple)
        if repr(mine) != repr(other):
            different.append(seed)
    return different, accepted


@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_mutated_specs_get_the_same_result(seeds: range) -> None:
    def make(rng: random.Random) -> Any:
        whole = strategies.random_any(rng) if rng.random() < 0.4 else strategies.random_native(rng)
        return whole if rng.random() < 0.2 else strategies.mutated(rng, whole)

    different, accepted = differences("Inference", make, seeds)

    assert different == []
    assert 0 < accepted < len(seeds), "both verdicts are compared"


@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_mutated_profiles_get_the_same_result(seeds: range) -> None:
    def make(rng: random.Random) -> Any:
        whole = strategies.random_any(rng, Profile) if rng.random() < 0.4 else strategies.random_profile(rng)
        return whole if rng.random() < 0.2 else strategies.mutated(rng, whole)

    different, accepted = differences("Profile", make, seeds)

    assert different == []
    assert 0 < accepted < len(seeds), "both verdicts are compared"


@pytest.mark.parametrize("data", [None, [], 3, "text", {}, {"spec": None}, {1: 2}], ids=repr)
@pytest.mark.parametrize("name", ["Inference", "Profile"])
def test_invalid_documents_get_the_same_result(name: str, data: Any) -> None:
    mine = verdict(compiled.compiled_validator(name), data)

    assert isinstance(mine, list), "an error"
    assert mine == verdict(compiled.pydantic_validator(name), data)


def test_the_file_is_what_the_models_give() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "compile_schema.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_the_installed_core_fits_the_compiled_schema() -> None:
    """If this fails, every command is slower, without a warning. `make generate` records the new core."""
    assert compiled.is_compatible()


def test_no_pydantic_class_is_built_if_the_core_fits() -> None:
    inference, problems = shapes.validate_inference(NATIVE)

    assert problems == []
    assert not isinstance(inference, BaseModel)
    assert type(inference).__name__ == "Inference"


def test_pydantic_validates_if_the_core_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = shapes.validate_inference(NATIVE)
    clear()
    monkeypatch.setattr(_compiled, "CORE", "another")

    inference, problems = shapes.validate_inference(NATIVE)
    profile, of_profile = shapes.validate_profile(FULL)
    refused, why = shapes.validate_inference({**NATIVE, "spec": {"imag": "x"}})

    assert isinstance(inference, Inference)
    assert isinstance(profile, Profile)
    assert problems + of_profile == []
    assert plain(inference) == plain(before)
    assert refused is None
    assert [(problem.code, problem.fix) for problem in why] == [("SPEC001", "did you mean image?")]


def test_an_instance_is_as_frozen_in_use_as_a_model() -> None:
    """Instances of the compiled classes have only the attributes that pydantic_core sets."""
    inference, _ = shapes.validate_inference(NATIVE)

    assert inference is not None
    assert vars(type(inference))["__slots__"] == compiled.SLOTS
    assert vars(inference).keys() == {"api_version", "kind", "metadata", "spec"}


def test_the_extension_is_that_of_the_package() -> None:
    """The program loads only the extension; a library may load the package later."""
    program = (
        "from ebbtide.core.readers import compiled\n"
        "alone = compiled.load_core()\n"
        "import pydantic_core\n"
        "assert alone.SchemaValidator is pydantic_core.SchemaValidator\n"
        "assert alone.ValidationError is compiled.validation_error() is pydantic_core.ValidationError\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_is_used_if_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled.load_core.__wrapped__() is pydantic_core

    monkeypatch.delitem(sys.modules, "pydantic_core")
    alone = compiled.load_core.__wrapped__()
    assert alone is not pydantic_core
    assert alone.SchemaValidator is pydantic_core.SchemaValidator
