"""The conformance tests and their images as programs, from the module of Knative Serving."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from e2e import trim
from e2e.build import build
from e2e.components import COMPONENTS, KNATIVE, Component
from e2e.images import Image

HERE: Final = Path(__file__).parent
MODULE: Final = "knative.dev/serving"
OPTIONAL: Final = ("--enable-alpha", "--enable-beta")
"""Options for the tests of what Knative's specification does not require, such as several containers."""
TESTS: Final[Mapping[str, tuple[str, ...]]] = {
    "api/v1": OPTIONAL,
    # Its one test maps a domain that a cluster must have claimed, or claim automatically. `18-endpoints` claims one.
    "api/v1beta1": (),
    "runtime": OPTIONAL,
}
"""Packages → their options."""
SERVERS: Final = (
    *("autoscale", "failing", "hellovolume", "helloworld", "pizzaplanetv1", "pizzaplanetv2", "readiness"),
    *(
        "runtime",
        "singlethreaded",
        "timeout",
        "volumes",
        "multicontainer/servingcontainer",
        "multicontainer/sidecarcontainer",
    ),
)
REPOSITORY: Final = "kind.local/conformance"
"""Repository of the images. The tests require no digests of images in `kind.local`."""
HELPERS: Final = "test/v1/service.go"
CALL: Final = "\ttest.AddTestAnnotation(t, service.ObjectMeta)\n"
ADDED: Final = HERE / "translate.go"


def add_translation(module: Path) -> None:
    """Let the helper that creates a Service call `translated` first."""
    helpers = module / HELPERS
    text = helpers.read_text()
    assert text.count(CALL) == 1, f"{HELPERS} of {MODULE} creates Services in another way"
    helpers.write_text(text.replace(CALL, f"{CALL}\tservice = translated(t, service)\n"))
    shutil.copyfile(ADDED, helpers.with_name("translated.go"))


SUITE: Final = Component(
    "conformance",
    KNATIVE,
    {},
    tags="e2e",
    changes={"knative.dev/pkg": trim.knative, MODULE: add_translation},
    directory="knative",
    packages=tuple(f"{MODULE}/test/test_images/{server}" for server in SERVERS),
    tests=tuple(f"{MODULE}/test/conformance/{test}" for test in TESTS),
    inputs=(Path(trim.__file__), Path(__file__), ADDED),
)


def programs() -> dict[str, Path]:
    """Return the test programs by their packages, built where they are missing.

    Raises:
        BuildError: the compiler failed.

    """
    folder = build(SUITE)
    return {test: folder / f"{test.rpartition('/')[2]}.test" for test in TESTS}


def images() -> Iterator[Image]:
    """Return the images of the servers that the tests deploy."""
    folder = build(SUITE)
    for server in SERVERS:
        name = server.rpartition("/")[2]
        program = f"/ko-app/{name}"
        version = COMPONENTS["knative"].version
        yield Image(f"{REPOSITORY}/{name}:{version}", (program,), {program: folder / name})
