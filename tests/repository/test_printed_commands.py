"""Every command that a document or the help prints is run: here on the demo's cluster, or by the test in ``VERDICTS``.

Those of messages and of the page's templates exist, with their flags.

The blocks with the documented output of commands have their own tests (test_docs.py, test_docs_cluster.py). A command that
no row of the table covers fails, as does a row that covers none.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from test_docs import BLOCKS, ROOT

from ebbtide.cli import COMMANDS, list_flags, main
from ebbtide.cli.base import calls, connection
from ebbtide.cluster.client.protocol import NAMESPACE
from ebbtide.core import manifests
from ebbtide.sandbox import demo, gateway, services
from ebbtide.sandbox.store import make_bare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The command runs here, on the demo's cluster, in the order of its page.
RUN: Final = "run"
HELP: Final = "--help"
KAI: Final = "e2e/cases/34-kai/test_kai_shares.py"
#: The place and the command as patterns, and what covers it: ``RUN``, the path of a test, or the reason why nothing runs it.
VERDICTS: Final = (
    (r".*", r"make ", "Makefile"),
    (r".*", r"ebbtide (serve|open)\b", "tests/cli/test_cli_serve.py"),
    (r".*", r"ebbtide quickstart\b", "tests/cli/test_cli_quickstart.py"),
    (r"help", r"ebbtide import ", "tests/runai/test_importing.py"),
    (r"help", r"ebbtide plan ", "tests/cli/test_cli_fleet.py"),
    (r"help", r"ebbtide report ", "tests/cli/test_cli_report.py"),
    (r"help", r"ebbtide mcp", "tests/cli/test_mcp.py"),
    (r"help", r"ebbtide controller", "e2e/cases/28-floor"),
    (r"docs/quickstart-kind\.md", r"ebbtide (call|why) ", "e2e/cases/27-quickstart"),
    (r"docs/install\.md", r"kubectl inference ", "tests/cli/test_cli_usage.py"),
    (r"docs/install\.md", r"kubectl krew ", "tests/repository/test_publish.py"),
    (r"docs/administer\.md", r"kubectl delete -k ", "tests/repository/test_kustomize.py"),
    (r"docs/administer\.md", r"ebbtide project delete ", "tests/cli/test_projects.py"),
    (r"docs/api\.md", r"curl ", "tests/server/test_api_access.py"),
    (r"docs/cold-start\.md", r"kubectl ", "e2e/cases/40-image"),
    (r"docs/controller\.md", r"kubectl ", "e2e/cases/28-floor"),
    (r"docs/gitops\.md", r"kubectl ", "e2e/cases/30-crd"),
    (r"docs/endpoint\.md", r"ebbtide (apply|key|project) ", "tests/cluster/test_project_endpoints.py"),
    (r"docs/endpoint\.md", r"curl ", "It needs a gateway. The end-to-end tests send the same request to one."),
    (r"docs/install\.md", r"helm install ", "tests/repository/test_chart.py"),
    (r"docs/kustomize\.md", r"ebbtide render ", "tests/cli/test_krm.py"),
    (r"docs/language-models\.md", r"ebbtide ", "tests/server/test_language_models.py"),
    (r"docs/language-models\.md", r"kubectl delete deployment ", "e2e/cases/32-llm"),
    # Its spec has a whole GPU, and the demo's default node pool has shares.
    (r"docs/migrate-from-knative\.md", r"ebbtide apply ", "tests/core/test_import.py"),
    # It asks a control plane, and the test has one.
    (r"docs/migrate-from-runai\.md", r"ebbtide import --from runai ", "tests/runai/test_importing.py"),
    (r"docs/(operate|projects)\.md", r"ebbtide |curl ", "tests/repository/test_docs_cluster.py"),
    (r"docs/quickstart\.md", r"kubectl |curl |ebbtide call \w+ --gateway ", "e2e/cases/27-quickstart"),
    (
        r"docs/quickstart\.md",
        r"ebbtide .*\bllm\b",
        "It needs a whole GPU, and the demo's default node pool has shares. test_docs.py translates its spec.",
    ),
    # The first command of the page replays the demo's requests here, which takes long.
    (r"docs/report\.md", r"ebbtide (--demo report -A|report -A --write specs)$", "tests/cli/test_cli_report.py"),
    (r"docs/serve\.md", r"curl ", "tests/cli/test_cli_serve.py"),
    (r"docs/demo\.md", r"curl ", "tests/sandbox/test_shared_demo.py"),
    (r"docs/serve\.md", r"kubectl ", "e2e/cases/23-serve"),
    (r"docs/slo\.md", r"kubectl ", "e2e/cases/21-slo"),
    # The demo has no KAI-Scheduler. The test runs each command of the example's page.
    (r"README\.md|examples/one-gpu-with-kai/README\.md", r"ebbtide .*one-gpu-with-kai|kubectl ", KAI),
    (r"examples/private-registry/README\.md", r"kubectl ", "It needs the user's credentials of a registry."),
    (r".*", r"ebbtide ", RUN),
)
#: Pages with specs of whole GPUs, for which the built-in profile replaces the demo's.
OF_GPUS: Final = ("docs/migrate-from-knative.md", "docs/migrate-from-runai.md")
FENCED: Final = ("sh", "text", "")
#: Specs that a page writes in an earlier step.
WRITTEN: Final = {"embed.yaml": "docs/specs/knative-service.yaml", "iris.yaml": "docs/specs/inference-service.yaml"}


class Printed(NamedTuple):
    """A command, and the page or the help that prints it."""

    place: str
    command: str


class Terminal(io.StringIO):
    """Standard input of a user who confirms."""

    def isatty(self) -> bool:
        return True


def list_printed() -> Iterator[Printed]:
    """Yield every command of the documents and of the help, without its output and its comment."""
    for block in BLOCKS:
        if "".join(block.info[:1]) in FENCED and block.page.name != "CHANGELOG.md":
            for line in re.sub(r"\\\n\s*", " ", block.body).splitlines():
                yield from split_line(str(block.page.relative_to(ROOT)), line.removeprefix("$ "))
    for name, _, _ in COMMANDS:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            main([name, HELP])
        for line in re.findall(r"^ +\$ (.*)$", output.getvalue(), re.MULTILINE):
            yield from split_line("help", line)


def split_line(place: str, line: str) -> Iterator[Printed]:
    """Yield the commands of a line, without redirections."""
    if "usage:" in line or not re.match(r"(ebbtide|kubectl|curl|helm|make|kustomize) ", line):
        return
    for part in re.split(r" (?:\||&&) ", line.partition("   #")[0].partition(" # ")[0].partition(" > ")[0]):
        if re.match(r"(ebbtide|kubectl|curl|helm|make) (?!\()", part):
            yield Printed(place, part.strip())


PRINTED: Final = [*dict.fromkeys(list_printed())]


def find_verdict(printed: Printed) -> str | None:
    return next(
        (
            verdict
            for place, command, verdict in VERDICTS
            if re.fullmatch(place, printed.place) and re.match(command, printed.command)
        ),
        None,
    )


def test_the_help_of_each_command_has_an_example() -> None:
    shown = {printed.command.split()[1] for printed in PRINTED if printed.place == "help"}
    assert shown == {name for name, _, _ in COMMANDS}


def test_every_printed_command_has_a_test_or_a_reason() -> None:
    assert len(PRINTED) > 100
    assert [printed for printed in PRINTED if find_verdict(printed) is None] == []
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for place, command, verdict in VERDICTS:
        assert any(re.fullmatch(place, row.place) and re.match(command, row.command) for row in PRINTED), command
        assert verdict == RUN or verdict.endswith(".") or (ROOT / verdict).exists(), verdict
    made = {word for row in PRINTED if row.command.startswith("make ") for word in row.command.split()[1:]}
    assert {word for word in made if "=" not in word} <= targets
    # The test reads the page of the example, and the README repeats some of its commands.
    of_kai = [row for row in PRINTED if find_verdict(row) == KAI]
    shown = {row.command for row in of_kai if row.place == "README.md"}
    assert shown < {row.command for row in of_kai if row.place != "README.md"}


#: A command in a message, a docstring or a page's template: the words before it mark it as one.
MENTIONED: Final = re.compile(r"(?:\brun |<code>|`)`?ebbtide ([a-z-]+)((?: [^\s<`,;\"'()]+)*)")


def test_every_command_of_a_message_or_a_template_exists_with_its_flags() -> None:
    files = [*(ROOT / "platform").rglob("*.py"), *(ROOT / "platform").rglob("*.html")]
    # A message may be several strings, one on each line.
    texts = [re.sub(r'"\n\s*f?"', "", file.read_text()) for file in (*files, ROOT / "docs/reference/problems.md")]
    mentioned = {(match[1], match[2]) for text in texts for match in MENTIONED.finditer(text)}
    names = {name for name, _, _ in COMMANDS}

    assert len({command for command, _ in mentioned}) > 25
    unknown = []
    for command, words in mentioned:
        flags = {*re.findall(r"(?<= )--?[a-z][a-z-]*", words)}
        known = {*list_flags(command), "-h"} if command in names else set()
        if command not in {*names, "--demo", "--help", "--version"} or not flags <= known:
            unknown.append(f"ebbtide {command}{words}")
    assert unknown == []


#: A command in a message that changes the cluster, with its kind or its first word.
CHANGING: Final = re.compile(
    r"\b(?:kubectl (?:annotate|create|delete|edit|label|patch|replace|rollout|scale|set)|ebbtide (?:delete|rollback|scale|suspend)) "
    r"[^\s<`,;\"'()]+"
)
#: Each of them: the law, or the reason why it takes nothing from what serves.
LAW: Final = "tests/cluster/test_advice_law.py"
HARMLESS: Final = (
    (r"kubectl (delete|annotate) revision", LAW),
    (r"kubectl annotate localmodelnamespacecache", "It touches the cache, and KServe creates the missing claim."),
    (r"kubectl create ", "It creates what is missing."),
    (r"kubectl delete \{kind\}", "With --cascade=orphan, the workload stays."),
    (r"kubectl delete \{kind\.name\.lower", "The spec has no such object, and its service stays."),
    (
        r"kubectl delete deployment",
        "KServe updates it in no other way; the message says that requests fail until then.",
    ),
    (r"kubectl patch \{self", "The settings of a cluster: tests/cluster/test_doctor.py."),
    (r"kubectl patch configmap", "The quickstart sets up an empty cluster."),
    (r"ebbtide delete -y", "The quickstart deletes what it created."),
    (r"ebbtide (delete|rollback|scale|suspend) (NAME|chat|iris|moderate|search)", "Help: the user names the workload."),
    (r"ebbtide scale \{name\}", "The user asked how to suspend it."),
    (r"ebbtide scale --reset", "The user asked for the plan of an apply, and the spec's values return."),
)


def test_a_command_of_a_message_that_changes_the_cluster_takes_nothing_from_what_serves() -> None:
    texts = [file.read_text() for file in (ROOT / "platform").rglob("*.html")]
    for file in (ROOT / "platform").rglob("*.py"):
        # A message may be several strings, one on each line.
        nodes = ast.walk(ast.parse(file.read_text()))
        texts += [ast.unparse(node) for node in nodes if isinstance(node, (ast.JoinedStr, ast.Constant))]
    printed = {match[0] for text in texts for match in CHANGING.finditer(text)}
    assert [text for text in sorted(printed) if not any(re.match(row, text) for row, _ in HARMLESS)] == []
    for row, reason in HARMLESS:
        assert any(re.match(row, text) for text in printed), row
        assert reason.endswith(".") or (ROOT / reason).exists(), reason


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the files that the commands name."""
    path = tmp_path
    for name in ("examples", "overlays"):
        (path / name).symlink_to(ROOT / name)
    (path / "specs").mkdir()
    (path / "manifests").mkdir()
    for name in ("canary", "chat", "hello", "llm", "promoted"):
        shutil.copy(ROOT / "docs" / "specs" / f"{name}.yaml", path)
    shutil.copy(ROOT / "docs" / "specs" / "chat.yaml", path / "specs")
    (path / "profile.yaml").write_text(manifests.write_document(services.PROFILE))
    for name, source in WRITTEN.items():
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            assert main(["convert", "--to", "native", "--profile", "full", str(ROOT / source)]) == 0
        (path / name).write_text(output.getvalue())
    return path


