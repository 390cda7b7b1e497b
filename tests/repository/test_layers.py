"""The pure core stays pure: what is imported, and what is not, seen from a fresh process."""

from __future__ import annotations

import ast
import json
import platform
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ebbtide.core.readers import compiled

if TYPE_CHECKING:
    from collections.abc import Collection

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "platform"
PACKAGE = SOURCE / "ebbtide"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: Each tier, and the tiers that it may import.
TIERS: dict[str, set[str]] = {
    "core": set(),
    "simulator": {"core"},
    "cluster": {"core", "simulator"},
    "server": {"core", "simulator", "cluster"},
    "cli": {"core", "simulator", "cluster", "server"},
    "runai": {"core", "simulator", "cluster", "server", "cli"},
    "sandbox": {"core", "simulator", "cluster", "server", "cli"},
}
#: Maximum numbers of lines. The generated schema is data.
MAX_LINES = 900
MAX_CLASS_LINES = 400
MAX_FUNCTION_LINES = 80
MAX_README_LINES = 12
GENERATED = PACKAGE / "core" / "readers" / "_compiled.py"
#: The layers from the spec to explain: no client, no YAML, no command line.
CORE = (
    "ebbtide.core.translation.translate",
    "ebbtide.core.documents.explain",
    "ebbtide.core.documents.check",
    "ebbtide.core.documents",
    "ebbtide.core.adopt.live",
    "ebbtide.core.documents.profiles",
)
#: Packages that the core may import in addition to the standard library.
ALLOWED = {
    "ebbtide",
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "typing_extensions",
    "typing_inspection",
}
#: Of the standard library, what a pure function has no use for: processes, sockets, the network, temporary files.
IMPURE = {"socket", "subprocess", "ssl", "http.client", "urllib.request", "tempfile", "argparse", "asyncio"}


class Source(NamedTuple):
    """Facts of a module that the tests read in its source, from one parse of it."""

    docstring: str | None
    #: Of each import, those inside functions too: the module after ``from``, and the names.
    imports: list[tuple[str | None, list[str]]]
    #: The lines of each class and function, and their maximum.
    definitions: list[tuple[str, int, int]]
    #: True if an import is relative.
    relative: bool


@cache
def read_source(path: Path) -> Source:
    tree = ast.parse(path.read_text())
    source = Source(ast.get_docstring(tree), [], [], relative=False)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            source.imports.append((None, [alias.name for alias in node.names]))
        elif isinstance(node, ast.ImportFrom):
            source = source._replace(relative=source.relative or node.level > 0)
            source.imports.append((node.module, [alias.name for alias in node.names]))
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            limit = MAX_CLASS_LINES if isinstance(node, ast.ClassDef) else MAX_FUNCTION_LINES
            source.definitions.append((node.name, (node.end_lineno or 0) - node.lineno, limit))
    return source


@cache
def loaded_by(program: str) -> frozenset[str]:
    """The modules that a program leaves loaded, less those of an empty one."""
    counted = f"{program}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", counted], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = frozenset(json.loads(ran.stderr.splitlines()[-1]))
    return loaded - loaded_by("") if program else loaded


def test_the_source_root_is_no_package() -> None:
    """With an __init__.py, it would shadow the standard library's module of the same name."""
    assert not (SOURCE / "__init__.py").exists()
    assert platform.system() in {"Linux", "Darwin", "Windows"}
    assert Path(platform.__file__).name == "platform.py"


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_pydantic_and_the_standard_library_only(module: str) -> None:
    loaded = {name.partition(".")[0] for name in loaded_by(f"import {module}")}

    assert "ebbtide" in loaded
    # Python's own table of how it was built has a name of the platform's.
    loaded = {name for name in loaded if not name.startswith("_sysconfigdata")}
    assert loaded - ALLOWED - sys.stdlib_module_names == set()


