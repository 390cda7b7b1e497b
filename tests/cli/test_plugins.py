"""Another package adds a reader, a command and paths of the API; and Ebbtide works without its optional parts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import pytest

import serving
from ebbtide.cli import list_commands, load_command
from ebbtide.core.base import plugins
from ebbtide.core.base.plugins import Part, PluginError
from ebbtide.core.documents import load_added_readers, load_document, profiles
from ebbtide.core.readers.reading import Reader
from ebbtide.core.translation import gpu
from ebbtide.server.api.app import make_app
from ebbtide.server.api.families import list_families
from ebbtide.server.api.gate import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).parents[2]
SPEC: Final = "{image: ghcr.io/acme/chat:1, servingPort: {container: 8000}}"
NATIVE: Final = f"apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata: {{name: chat}}\nspec: {SPEC}\n"
TOY: Final = "apiVersion: toy.example.com/v1\nkind: Toy\nname: chat\nimage: ghcr.io/acme/chat:1\nport: 8000\n"
PAGES: Final = {name: (ROOT / name).read_text() for name in ("CONTRIBUTING.md", "docs/add-a-gpu-backend.md")}
#: Prints the responses of a server with the plugin: a greeting, two errors, and the description.
SERVE: Final = """
import json, sys
import serving

_, backend = serving.inhabited()
with serving.served(backend) as client:
    root = serving.bearer("root")
    greeting = client.get("/api/toy/greeting?name=Ada", headers=root)
    missing = client.get("/api/toy/nothing", headers=root)
    anonymous = client.get("/api/toy/greeting")
    runai = client.get("/api/v1/nothing", headers=root)
    described = client.get("/api/ebbtide/v1/openapi.json").json()
    operation = described["paths"]["/api/toy/greeting"]["get"]
    print(json.dumps({
        "greeting": greeting.json(),
        "errors": [[row.status_code, sorted(row.json())] for row in (missing, anonymous, runai)],
        "tags": [row["name"] for row in described["tags"]],
        "about": "Paths under `/api/toy` greet." in described["info"]["description"],
        "statuses": sorted(operation["responses"]),
        "invalid": operation["responses"]["422"]["content"],
    }))
"""
#: Makes the modules of an optional part unimportable, as if their files were removed, and runs the command line.
WITHOUT: Final = """
import sys
from importlib.abc import MetaPathFinder

removed = sys.argv.pop(1).split(",")

class Removed(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if any(f"{name}.".startswith(f"{module}.") for module in removed):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Removed())
"""
RUNAI: Final = (
    "ebbtide.runai.flags",
    "ebbtide.runai.command_lines",
    "ebbtide.runai.routes",
    "ebbtide.runai.bodies",
    "ebbtide.runai.requests",
    "ebbtide.runai.submit",
)
SERVER: Final = ("ebbtide.server",)
SANDBOX: Final = ("ebbtide.sandbox", "ebbtide.sandbox.demo")
Run = subprocess.CompletedProcess[str]


def find_block(page: str, language: str, word: str) -> str:
    """Return the code block of a page that contains a word."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)
    (block,) = (block for block in blocks if word in block)
    return str(block)


#: The package of the page.
MODULE: Final = find_block("CONTRIBUTING.md", "python", "READER = ")
GROUPS: Final = {
    group.removeprefix("ebbtide."): "\n".join(f"{name} = {value}" for name, value in points.items())
    for group, points in tomllib.loads(find_block("CONTRIBUTING.md", "toml", "entry-points"))["project"][
        "entry-points"
    ].items()
}


