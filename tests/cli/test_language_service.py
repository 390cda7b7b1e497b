"""The JSON Schema of specs in an editor: npm's yaml-language-server, as Visual Studio Code's YAML extension runs it.

Upstream: github.com/redhat-developer/yaml-language-server, microsoft.github.io/language-server-protocol.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from commands import Ran

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tools/language_service/node_modules/yaml-language-server/bin/yaml-language-server"
#: The documents of the examples and pages, without those of other kinds.
SPECS = sorted(
    path
    for pattern in ("examples/*/spec.yaml", "docs/specs/*.yaml")
    for path in ROOT.glob(pattern)
    if "apiVersion: ebbtide.dev/" in path.read_text()
)
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None or not SERVER.exists(), reason="no language service here: make setup-test")


class Editor:
    """A client of the language service, which reads its answers in their order."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._numbers = count(1)
        self.request("initialize", processId=None, rootUri=None, capabilities={})
        self._send(method="initialized", params={})

    def _send(self, **message: Any) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        length = 0
        while line := self._process.stdout.readline().strip():
            length = int(line.removeprefix(b"Content-Length:")) if line.startswith(b"Content-Length:") else length
        assert length, "the language service ended"
        message: dict[str, Any] = json.loads(self._process.stdout.read(length))
        if "id" in message and "method" in message:
            # The settings that it asks for, and the capabilities that it registers: the defaults.
            self._send(id=message["id"], result=[None] * len(message["params"].get("items", ())))
        return message

    def request(self, method: str, **params: Any) -> Any:
        """Return the result of a request."""
        number = next(self._numbers)
        self._send(id=number, method=method, params=params)
        while True:
            message = self._read()
            if message.get("id") == number and "method" not in message:
                assert "error" not in message, message
                return message["result"]

    def open(self, path: Path, text: str) -> list[str]:
        """Open a document, and return the problems that the editor shows in it."""
        document = {"uri": path.as_uri(), "languageId": "yaml", "version": 1, "text": text}
        self._send(method="textDocument/didOpen", params={"textDocument": document})
        while True:
            message = self._read()
            if message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == path.as_uri():
                return [problem["message"] for problem in message["params"]["diagnostics"]]

    def hover(self, path: Path, line: int, character: int) -> str:
        """Return the text that the editor shows under the cursor."""
        position = {"line": line, "character": character}
        answer = self.request("textDocument/hover", textDocument={"uri": path.as_uri()}, position=position)
        return str(answer["contents"]["value"]) if answer else ""


@pytest.fixture(scope="module")
def editor() -> Iterator[Editor]:
    assert NODE is not None
    command = [NODE, str(SERVER), "--stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Editor(process)
        process.kill()


@pytest.fixture
def folder(run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the schema, as ``ebbtide schema`` writes it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.schema.json").write_text(run("schema").out)
    return tmp_path


def test_the_line_of_a_new_spec_gives_it_its_fields(editor: Editor, run: Callable[..., Ran], folder: Path) -> None:
    assert run("new", "chat", "--image", "example.com/chat:1", "--min", "1", "--max", "1").code == 0
    path = folder / "chat.yaml"
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=spec.schema.json\n")
    assert editor.open(path, text) == []
    line = next(number for number, row in enumerate(text.splitlines()) if "minReplicas" in row)
    assert "Minimum replicas" in editor.hover(path, line, 6)


def test_a_wrong_field_is_marked(editor: Editor, folder: Path) -> None:
    text = (
        "# yaml-language-server: $schema=spec.schema.json\napiVersion: ebbtide.dev/v1alpha1\nkind: Inference\n"
        "metadata:\n  name: chat\nspec:\n  image: example.com/chat:1\n  autoscaling:\n    minReplica: 1\n"
    )
    assert editor.open(folder / "wrong.yaml", text) == ["Property minReplica is not allowed."]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_editor_marks_nothing_in_a_spec_of_the_repository(editor: Editor, path: Path) -> None:
    schema, text = ROOT / "docs/reference/spec.schema.json", path.read_text()
    line = text.partition("\n")[0].removeprefix("# yaml-language-server: $schema=")
    if path.name == "spec.yaml":
        assert (path.parent / line).resolve() == schema
    else:
        text = f"# yaml-language-server: $schema={schema.as_uri()}\n{text}"
    assert editor.open(path, text) == []
