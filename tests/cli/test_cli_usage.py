"""The help of the command line, suggestions for typos, colors, and the commands that need no cluster to begin with."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from test_layers import loaded_by

from ebbtide.cli import GROUPS, load_command
from ebbtide.cli.base import streams
from ebbtide.cli.predict import tune
from ebbtide.simulator.traffic import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from commands import Ran


class Terminal(io.StringIO):
    """A stream of a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_help_shows_every_command_in_a_group_on_one_screen(run: Callable[..., Ran], words: tuple[str, ...]) -> None:
    code, out, err = run(*words)

    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("\n") <= 40
    for title, rows in GROUPS:
        part = out.split(f"\n{title}\n")[1].split("\n\n")[0]
        for name, _, text in rows:
            assert (
                f"  {name:<12}  {text}\n" in f"{part}\n" or name in part.partition("also")[2].replace(",", " ").split()
            )
    assert "  list          List workloads\n" in out


@pytest.mark.parametrize("early", [("--profile", "full"), ("--profile=full",)])
def test_options_of_a_cluster_or_a_profile_come_before_the_command_too(
    run: Callable[..., Ran], early: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(
        "apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata: {name: a}\n"
        "spec: {image: a/b:1, servingPort: {container: 8000}, compute: {gpuPortionRequest: 0.25}}\n"
    )

    assert run(*early, "check", file) == run("check", *early, file)
    assert run(*early, "check", file).code == 0
    assert run("check", file).code == 1


@pytest.mark.parametrize("words", [("-o", "json", "list"), ("--context",), ("--wait", "0", "list")])
def test_another_flag_before_the_command_names_its_place(run: Callable[..., Ran], words: tuple[str, ...]) -> None:
    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert f"unknown flag {words[0]} before the command: put it after the command" in err


def test_help_of_a_command_is_that_of_its_flag(run: Callable[..., Ran]) -> None:
    assert run("help", "render") == run("render", "--help")


def test_the_plugin_of_kubectl_has_its_name_in_the_help(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-inference"])

    assert run().out.startswith("usage: kubectl inference [--demo] COMMAND")
    assert "usage: kubectl inference render" in run("render", "--help").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rendr",), "ebbtide: error: unknown command rendr; did you mean render?"),
        (("lst",), "ebbtide: error: unknown command lst; did you mean list?"),
        (("zzz",), "ebbtide: error: unknown command zzz"),
        (("render", "--profle", "full", "x"), "unknown flag --profle; did you mean --profile?"),
        (("list", "--kubeconfg=1"), "unknown flag --kubeconfg; did you mean --kubeconfig?"),
        (("docs", "AUT004", "more"), "ebbtide docs: error: unexpected argument more"),
    ],
)
def test_a_typo_gets_a_suggestion(run: Callable[..., Ran], words: tuple[str, ...], message: str) -> None:
    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert err.startswith(message) or message in err.splitlines()[0]
    assert err.splitlines()[-1].startswith("usage: ebbtide ")


def test_the_help_loads_no_parser_and_no_cluster() -> None:
    loaded = loaded_by("from ebbtide.cli import main\nmain([])")

    assert "ebbtide.cli.base.usage" in loaded
    assert not {
        name for name in loaded if name.startswith(("ebbtide.cluster", "ebbtide.core.spec", "kubernetes", "argparse"))
    }


@pytest.mark.parametrize("words", ["'new', 'a', '--image', 'a/b:1', '-o', '-'", "'call', '--help'", "'open', '--help'"])
def test_the_commands_load_no_client_before_they_connect(words: str) -> None:
    loaded = loaded_by(f"from ebbtide.cli import main\nmain([{words}])")

    assert not {
        name for name in loaded if name.startswith(("ebbtide.cluster", "ebbtide.sandbox", "kubernetes", "numpy"))
    }


@pytest.mark.parametrize("command", ["describe", "delete", "apply"])
def test_the_wide_format_of_kubectl_names_the_list(run: Callable[..., Ran], command: str) -> None:
    code, out, err = run(command, "chat", "-o", "wide")
    options: Any = getattr(load_command(command), "OPTIONS", ())
    formats = next(option for option in options if option.dest == "output").settings["choices"]

    assert (code, out) == (2, "")
    assert err.splitlines()[-1].endswith(
        f"must be one of {', '.join(formats)}; for more columns, run ebbtide list -o wide"
    )


def test_a_terminal_without_colors_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for terminal, colored in (("xterm-256color", True), ("dumb", False)):
        monkeypatch.setenv("TERM", terminal)
        codes = streams.get_style_codes(streams.GuardedStream(Terminal()))  # type: ignore[arg-type] # a stream
        assert (codes["bold"] != "") == colored