def execute(words: list[str], *paths: Path) -> Run:
    folders = [*paths, ROOT / "platform", ROOT / "tests"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that installs a distribution in a folder, as pip does: its module and its metadata."""

    def installed(name: str, source: str, **entry_points: str) -> Path:
        module = name.replace("-", "_")
        folder = tmp_path / name
        metadata = folder / f"{module}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (folder / f"{module}.py").write_text(source)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"[ebbtide.{group}]\n{point}\n" for group, point in entry_points.items()]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        return folder

    return installed


@pytest.fixture
def toy(install: Callable[..., Path]) -> Path:
    return install("ebbtide-toy", MODULE, **GROUPS)


@pytest.fixture
def specs(tmp_path: Path) -> tuple[Path, Path]:
    files = tmp_path / "native.yaml", tmp_path / "toy.yaml"
    for file, text in zip(files, (NATIVE, TOY), strict=True):
        file.write_text(text)
    return files


def test_a_package_adds_a_reader(toy: Path, specs: tuple[Path, Path]) -> None:
    native, other = (execute(["-m", "ebbtide", "render", str(file)], toy) for file in specs)
    specs[1].write_text(TOY.replace("chat:1", "chat 1"))
    wrong = execute(["-m", "ebbtide", "check", str(specs[1])], toy)

    assert (other.returncode, other.stdout) == (0, native.stdout)
    assert wrong.returncode == 1
    # The problem is at the field of the format, with its line.
    assert f"{specs[1]}:4" in wrong.stdout


def test_a_document_in_no_format_is_reported_with_the_added_format(toy: Path, specs: tuple[Path, Path]) -> None:
    specs[1].write_text("apiVersion: v1\nkind: Riddle\n")
    with_toy, without = (execute(["-m", "ebbtide", "check", str(specs[1])], *paths) for paths in ((toy,), ()))

    assert "projectId, spec}, a Toy, a Knative Service" in with_toy.stdout
    assert "projectId, spec}, a Knative Service" in without.stdout


def test_a_part_that_cannot_be_imported_names_its_package() -> None:
    with pytest.raises(PluginError, match=r"the package acme registers toy in .*: ModuleNotFoundError: .*update acme"):
        Part(plugins.READERS, "toy", "no_such_module:toy", "acme").load(object)


def test_an_own_part_that_is_missing_is_a_defect_of_ebbtide() -> None:
    with pytest.raises(ModuleNotFoundError):
        Part(plugins.READERS, "toy", "no_such_module:toy").load(object)
    with pytest.raises(PluginError, match="no_such_module"):
        plugins.require_module("ebbtide.no_such_module", "a toy")


def test_a_package_adds_a_command(toy: Path) -> None:
    ran = execute(["-m", "ebbtide", "greet", "--name", "Ada"], toy)
    unknown = execute(["-m", "ebbtide", "greet", "--nam=Ada", "x"], toy)
    close = execute(["-m", "ebbtide", "gret"], toy)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "Hello, Ada\n", "")
    assert "\n  greet         Greet a person\n" in execute(["-m", "ebbtide", "--help"], toy).stdout
    assert "Name of the person" in execute(["-m", "ebbtide", "greet", "--help"], toy).stdout
    assert unknown.returncode == 2
    assert "unexpected argument x" in unknown.stderr
    assert "did you mean greet" in close.stderr
    assert execute(["-m", "ebbtide", "greet"]).returncode == 2


def test_a_package_adds_paths_of_the_api(toy: Path) -> None:
    ran = execute(["-c", SERVE], toy)
    assert ran.returncode == 0, ran.stderr

    answers = json.loads(ran.stdout)
    own_error = ["detail", "status", "title", "type"]
    assert answers["greeting"] == {"greeting": "Hello, Ada, from root"}
    assert answers["errors"] == [[404, own_error], [401, own_error], [404, ["code", "message"]]]
    assert answers["tags"] == ["Run:ai", "Toy", "Ebbtide"]
    assert answers["about"]
    assert {"401", "422", "500", "503"} <= {*answers["statuses"]}
    assert "Refusal" in str(answers["invalid"])


def test_a_broken_package_is_named_in_one_line(install: Callable[..., Path], specs: tuple[Path, Path]) -> None:
    broken = install(
        "ebbtide-toy",
        "import nothing_of_this_name",
        readers="toy = ebbtide_toy:READER",
        commands="greet = ebbtide_toy",
    )
    fine = execute(["-m", "ebbtide", "render", str(specs[0])], broken)
    listed = execute(["-m", "ebbtide", "--help"], broken)

    # A native spec does not need the package.
    assert (fine.returncode, fine.stderr) == (0, "")
    assert "\n  greet         Unavailable: the package ebbtide-toy is broken\n" in listed.stdout
    for words, group in ((["check", str(specs[1])], "readers"), (["greet"], "commands")):
        ran = execute(["-m", "ebbtide", *words], broken)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert re.fullmatch(
            rf"ebbtide: error: the package ebbtide-toy registers \w+ in ebbtide.{group}, which cannot be used: "
            r"ModuleNotFoundError: No module named 'nothing_of_this_name'; .* pip uninstall ebbtide-toy\n",
            ran.stderr,
        )
    krm = execute(["-m", "ebbtide.cli.author.krm"], broken)
    assert krm.returncode == 0


CACHES: Final = (
    plugins.list_own,
    plugins.list_added,
    load_added_readers,
    list_families,
    gpu.load_added_backends,
)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Part]]:
    """Return a function that registers a part of a module in this process, as if its package were installed."""
    backends = dict(gpu.BACKENDS)
    parts: list[Part] = []

    def registered(source: str, group: str, target: str, name: str = "toy") -> Part:
        module = ModuleType("ebbtide_toy")
        exec(source, module.__dict__)  # noqa: S102 - text of this file and of the pages
        monkeypatch.setitem(sys.modules, "ebbtide_toy", module)
        parts.append(Part(group, name, target, f"ebbtide-toy{len(parts) or ''}"))
        monkeypatch.setattr(plugins, "list_added", lambda named: tuple(part for part in parts if part.group == named))
        return parts[-1]

    for function in CACHES:
        function.cache_clear()
    yield registered
    for function in CACHES:
        function.cache_clear()
    gpu.BACKENDS.clear()
    gpu.BACKENDS.update(backends)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("ebbtide_toys:READER", "ModuleNotFoundError: No module named 'ebbtide_toys'"),
        ("ebbtide_toy:MISSING", "AttributeError: module 'ebbtide_toy' has no attribute 'MISSING'"),
        ("ebbtide_toy:HELP", "ebbtide_toy:HELP must be a Reader, not a str"),
    ],
)
def test_a_part_of_a_package_is_what_its_group_needs(register: Callable[..., Part], target: str, reason: str) -> None:
    part = register(MODULE, plugins.READERS, target)

    with pytest.raises(PluginError, match=f"ebbtide-toy registers toy in ebbtide.readers.*{reason}"):
        part.load(Reader)


def test_a_command_of_a_package_has_help_and_options(register: Callable[..., Part]) -> None:
    register("HELP = 'x'", plugins.COMMANDS, "ebbtide_toy")

    with pytest.raises(PluginError, match="ebbtide_toy has no OPTIONS"):
        load_command("toy")


def test_a_server_does_not_start_with_a_broken_package(register: Callable[..., Part]) -> None:
    register("", plugins.READERS, "ebbtide_toy:READER")

    with pytest.raises(PluginError, match="ebbtide-toy"):
        make_app(serving.inhabited()[1], ServerSettings())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('"/api/toy/", router', '"/toy/", router'), "its prefix /toy/ must start with /api/"),
        (('"/api/toy/", router', '"/api/ebbtide/toy/", router'), "must start with /api/, and not with /api/ebbtide/"),
        (('"/api/toy/", router', '"/api/", router'), "another router has the prefix /api/"),
        (('"/api/toy/greeting"', '"/api/v1/greeting"'), "its path /api/v1/greeting must start with /api/toy/"),
        (('"Greetings."},)', '"Greetings."},), open_paths=("/api/v1/x",)'), "must be a path of its router"),
    ],
)
def test_paths_of_a_package_cannot_replace_those_of_another(
    register: Callable[..., Part], change: tuple[str, str], reason: str
) -> None:
    register(MODULE.replace(*change), plugins.ROUTERS, "ebbtide_toy:FAMILY")

    with pytest.raises(PluginError, match=f"ebbtide-toy.*{reason}"):
        list_families()


def test_a_command_of_a_package_cannot_replace_one_of_ebbtide(register: Callable[..., Part]) -> None:
    for name in ("render", "submit", "greet", "greet"):
        register(MODULE, plugins.COMMANDS, "ebbtide_toy", name)

    for name, module in (("render", "ebbtide.cli.author.render"), ("submit", "ebbtide.runai.submit")):
        command = load_command(name)
        assert command is not None
        assert command.__name__ == module
    with pytest.raises(PluginError, match=r"ebbtide-toy3 registers greet in ebbtide.commands.*ebbtide-toy2 registers"):
        load_command("greet")


def test_a_reader_of_a_package_reads_what_ebbtide_does_not(register: Callable[..., Part]) -> None:
    source = "from ebbtide.core.readers.reading import Reader, Reading\n"
    source += "READER = Reader(lambda _: True, lambda data, _: Reading(data))"
    register(source, plugins.READERS, "ebbtide_toy:READER")
    profile = profiles.load_built_in()
    native = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": "chat"}}
    bodies = ({"name": "chat", "projectId": "a", "spec": {}}, {"metadata": {"name": "chat"}, "spec": {}})

    assert load_document({"kind": "Toy"}, profile).reading.native == {"kind": "Toy"}
    for data in (native, *bodies):
        assert load_document(data, profile).reading.native["kind"] == "Inference"


def test_the_part_of_a_removed_package_does_not_exist(
    register: Callable[..., Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = register(MODULE, plugins.COMMANDS, "ebbtide_toy", "greet")
    monkeypatch.setitem(plugins.OWN, plugins.COMMANDS, {"submit": "ebbtide.removed.submit"})

    assert plugins.list_own(plugins.COMMANDS) == ()
    assert plugins.find_part(plugins.COMMANDS, "greet") == part
    assert "submit" not in dict(list_commands())
    with pytest.raises(PluginError, match=r"submit needs ebbtide.removed.submit"):
        load_command("submit")


POOL: Final = """
apiVersion: ebbtide.dev/v1alpha1
kind: Profile
metadata: {name: toy}
spec:
  nodePools:
    - {name: default, backend: vgpu, devices: 1, nodes: 1, product: Toy, replicas: 4}
"""


def test_a_package_adds_a_gpu_backend(install: Callable[..., Path], specs: tuple[Path, Path], tmp_path: Path) -> None:
    source = find_block("docs/add-a-gpu-backend.md", "python", "Backend(")
    package = install("ebbtide-toy", source, backends="vgpu = ebbtide_toy:BACKEND")
    profile = tmp_path / "profile.yaml"
    profile.write_text(POOL)
    specs[0].write_text(NATIVE.replace("{image", "{compute: {gpuPortionRequest: 0.25}, image"))
    words = ["-m", "ebbtide", "render", "--profile", str(profile), str(specs[0])]
    rendered, unknown = execute(words, package), execute(words)

    assert (rendered.returncode, rendered.stderr) == (0, "")
    assert "example.com/vgpu: '1'" in rendered.stdout.replace('"', "'")
    assert unknown.returncode == 1
    assert "invalid backend 'vgpu': must be one of devices, kai, hami, mig, time-slicing, mps, dra\n" in unknown.stderr
    assert '"vgpu"' in execute(["-m", "ebbtide", "schema", "profile"], package).stdout
    # Other processes of a server get the profile without a validation.
    program = (
        "import sys; from ebbtide.core.translation import gpu; print(gpu.BACKENDS['vgpu'].name, [*gpu.BACKENDS][-1])"
    )
    assert execute(["-c", program], package).stdout == "vgpu vgpu\n"


def test_a_gpu_backend_gets_its_row_when_it_is_named(register: Callable[..., Part]) -> None:
    register(
        find_block("docs/add-a-gpu-backend.md", "python", "Backend("), plugins.BACKENDS, "ebbtide_toy:BACKEND", "vgpu"
    )

    assert "vgpu" not in gpu.BACKENDS
    assert gpu.is_backend("vgpu")
    assert not gpu.is_backend("other")
    assert not gpu.is_backend(["vgpu"])
    assert [*gpu.list_backends()][-1] == "vgpu"
    assert gpu.BACKENDS["vgpu"].title == "Virtual GPUs"
    with pytest.raises(KeyError):
        gpu.BACKENDS["other"]


def test_a_gpu_backend_has_a_name_of_its_own(register: Callable[..., Part]) -> None:
    register(find_block("docs/add-a-gpu-backend.md", "python", "Backend("), plugins.BACKENDS, "ebbtide_toy:BACKEND")

    with pytest.raises(PluginError, match="the name vgpu of the backend must be toy"):
        gpu.list_backends()


@pytest.fixture(params=["runai", "sandbox"])
def removed(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return RUNAI if request.param == "runai" else SANDBOX


def call(removed: tuple[str, ...], *words: str) -> Run:
    program = f"{WITHOUT}\nfrom ebbtide.cli import main\nsys.exit(main(sys.argv[1:]))"
    return execute(["-c", program, ",".join(removed), *words])


def test_the_commands_work_without_an_optional_part(removed: tuple[str, ...], specs: tuple[Path, Path]) -> None:
    plain = execute(["-m", "ebbtide", "render", str(specs[0])])
    helped, checked, rendered = (
        call(removed, "--help"),
        call(removed, "check", str(specs[0])),
        call(removed, "render", str(specs[0])),
    )

    assert (helped.returncode, checked.returncode, rendered.returncode) == (0, 0, 0)
    assert rendered.stdout == plain.stdout
    assert (" submit, diff" in helped.stdout) == (removed is SANDBOX)


def test_the_server_works_without_an_optional_part(removed: tuple[str, ...]) -> None:
    program = f"""{WITHOUT}
from unittest.mock import MagicMock
from ebbtide.server.api.app import make_app
from ebbtide.server.api.errors import make_error_response
from ebbtide.server.api.gate import ServerSettings
from ebbtide.server.web.routes import make_router
from starlette.exceptions import HTTPException

backend = MagicMock()
make_app(backend, ServerSettings(), [make_router(backend, secure=False, one_time_key=None)])
print(make_error_response("/api/v1/workloads", HTTPException(404)).body.decode())
"""
    ran = execute(["-c", program, ",".join(removed)])

    assert ran.returncode == 0, ran.stderr
    assert ("urn:ebbtide:missing" in ran.stdout) == (removed is RUNAI)


@pytest.mark.parametrize(
    ("parts", "words", "message"),
    [
        (RUNAI, ["submit", "chat"], "submit needs ebbtide.runai.submit, which this installation does not contain"),
        (RUNAI, ["submit", "--help"], "submit needs ebbtide.runai.submit, which this installation does not contain"),
        (SERVER, ["serve"], "serve needs ebbtide.server, which this installation does not contain"),
        (SERVER, ["open"], "open needs ebbtide.server, which this installation does not contain"),
        (SANDBOX, ["--demo", "list"], "--demo needs ebbtide.sandbox.demo, which this installation does not contain"),
        (SANDBOX, ["serve", "--demo"], "--demo needs ebbtide.sandbox.demo, which this installation does not contain"),
        (SANDBOX, ["--demo", "serve"], "--demo needs ebbtide.sandbox.demo, which this installation does not contain"),
    ],
)
def test_a_removed_part_is_named_with_the_way_to_get_it(parts: tuple[str, ...], words: list[str], message: str) -> None:
    ran = call(parts, *words)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"ebbtide: error: {message}: reinstall the wheel\n"


def test_a_native_spec_is_rendered_without_a_look_at_the_metadata(specs: tuple[Path, Path]) -> None:
    program = "import sys\nfrom ebbtide.cli import main\nmain(sys.argv[1:])\nprint('importlib.metadata' in sys.modules)"

    ran = execute(["-c", program, "render", str(specs[0])])

    assert ran.stdout.endswith("\nFalse\n")