@pytest.mark.parametrize(
    "module",
    [
        "ebbtide.core.translation.translate",
        "ebbtide.core.documents.check",
        "ebbtide.core.documents",
        "ebbtide.core.adopt.live",
    ],
)
def test_the_core_imports_nothing_impure_and_not_pydantic_itself(module: str) -> None:
    loaded = loaded_by(f"import {module}")

    assert module in loaded
    assert loaded & IMPURE == set()
    assert "pydantic" not in loaded


def test_the_command_line_parses_without_the_translation() -> None:
    """``--version``, ``--help`` and a wrong command answer before anything that they do not need is loaded."""
    loaded = loaded_by("from ebbtide.cli import main\nmain(['--version'])")

    assert {name for name in loaded if name.startswith("ebbtide.")} == {
        "ebbtide.core",
        "ebbtide.core.base",
        "ebbtide.core.base.plugins",
        "ebbtide.core.base.prose",
        "ebbtide.cli",
        "ebbtide.cli.base",
        "ebbtide.cli.base.options",
        "ebbtide.cli.base.streams",
        "ebbtide.core.profile",
        "ebbtide.core.profile.built_in",
    }


def test_the_autoscalers_import_the_standard_library_only() -> None:
    loaded = loaded_by("from ebbtide.core.autoscaler import activator, hpa, metrics, reconciler")

    assert "ebbtide.core.autoscaler.windows" in loaded
    own = {name for name in loaded if name.startswith("ebbtide.") and not name.startswith("ebbtide.core.autoscaler")}
    assert own == {"ebbtide.core"}
    assert {name.partition(".")[0] for name in loaded} - {"ebbtide"} - sys.stdlib_module_names == set()


def test_the_core_reads_no_clock_and_no_environment() -> None:
    """Only the command line, the server and the cluster packages read them; a translation depends only on its arguments."""
    impure = {"os", "time", "datetime", "random", "secrets", "uuid", "getpass", "locale"}
    # A calendar, and a date in a text, with the time as an argument.
    exempt = {PACKAGE / "core" / "autoscaler" / "schedule.py", PACKAGE / "simulator" / "fleet" / "savings.py"}
    guilty = {
        str(path.relative_to(SOURCE)): sorted(names)
        for path in MODULES
        if path not in exempt and path.relative_to(PACKAGE).parts[0] in {"core", "simulator"}
        for names in [imported(path) & impure]
        if names
    }

    assert guilty == {}


def imported(path: Path) -> set[str]:
    """The top-level names of all imports in a file, those inside functions too."""
    return {
        name.partition(".")[0]
        for module, names in read_source(path).imports
        for name in ([module] if module else names)
    }


def test_render_needs_neither_pydantic_nor_argparse_s_friends() -> None:
    """The compiled schema is for that; the installed pydantic_core reads it as it is meant."""
    example = ROOT / "examples" / "one-liner" / "spec.yaml"
    program = (
        f"import sys\nfrom ebbtide.cli import main\ncode = main(['render', {str(example)!r}])\nassert code == 0, code"
    )

    loaded = loaded_by(program)

    assert compiled.is_compatible()
    for module in (
        "pydantic",
        "pydantic_core",  # only its extension is loaded
        "yaml",
        "kubernetes",
        "fastapi",
        "numpy",
        "jinja2",
        "requests",
        "ebbtide.core.documents.explain",
        "ebbtide.core.documents.problem_texts",
        "ebbtide.core.readers.table",
        "ebbtide.core.adopt",
    ):
        assert module not in loaded


