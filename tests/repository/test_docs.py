"""Tests of the documents: specs translate, commands print the documented output, links have a target.

In a ``console`` block, each line after ``$`` is a command. Commands of ``ebbtide`` run, and their output is compared with
the following lines. A line of three dots stands for any lines, and ``…`` at the end of a line for its rest.
``pytest tests/repository/test_docs.py --accept`` rewrites the output of blocks without such marks.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ebbtide.cli import COMMANDS, DEMO, list_flags, main
from ebbtide.core import manifests
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.translation import gpu, quotas
from ebbtide.server.api import errors
from matrix import ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "kustomize/**/*.md", "overlays/**/*.md", "e2e/*.md")
    for page in ROOT.glob(pattern)
)
MODULES = [
    str(file.relative_to(ROOT))
    for folder in ("platform", "tests", "tools", "e2e")
    for file in (ROOT / folder).rglob("*.py")
]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"`[^`\n]*`")
ELISION = "..."
CUT = "…"
REFUSED = "refused"
MAX_README_WORDS = 900
MAX_GUIDE_WORDS = 45_000


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    info: list[str]
    body: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in FENCE.finditer(text):
        yield Block(page, text.count("\n", 0, match.start()) + 1, match["info"].split(), match["body"])


BLOCKS = [block for page in PAGES for block in blocks(page)]
SPECS = [block for block in BLOCKS if block.info[:1] == ["yaml"] and "kind: Inference\n" in block.body]
CONSOLES = [block for block in BLOCKS if block.info[:1] == ["console"]]


@pytest.mark.parametrize("block", SPECS, ids=lambda block: block.name)
def test_a_spec_translates_or_is_marked_as_refused(block: Block) -> None:
    batch = Batch(profiles.load_built_in("full"))
    problems = []
    for document in manifests.read_documents(block.body, block.name):
        loaded = load_document(
            document.data, batch.profile, name=document.name, line=document.line, problems=document.problems
        )
        problems += batch.add_document(loaded)[2]
    errors = [f"{problem.code} {problem.path}" for problem in problems if problem.severity == "error"]

    assert bool(errors) == (REFUSED in block.info), errors


@pytest.mark.parametrize("block", CONSOLES, ids=lambda block: block.name)
def test_a_command_prints_the_documented_output(block: Block, *, accept: bool) -> None:
    transcript = ""
    for command, expected in steps(block.body):
        transcript += f"$ {command}\n"
        if not command.startswith("ebbtide "):
            transcript += expected
            continue
        output = run(command)
        if accept and not matches(expected, output) and not marked(expected):
            transcript += output
            continue
        transcript += expected

        assert matches(expected, output), f"{block.name}: $ {command}\nprints now:\n{output}"
    if accept and transcript != block.body:
        text = block.page.read_text()
        block.page.write_text(text.replace(block.body, transcript))


def test_the_tested_schedulers_are_those_of_the_suite(*, accept: bool) -> None:
    """A backend states where the end-to-end tests run it; the suite's modules have that version, and the page the same."""
    pins = "".join(file.read_text() for file in (ROOT / "e2e" / "modules").glob("*/go.mod"))
    tested = [row.tested for row in gpu.BACKENDS.values()] + [row.tested for row in quotas.QUOTA_BACKENDS.values()]
    versions = {text.rpartition(" ")[2] for text in tested if text}
    assert [version for version in versions if f" v{version}" not in pins] == []

    page = ROOT / "docs" / "choose-a-gpu-backend.md"
    lines = page.read_text().splitlines()
    names = re.findall(r"`([^`]+)`", next(line for line in lines if line.startswith("| | `")))
    place = next(place for place, line in enumerate(lines) if line.startswith("| Tested on a real scheduler |"))
    cells = [gpu.BACKENDS[name].tested or "rules only" for name in names]
    row = f"| Tested on a real scheduler | {' | '.join(cells)} |"
    if accept:
        lines[place] = row
        page.write_text("\n".join(lines) + "\n")

    assert lines[place] == row


