"""Profiles from files: read, validated, and checked for what would not make sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, Final

from ebbtide.intake import shapes
from ebbtide.problems import Problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.profile import Profile

BUILT_IN_NAME: Final = "built-in"
FILE_NAME: Final = "profile.yaml"
#: ConfigMap keys that are read as whole numbers.
NUMBERS: Final = (
    ("autoscaler", "max-scale-limit"),
    ("defaults", "max-revision-timeout-seconds"),
    ("defaults", "container-concurrency-max-limit"),
)
FLAG_VALUES: Final = {"enabled", "allowed", "disabled"}


def built_in() -> Profile:
    """Return the built-in profile."""
    from ebbtide.profile_built_in import BUILT_IN  # noqa: PLC0415 - data that a named profile need not load

    profile, problems = validate(BUILT_IN)
    assert profile is not None, problems
    return profile


def validate(data: Any) -> tuple[Profile | None, list[Problem]]:
    """Return the profile in a document, or every problem with it."""
    profile, problems = shapes.validate_profile(data)
    if profile is None:
        return None, problems
    problems = list(check(profile))
    return (None if any(problem.severity == "error" for problem in problems) else profile), problems


def read(where: str) -> tuple[Profile | None, list[Problem]]:
    """Return the profile in a file, in an overlay's folder, or the built-in one by its name."""
    profile, _, problems = read_with_data(where)
    return profile, problems


def read_with_data(where: str) -> tuple[Profile | None, dict[str, Any], list[Problem]]:
    """Return the profile, the document it was made from, and the problems, with their lines."""
    if where == BUILT_IN_NAME:
        from ebbtide.profile_built_in import BUILT_IN  # noqa: PLC0415 - as above

        return built_in(), BUILT_IN, []
    from ebbtide import manifests  # noqa: PLC0415 - the built-in profile needs no YAML

    path = File(where)
    if path.is_dir():
        path = path / FILE_NAME
    try:
        text = path.read_bytes()
    except OSError as error:
        found = Problem(
            "PRF001",
            (),
            f"the profile cannot be read: {error.strerror}",
            f"name a file, a folder with {FILE_NAME}, or {BUILT_IN_NAME}",
            document=str(path),
        )
        return None, {}, [found]
    for document in manifests.read(text, str(path)):
        problems = list(document.problems)
        profile = None
        if isinstance(document.data, dict):
            profile, of_shape = validate(document.data)
            problems += [
                replace(problem, line=document.line(problem.field), document=str(path)) for problem in of_shape
            ]
        elif not problems:
            problems = [Problem("PRF001", (), "this is no profile: not a mapping", "start with kind: Profile")]
        failed = any(problem.severity == "error" for problem in problems)
        return (None if failed else profile), document.data, problems
    return (
        None,
        {},
        [Problem("PRF001", (), "the profile is empty", "start with kind: Profile", document=str(path))],
    )


def check(profile: Profile) -> Iterator[Problem]:
    """Yield what is wrong with a profile beyond its shape."""
    spec = profile.spec
    knative = spec.knative
    for part, key in NUMBERS:
        value = getattr(knative, part).get(key)
        if value is not None and not value.isdigit():
            yield Problem(
                "PRF002",
                ("spec", "knative", part, key),
                f"{value!r} is no whole number",
                'write it as ConfigMaps do: "600"',
            )
    from ebbtide.serving.knative import EVERY_FLAG  # noqa: PLC0415 - serving is loaded by every translation anyway

    for flag, value in knative.features.items():
        if value not in FLAG_VALUES and flag != "secure-pod-defaults":
            yield Problem(
                "PRF002",
                ("spec", "knative", "features", flag),
                f"{value!r} is no value for a feature flag",
                "use enabled, allowed or disabled",
            )
        elif flag.startswith("kubernetes.podspec-") and flag not in EVERY_FLAG:
            from ebbtide.profile_built_in import OTHER_FLAGS  # noqa: PLC0415 - as above

            if flag not in OTHER_FLAGS:
                yield warning(
                    "PRF003",
                    ("spec", "knative", "features", flag),
                    f"Knative {knative.version} has no flag {flag} that Ebbtide knows",
                    "see config-features",
                )
    names = [pool.name for pool in spec.node_pools]
    for index, pool in enumerate(spec.node_pools):
        where = ("spec", "nodePools", index)
        if names.index(pool.name) != index:
            yield Problem("PRF004", (*where, "name"), f"node pool {pool.name} is listed twice", "rename one")
        if pool.backend in {"time-slicing", "mps"} and pool.replicas is None:
            yield Problem(
                "PRF004",
                where,
                f"backend {pool.backend} needs the number of shares",
                "set replicas to the device plugin's",
            )
        if pool.backend == "mig" and not pool.product:
            yield Problem(
                "PRF004",
                where,
                "backend mig needs the GPU's product",
                "set product to nvidia.com/gpu.product",
            )
        if pool.backend == "kai" and spec.scheduling.scheduler != "kai-scheduler":
            yield Problem(
                "PRF004",
                where,
                f"backend kai needs scheduler kai-scheduler, not {spec.scheduling.scheduler}",
                "correct one",
            )