@contextlib.contextmanager
def demonstrated(namespace: str) -> Iterator[None]:
    """Let commands run on one cluster of the demo, which stays between them, with a default namespace."""
    world = services.demo_world(hours=demo.HOURS)
    world.cluster.namespace = namespace
    # The project of some pages, without workloads.
    world.cluster.put(make_bare(NAMESPACE, "shop"))
    with world.running(), gateway.serve_gateway(world) as address, pytest.MonkeyPatch.context() as patch:
        chosen = connection.SimulatedConnection(
            world.cluster, world.source, world.clock, address, services.demo_profile(), services.PROFILE
        )
        patch.setattr(connection, "simulated", chosen)
        patch.setattr(calls, "resolves", lambda _: True)
        yield


@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir()))
def test_an_example_passes_check_without_a_warning(
    example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader names the folder and nothing else, so its profile is the one in it."""
    monkeypatch.delenv("EBBTIDE_PROFILE", raising=False)
    monkeypatch.chdir(ROOT)
    code = main(["check", "-o", "json", f"examples/{example}/"])

    assert json.loads(capsys.readouterr().out) == []
    assert code == 0


PAGES: Final = [*dict.fromkeys(row.place for row in PRINTED if find_verdict(row) == RUN)]


@pytest.mark.parametrize("place", PAGES)
def test_the_commands_of_a_page_run_in_its_order(place: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("EBBTIDE_", "KUBE")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    lines = [shlex.split(row.command)[1:] for row in PRINTED if row.place == place and find_verdict(row) == RUN]
    lines = [[word for word in line if word != "--demo"] for line in lines]
    needs_cluster = any("--kubeconfig" in list_flags(line[0]) for line in lines)
    # The specs of the quickstart have no project.
    namespace = "default" if place == "docs/quickstart.md" else demo.NAMESPACE
    with demonstrated(namespace) if needs_cluster else contextlib.nullcontext():
        for command, *words in lines:
            # The pages begin with the profile of the reader's cluster. An example has its own.
            own = not place.startswith("docs/") or any(word.startswith("examples/") for word in words)
            monkeypatch.setenv("EBBTIDE_PROFILE", "" if own else "full" if place in OF_GPUS else "profile.yaml")
            if command == "new" and "-o" not in words:
                (folder / f"{words[0]}.yaml").unlink(missing_ok=True)
            named = [path for word in words for path in (sorted(folder.glob(word)) if "*" in word else [word])]
            output = io.StringIO()
            monkeypatch.setattr(sys, "stdin", Terminal("y\n" * 9))
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                code = main([command, *map(str, named)])
            # With code 4, diff and slo report differences. The image of one spec does not exist.
            expected = (
                {0, 4}
                if command in {"diff", "slo"}
                else {3}
                if words[-1:] == ["typo.yaml"] and command == "apply"
                else {0}
            )
            assert code in expected, f"$ {command} {words}\n{output.getvalue()}"