def written_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the commands of ``ebbtide`` in blocks that do not run, with their place."""
    for block in BLOCKS:
        if block.info[:1] not in (["sh"], ["text"]):
            continue
        body = re.sub(r"\\\n\s*", " ", block.body)
        for line in body.splitlines():
            for part in re.split(r"\||&&", line.removeprefix("$ ").partition("   #")[0]):
                words = shlex.split(part.replace("…", "x"), comments=True) if "ebbtide " in part else []
                program = words[:1] == ["ebbtide"] or words[:2] == ["kubectl", "inference"]
                if program and "usage:" not in part:
                    yield block.name, words[1:] if words[0] == "ebbtide" else words[2:]


@pytest.mark.parametrize(("place", "words"), list(written_commands()), ids=str)
def test_a_written_command_has_the_flags_of_its_command(place: str, words: list[str]) -> None:
    words = words[: words.index("--")] if "--" in words else words
    command, *rest = [word for word in words if word != DEMO]
    names = {name for name, _, _ in COMMANDS}
    if command.startswith("-"):
        assert command in {"--version", "--help"}, place
        return
    assert command in names, place
    given = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"}
    known = {*list_flags(command), "-h"}
    # Switches of one letter may be joined, as in -it.
    joined = {flag for flag in given if re.fullmatch(r"-[a-z]{2,}", flag) and {f"-{one}" for one in flag[1:]} <= known}
    assert given - known - joined == set(), place


def steps(body: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a block with its expected output."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\"):
            continuation, _, output = output.partition("\n")
            command = f"{command}\n{continuation}"
        yield command, output


#: Characters of a command that only a shell interprets.
OF_A_SHELL = frozenset("|<>&;$`(){}*?~#")


def run(command: str) -> str:
    """Return the output of a command including errors, without colors and local paths."""
    if not OF_A_SHELL & {*command}:
        return call(shlex.split(command.replace("\\\n", ""))[1:])
    script = f'ebbtide() {{ "{sys.executable}" -m ebbtide "$@"; }}\nset -o pipefail\n{command}\n'
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment["PYTHONUTF8"] = "1"
    process = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return process.stdout.decode()


def call(words: list[str]) -> str:
    """Return the output of ``ebbtide`` in this process, in the repository's root and with a plain environment."""
    output = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        for name in [*os.environ]:
            if name.startswith(("EBBTIDE_", "KUBE")):
                patch.delenv(name)
        # The width of a pipe.
        patch.setenv("COLUMNS", "80")
        main(words)
    return output.getvalue()


def marked(expected: str) -> bool:
    return any(line == ELISION or line.endswith(CUT) for line in expected.splitlines())


def matches(expected: str, output: str) -> bool:
    """Return whether an output matches the documented one, in which marks stand for omitted text."""
    pattern = ""
    for line in expected.splitlines():
        if line == ELISION:
            pattern += r"(?:[^\n]*\n)*?"
        elif line.endswith(CUT):
            pattern += re.escape(line.removesuffix(CUT)) + r"[^\n]*\n"
        else:
            pattern += re.escape(line) + r"[ ]*\n"
    return re.fullmatch(pattern, output) is not None


#: Public images of specs in the documentation; any other one is a placeholder.
PUBLIC = (
    "ghcr.io/ggml-org/llama.cpp:",
    "ghcr.io/huggingface/text-embeddings-inference:",
    "ghcr.io/knative/helloworld-go:",
    "nvcr.io/nim/meta/llama-3.1-8b-instruct:",
    "nvcr.io/nvidia/tritonserver:",
    "vllm/vllm-openai:",
)


def test_an_image_is_public_or_a_placeholder() -> None:
    form = ROOT / "platform" / "ebbtide" / "server" / "web" / "examples"
    specs = [*ROOT.glob("examples/*/spec.*"), *ROOT.glob("docs/specs/*.yaml"), *form.glob("*.yaml")]
    specs += [block.page for block in SPECS]
    unknown = {
        f"{file.relative_to(ROOT)}: {image}"
        for file in specs
        for image in re.findall(r"^\s*(?:- )?\"?image\"?: \"?([^\s\",{]+)", file.read_text(), re.MULTILINE)
        if not image.startswith((*PUBLIC, "registry.example.com/"))
    }

    assert unknown == set()