def test_the_options_of_all_commands_load_nothing_of_a_cluster() -> None:
    """Completion and help must not wait for a client."""
    loaded = loaded_by("from ebbtide.cli import make_parser\nmake_parser()")

    assert "ebbtide.cli.run.apply" in loaded
    assert not {
        name for name in loaded if name.startswith(("ebbtide.cluster", "ebbtide.sandbox", "kubernetes", "urllib3"))
    }


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for type checkers and those inside functions count, too."""
    paths = {_module(path): path for path in MODULES}
    graph = {name: _imported_modules(path, paths.keys()) for name, path in paths.items()}

    assert len(graph["ebbtide.cli.operate.serve"]) > 5
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def _module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def _imported_modules(path: Path, modules: Collection[str]) -> set[str]:
    """The package's own modules that a file imports anywhere; of ``from package import module`` it is the module."""
    assert not read_source(path).relative, f"{path}: a relative import"
    imports: set[str] = set()
    for module, names in read_source(path).imports:
        if module is None:
            imports.update(names)
        else:
            inner = {f"{module}.{name}" for name in names}
            imports |= {name if name in modules else module for name in inner}
    return imports.intersection(modules) - {_module(path)}


def test_the_sandbox_is_imported_by_a_benchmark_and_the_pictures_alone() -> None:
    outside = [path for path in MODULES if "sandbox" not in path.relative_to(SOURCE).parts]
    outside += [path for folder in ("e2e", "tools") for path in (ROOT / folder).rglob("*.py")]
    importers = {path: functions for path in outside if (functions := _functions_that_import(path, "ebbtide.sandbox"))}

    assert importers == {
        ROOT / "tools" / "bench" / "serve.py": {"serve"},
        ROOT / "tools" / "picture.py": {""},
        ROOT / "tools" / "terminal.py": {""},
    }


def _functions_that_import(path: Path, package: str) -> set[str]:
    """The top-level functions and classes of a file that import of a package; empty text for the file's own imports."""
    functions: set[str] = set()
    text = path.read_text()
    # Most files need no parser.
    if package.rpartition(".")[2] not in text:
        return functions
    for part in ast.parse(text).body:
        imports = [node for node in ast.walk(part) if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [
            name for node in imports for name in (getattr(node, "module", None), *(row.name for row in node.names))
        ]
        if any(f"{name}.".startswith(f"{package}.") for name in names):
            functions.add(getattr(part, "name", ""))
    return functions


def test_serve_on_a_real_cluster_loads_no_sandbox() -> None:
    program = "from ebbtide.cli import main\nassert main(['serve', '--kubeconfig', 'none']) == 3"

    loaded = loaded_by(program)

    assert "ebbtide.server.api.make" in loaded
    assert not {name for name in loaded if name.startswith("ebbtide.sandbox")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    text = read_source(path).docstring

    assert text, "no docstring"
    assert text.splitlines()[0].endswith((".", "!", "?", "``", ":")), text.splitlines()[0]


def test_no_module_of_the_package_is_named_like_one_of_the_standard_library_at_top_level() -> None:
    """sys.path contains the source root, so such a file would shadow it everywhere."""
    top = {path.stem for path in SOURCE.glob("*.py")} | {path.name for path in SOURCE.iterdir() if path.is_dir()}

    assert "ebbtide" in top
    assert top & sys.stdlib_module_names == set()


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_imports_only_the_tiers_below_it(tier: str) -> None:
    """Imports for type checkers and those inside functions count, too."""
    modules = {_module(path): path for path in MODULES}
    imports = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in (PACKAGE / tier).rglob("*.py")
        for name in _imported_modules(path, modules.keys())
        if name.count(".") and name.split(".")[1] not in TIERS[tier] | {tier}
    }

    assert imports == set()


def test_every_folder_of_the_package_is_a_tier_with_a_short_readme() -> None:
    folders = [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]

    assert {path.name for path in folders} == {*TIERS}
    for path in folders:
        lines = (path / "README.md").read_text().splitlines()
        assert lines[0] == f"# {path.name}"
        assert len(lines) <= MAX_README_LINES, path


def test_no_file_class_or_function_is_too_long() -> None:
    long = []
    for path in sorted({*MODULES} - {GENERATED}):
        if len(path.read_text().splitlines()) > MAX_LINES:
            long.append(str(path))
        long += [f"{path}: {name}" for name, lines, limit in read_source(path).definitions if lines >= limit]

    assert GENERATED in MODULES
    assert long == []