@pytest.mark.parametrize(("value", "colored"), [(None, True), ("", True), ("1", False), ("0", False)])
def test_no_color_turns_colors_off(monkeypatch: pytest.MonkeyPatch, value: str | None, *, colored: bool) -> None:
    """https://no-color.org: when present and not an empty string, regardless of its value."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)

    codes = streams.get_style_codes(streams.GuardedStream(Terminal()))  # type: ignore[arg-type] # a stream

    assert (codes["bold"] != "") == colored


def test_the_progress_never_passes_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Terminal()
    monkeypatch.setattr(sys, "stderr", output)
    bar = tune.Progress(2)
    search: Any = SimpleNamespace(best=None)
    for _ in range(3):
        bar.show(search)
    shares = [text.split()[0] for text in output.getvalue().split("\r\x1b[K")[1:]]

    assert shares == ["1/2", "2/2", "3/3"]


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        ("diurnal:1rps..20rps,1h", "covers 1 h of the cycle of 24 h: at most 1.32 of 20 requests/s"),
        ("diurnal:1rps..20rps,18h", "covers 18 h of the cycle of 24 h: at most 20 of 20 requests/s"),
        ("diurnal:1rps..20rps,24h", ""),
        ("diurnal:1rps..20rps,1h,1h", ""),
        ("ramp:1rps..20rps,1h", ""),
        ("requests.csv", ""),
    ],
)
def test_a_part_of_a_day_is_noted(shape: str, note: str) -> None:
    coverage = load.describe_coverage(shape)

    assert note in coverage
    assert bool(note) == bool(coverage)


def test_simulate_prints_the_note(run: Callable[..., Ran]) -> None:
    spec = Path(__file__).parents[2] / "examples" / "concurrency-scale-to-zero" / "spec.yaml"

    assert "covers 1 h of the cycle of 24 h" in run("simulate", spec, "--traffic", "diurnal:1rps..2rps,1h").out


def test_submit_names_the_flags_without_effect_and_explains_the_others(run: Callable[..., Ran]) -> None:
    out = run("submit", "--help").out

    for title in ("Workload:", "Compute:", "Autoscaling:", "Network:", "Storage:", "Security:"):
        assert f"\n{title}\n" in out
    assert "; not supported" not in out
    assert "no effect" not in out
    folded = out.partition("Rejected, each with the reason:\n")[2]
    assert "--git-sync," in folded
    assert "--image-pull-my-credentials" in folded
    assert "--wait-for-submit," in folded.partition("Accepted without effect:\n")[2]


# new


def test_new_writes_a_spec_that_renders(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = "--port 8000 --gpu 0.25 --min 0 --max 4 --metric concurrency --threshold 10 -p team-a"
    args = "--model Qwen/Qwen2.5-1.5B-Instruct --gpu-memory-utilization 0.22"
    code, out, err = run("new", "chat", "--image", "vllm/vllm-openai:v0.32.0", *flags.split(), "--args", args)

    assert (code, out) == (0, "")
    assert err == "Wrote chat.yaml. Next: ebbtide check --profile full chat.yaml, then ebbtide apply chat.yaml\n"
    assert yaml.safe_load(Path("chat.yaml").read_text())["spec"] == {
        "project": "team-a",
        "image": "vllm/vllm-openai:v0.32.0",
        "args": args,
        "servingPort": {"container": 8000},
        "compute": {"gpuPortionRequest": 0.25},
        "autoscaling": {"minReplicas": 0, "maxReplicas": 4, "metric": "concurrency", "metricThreshold": 10},
    }
    assert run("render", "--profile", "full", "chat.yaml").code == 0


@pytest.mark.parametrize(
    ("gpu", "text"),
    [("lots", "as in 20Gi"), ("h1000", "did you mean h100"), ("h100", "needs --model"), ("-1", "fraction")],
)
def test_new_names_its_own_flag_if_a_gpu_request_is_invalid(run: Callable[..., Ran], gpu: str, text: str) -> None:
    code, out, err = run("new", "a", "-i", "ghcr.io/acme/a:1", f"--gpu={gpu}")

    assert (code, out) == (2, "")
    assert f"invalid --gpu {gpu}" in err
    assert text in " ".join(err.split())
    assert "gpuMemoryRequest" not in err


def test_new_suggests_a_gpu_for_a_model(run: Callable[..., Ran]) -> None:
    code, _, err = run("new", "a", "--model", "llama-3.1-8b", "--gpu", "h1000")

    assert code == 2
    assert "did you mean h100" in " ".join(err.split())


@pytest.mark.parametrize("gpu", ["", "1", "0.25", "20Gi"])
def test_the_next_command_of_new_finds_no_errors(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EBBTIDE_PROFILE", raising=False)
    err = run("new", "a", "-i", "ghcr.io/acme/a:1", *(["-g", gpu] if gpu else [])).err
    command = err.partition("Next: ebbtide ")[2].partition(",")[0]
    assert command.startswith("check ")
    assert run(*command.split()).code == 0


@pytest.mark.parametrize(
    ("gpu", "compute"),
    [
        ("2", {"gpuDevicesRequest": 2}),
        ("0.5", {"gpuPortionRequest": 0.5}),
        ("20Gi", {"gpuRequestType": "memory", "gpuMemoryRequest": "20Gi"}),
    ],
)
def test_new_writes_each_kind_of_gpu_request(run: Callable[..., Ran], gpu: str, compute: dict[str, Any]) -> None:
    code, out, _ = run("new", "a", "-i", "ghcr.io/acme/a:1", "-g", gpu, "-o", "-")

    assert code == 0
    assert yaml.safe_load(out)["spec"]["compute"] == compute


@pytest.mark.parametrize(
    ("words", "args", "port"),
    [
        (("-i", "vllm/vllm-openai:v0.32.0", "-g", "0.25"), "--gpu-memory-utilization=0.22", 8000),
        (
            ("-i", "vllm/vllm-openai:v0.32.0", "--args=--port 9000 --gpu-memory-utilization=0.1", "-g", "0.25"),
            None,
            9000,
        ),
        (("-i", "vllm/vllm-openai:v0.32.0", "--port", "8001", "-g", "1"), None, 8001),
        (("-i", "nvcr.io/nvidia/tritonserver:24.08-py3"), None, 8000),
        # It reads the variable that Knative sets to the serving port.
        (("-i", "ghcr.io/huggingface/text-generation-inference:3.3"), None, None),
    ],
)
def test_new_knows_the_port_and_the_memory_limit_of_a_server(
    run: Callable[..., Ran], words: tuple[str, ...], args: str | None, port: int | None
) -> None:
    code, out, _ = run("new", "a", *words, "-o", "-")

    spec = yaml.safe_load(out)["spec"]
    assert code == 0
    assert spec.get("args") == (args or next((word[7:] for word in words if word.startswith("--args=")), None))
    assert spec.get("servingPort", {}).get("container") == port


@pytest.mark.parametrize(("word", "own"), [("get", "list"), ("ls", "list"), ("version", "--version")])
def test_a_command_of_another_tool_names_the_own_one(run: Callable[..., Ran], word: str, own: str) -> None:
    code, _, err = run(word)

    assert code == 2
    assert f"unknown command {word}; run ebbtide {own}\n" in err


@pytest.mark.parametrize("code", ["gpu65", "GPU065", "gpu065"])
def test_docs_finds_a_code_in_any_spelling(run: Callable[..., Ran], code: str) -> None:
    assert run("docs", code).out.startswith("GPU065: ")


def test_new_reports_what_is_missing_wrong_or_in_the_way(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert run("new", "a") == (
        2,
        "",
        "ebbtide new: error: set NAME and --image, as in ebbtide new chat --image vllm/vllm-openai:v0.32.0\n",
    )
    code, _, err = run("new", "A_b", "-i", "ghcr.io/acme/a:1", "--port", "many")
    assert code == 1
    assert "NAM001" in err
    assert "servingPort.container" in err
    assert list(tmp_path.iterdir()) == []
    Path("a.yaml").write_text("mine")
    assert (
        run("new", "a", "-i", "ghcr.io/acme/a:1").err
        == "ebbtide new: error: a.yaml exists: choose another file with -o\n"
    )
    assert Path("a.yaml").read_text() == "mine"
    assert run("new", "a", "-i", "ghcr.io/acme/a:1", "-o", "none/a.yaml").code == 2


def test_new_names_the_schema_that_is_next_to_the_spec(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = "# yaml-language-server: $schema=spec.schema.json\n"
    for file, has_line in (("before.yaml", False), ("after.yaml", True), ("-", True)):
        code, out, _ = run("new", "a", "-i", "ghcr.io/acme/a:1", "-o", file)
        text = out or Path(file).read_text()
        assert (code, text.startswith(line)) == (0, has_line), text
        Path("spec.schema.json").write_text(run("schema").out)
    assert run("check", "after.yaml").code == 0