def test_the_reference_is_up_to_date() -> None:
    process = subprocess.run(
        [sys.executable, ROOT / "tools" / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_have_a_target(page: Path) -> None:
    broken = []
    for match in LINK.finditer(CODE.sub("", FENCE.sub("", page.read_text()))):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(match["target"])

    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings in GitHub's format."""
    slugs = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        slugs.add(text.replace(" ", "-"))
    return slugs


def test_a_spec_on_a_page_equals_the_file_that_it_names() -> None:
    for block in SPECS:
        named = [word for word in block.info if word.endswith(".yaml")]
        for name in named:
            # Without the line for editors, which is of no use on a page.
            text = re.sub(r"\A# yaml-language-server: .*\n", "", (ROOT / name).read_text())
            assert block.body == text, f"{block.name} and {name}"


def section(title: str) -> str:
    """Return a section of CONTRIBUTING.md."""
    return (ROOT / "CONTRIBUTING.md").read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_recipes_list_existing_files() -> None:
    titles = ("Add a GPU backend", "Add a metric", "Add a spec field", "Add a command", "Add a page")
    for title in titles:
        paths = re.findall(r"`((?:platform|tests|kustomize|docs)/[\w./-]+)`", section(title))
        assert paths, title
        assert [path for path in paths if not (ROOT / path).exists()] == [], title


def test_the_pages_that_people_read_stay_short() -> None:
    """Reference, decisions and studies are looked up. A figure that helps no decision belongs to a study."""
    guides = [page for page in (ROOT / "docs").rglob("*.md") if page.parent.name not in {"reference", "adr", "studies"}]

    assert len((ROOT / "README.md").read_text().split()) <= MAX_README_WORDS
    assert sum(len(page.read_text().split()) for page in guides) <= MAX_GUIDE_WORDS


def test_the_first_page_of_contributors_is_one_screen_of_existing_paths() -> None:
    text = (ROOT / "AGENTS.md").read_text()
    paths = re.findall(r"\b(?:platform|tests|docs|e2e|tools)/[\w./-]*\w", text)
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert {word for words in re.findall(r"`make ([a-z -]+)", text) for word in words.split()} <= targets
    assert len(text.splitlines()) <= 50


#: Paths of the repository, and names of its modules in backticks. Upstream's paths begin with other folders.
WRITTEN_PATH = re.compile(
    r"(?<![\w./-])(?:platform|tests|tools|e2e|kustomize|overlays)/[\w./-]*\w(?![\w./-]*<)|(?<=`)[\w/]+\.py(?=`)"
)
PROSE_PAGES = [page for page in PAGES if page.parent == ROOT or "docs" in page.relative_to(ROOT).parts]


@pytest.mark.parametrize("page", PROSE_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_paths_on_a_page_exist(page: Path) -> None:
    text = re.sub(r"\]\([^)]*\)", "]", FENCE.sub("", page.read_text()))
    missing = {
        path
        for path in WRITTEN_PATH.findall(text)
        if not (ROOT / path).exists() and not any(f"/{module}".endswith(f"/{path}") for module in MODULES)
    }

    assert missing == set()


def test_the_recipe_for_a_spec_field_lists_every_module_that_names_one() -> None:
    listed = set(re.findall(r"`(platform/[\w./-]+\.py)`", section("Add a spec field")))
    named = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "platform").rglob("*.py")
        if re.search(
            r"workingDir|working[_-]dir", file.read_text()
        )  # The second one lists Kubernetes' own fields of a container.
        and file.name not in {"_compiled.py", "containers.py"}
    }

    assert listed == named


def test_the_pages_contain_no_local_path() -> None:
    for page in PAGES:
        for word in ("/home/", "/work/", "/tmp/", "/root/"):  # noqa: S108 - words to search for
            assert word not in page.read_text(), f"{page.relative_to(ROOT)} has {word}"


def test_security_lists_the_connections_of_every_command() -> None:
    rows = re.findall(r"^\| (`.*`) \| (.*) \| .* \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    connected = {word: where for words, where in rows for word in re.findall(r"`([\w-]+)[^`]*`", words)}
    alone = {
        module.rpartition(".")[2]
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if contract["name"] == "Commands that need no cluster load nothing of one"
        for module in contract["source_modules"]
    }

    assert {*connected} == {name for name, _, _ in COMMANDS} | {"ebbtide-krm"}
    assert {name for name, module, _ in COMMANDS if module in alone} <= {
        name for name, where in connected.items() if where == "none"
    }


def test_the_api_page_lists_every_error_type_with_its_titles() -> None:
    table = (ROOT / "docs" / "api.md").read_text()
    rows = [*(row for _, row in errors.ROWS), *errors.FOR_STATUS.values(), errors.UNFORESEEN]
    missing = [
        row
        for row in rows
        if not re.search(rf"^\| `{row.slug}` \|.*\b{row.status}\b.*\b{row.title}\b", table, re.MULTILINE)
    ]

    assert missing == []


def test_the_api_page_lists_every_path_and_no_other() -> None:
    """A path of the page is absolute, or continues the first path of its row; ``…`` stands for the beginning of it."""
    rows = re.findall(
        r"^\| (`(?:GET|POST|PATCH|DELETE)\b[^|]*) \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE
    )
    written = {
        (method, re.sub(r"\{\w+\}", "{}", path).removeprefix("…"))
        for row in rows
        for spans in re.findall(r"`([^`]+)`", row)
        for path in re.findall(r"[/…]\S+", spans)
        for method in re.findall(r"[A-Z]{3,}", row)
    }
    served = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in ROUTES}

    def is_same(one: tuple[str, str], other: tuple[str, str]) -> bool:
        return one[0] == other[0] and one[1].endswith(other[1])

    assert [route for route in served if not any(is_same(route, place) for place in written)] == []
    paths = {path for _, path in written}
    assert [path for path in paths if not any(is_same(route, (route[0], path)) for route in served)] == []
