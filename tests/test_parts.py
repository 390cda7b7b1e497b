"""Rendering with several processes gives the same bytes as with one process, for any input.

Most tests render the parts sequentially in this process; the last ones fork.
"""

from __future__ import annotations

import io
import marshal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cases
from ebbtide import manifests
from ebbtide.base.problems import has_errors
from ebbtide.cli import parts
from ebbtide.cli.common import Source, print_problems, read_sources
from ebbtide.cli.render import render_sources
from ebbtide.documents import profiles
from ebbtide.profile.built_in import FULL
from test_laws import LAWS, MANY

if TYPE_CHECKING:
    from ebbtide.base.problems import Problem
    from ebbtide.profile.models import Profile

ROOT = Path(__file__).parent.parent
NEVER = 10**9
FINE = b"""\
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata: {name: NAME}
spec:
  image: registry.example.com/chat:1
"""
#: Documents whose boundaries matter; NAME is replaced with a unique name.
BLOCKS = (
    FINE,
    FINE.replace(b"\n", b"\r\n"),
    FINE + b"  project: team-a\n  compute: {gpuPortionRequest: 0.1}\n",
    FINE + b"  project: team-a\n  compute: {gpuPortionRequest: 0.7, cpuCoreRequest: 0.1, cpuMemoryRequest: 3Gi}\n",
    FINE + b"  project: team-b\n  priorityClass: train\n  autoscaling: {minReplicas: 3, maxReplicas: 3}\n",
    FINE + b"  project: team-c\n  exposedUrls: [{url: https://NAME.example.com}]\n",
    FINE + b"  exposedUrls: [{url: https://one.example.com}]\n",
    FINE + b"  security: {runAsNonRoot: true}\n  priorityClass: build\n  traffic: {stableRevision: old}\n",
    FINE + b"  environmentVariables:\n  - name: A\n    value: |\n      --- inside\n      ---\n",
    FINE + b"  environmentVariables:\n  - name: A\n    value: |\n--- at the margin\n",
    FINE + b"  autoscaling: {minReplicas: 5, maxReplicas: 2}\n",
    FINE + b"  imagge: a\n",
    FINE + b"  args: [yes, 012]\n",
    FINE + "  args: [\u00e4\u00f6, \U0001f300, \u2028]\n".encode(),
    FINE + b"  patches: [{kind: Namespace, patch: {metadata: {labels: {a: b}}}}]\n  project: team-a\n",
    FINE.replace(b"NAME", b"same"),
    b"apiVersion: v1\nkind: List\nitems:\n- " + FINE.replace(b"\n", b"\n  ").rstrip() + b"\n",
    b"apiVersion: v1\nkind: List\nitems: []\n",
    b"apiVersion: v1\nkind: Namespace\nmetadata: {name: NAME}\n",
    b"apiVersion: ebbtide.dev/v1alpha1\nkind: Profile\nspec: {}\n",
    b"%YAML 1.2\n",
    b"# nothing here\n",
    b"",
    b"null\n",
    b"...\n",
    b"a: [\n",
    b"- 1\n",
    b"\xef\xbb\xbf",
    b"\xff",
    b'{"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": "NAME"},\n "spec": {"image": "a"}}',
)  # fmt: skip
JOINTS = (b"---\n", b"--- # next\n", b"---\r\n", b"---  \n", b"---x\n", b"", b"...\n---\n")
#: Quotas of the projects in the blocks.
KNOWN = {"team-a": {"gpus": 1, "cpu": 0.2, "memory": "5Gi"}, "team-b": {"gpus": 2}}


def in_turn(groups: list[list[Source]], profile: Profile) -> list[parts.RenderedPart] | None:
    """Render the parts without processes, and pass each through the pipe's encoding."""
    results = []
    for group in groups:
        result = parts.render_part(group, profile)
        if result is None:
            return None
        results.append(parts.RenderedPart(*marshal.loads(marshal.dumps(tuple(result)))))  # noqa: S302 - our own data
    return results


def printed(chunks: list[str], problems: list[Problem]) -> tuple[str, str, bool]:
    """Return what render prints on stdout and stderr, and whether it fails."""
    stderr = io.StringIO()
    print_problems(problems, stderr)
    return "".join(chunks), stderr.getvalue(), has_errors(problems)


def by_one(sources: list[Source], profile: Profile) -> tuple[str, str, bool]:
    return printed(*render_sources(sources, profile, as_json=False, large=NEVER))


def by_parts(sources: list[Source], profile: Profile, count: int) -> tuple[str, str, bool] | None:
    """Return the output of the joined parts, or None if one process must render the input."""
    results = in_turn(parts.split_sources(sources, count), profile)
    joined = None if results is None else parts.join_parts(results, profile, sources)
    return None if joined is None else printed(*joined)


def projects() -> Profile:
    """Return the built-in profile with quotas."""
    spec = {**FULL["spec"], "projects": {**FULL["spec"].get("projects", {}), "known": KNOWN}}
    profile, problems = profiles.validate_profile_data({**FULL, "spec": spec})
    assert profile is not None, problems
    return profile


def named(block: bytes, number: int) -> bytes:
    return block.replace(b"NAME", f"w{number}".encode())


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    blocks = draw(st.lists(st.sampled_from(BLOCKS[:8]) | st.sampled_from(BLOCKS), min_size=1, max_size=12))
    joints = draw(st.lists(st.just(JOINTS[0]) | st.sampled_from(JOINTS), min_size=len(blocks), max_size=len(blocks)))
    text = b"".join(
        named(joint + block, number) for number, (joint, block) in enumerate(zip(joints, blocks, strict=True))
    )
    return draw(st.sampled_from((b"", b"\xef\xbb\xbf", b"# head\n"))) + text


@MANY
@given(texts(), st.integers(2, 4), st.booleans())
def test_one_file_in_parts_renders_like_the_whole(text: bytes, count: int, few: bool) -> None:
    profile = projects() if few else profiles.load_built_in("full")
    sources = [Source("specs.yaml", text)]

    whole = by_one(sources, profile)

    assert by_parts(sources, profile, count) in {None, whole}


@LAWS
@given(st.lists(texts(), min_size=2, max_size=5), st.integers(2, 4), st.booleans())
def test_several_files_in_parts_render_like_the_whole(read: list[bytes], count: int, strictly: bool) -> None:
    sources = [Source(f"{number % 3}.yaml", text, strictly) for number, text in enumerate(read)]

    assert by_parts(sources, projects(), count) in {None, by_one(sources, projects())}


@MANY
@given(st.lists(st.sampled_from(BLOCKS[:6] + BLOCKS[17:24]), min_size=4, max_size=30), st.integers(2, 4))
def test_valid_parts_are_joined(blocks: list[bytes], count: int) -> None:
    """Valid input is rendered in parts; otherwise the other tests would compare one process with itself."""
    profile = profiles.load_built_in("full")
    fine = [block for block in blocks if b"%" not in block and b"Profile" not in block]
    sources = [Source("f", b"---\n".join(named(block, number) for number, block in enumerate(fine)))]

    joined = by_parts(sources, profile, count)

    assert joined == by_one(sources, profile)


@pytest.mark.parametrize("seed", range(20))
def test_golden_cases_in_parts_render_like_the_whole(seed: int) -> None:
    import random  # noqa: PLC0415 - the seed names the case

    chance = random.Random(seed)  # noqa: S311 - not for secrets
    profile = projects() if seed % 2 else profiles.load_built_in("full")
    folders = chance.sample(cases.FOLDERS, 30)
    # Half of the rounds use only specs that translate, under unique names.
    fine = seed % 4 < 2
    read: list[bytes] = []
    for folder in folders:
        data = next(manifests.read_documents(cases.spec_file(folder).read_bytes(), "x")).data
        if fine:
            if not isinstance(data, dict) or data.get("kind") != "Inference" or "metadata" not in data:
                continue
            data["metadata"]["name"] = f"w{len(read)}"
            text = manifests.write_document(data).encode()
            if by_one([Source("f", text)], profile)[2]:
                continue
        else:
            text = cases.spec_file(folder).read_bytes()
        read.append(text)
    sources = [Source("f", b"---\n".join(read))]

    for count in (2, 3, 4):
        joined = by_parts(sources, profile, count)
        assert joined in {None, by_one(sources, profile)}
    assert by_parts([Source(str(number), text) for number, text in enumerate(read)], profile, 3) in {
        None,
        by_one([Source(str(number), text) for number, text in enumerate(read)], profile),
    }


def test_a_quota_is_summed_over_the_cut() -> None:
    block = BLOCKS[3]
    sources = [Source("f", b"---\n".join(named(block, number) for number in range(6)))]

    joined = by_parts(sources, projects(), 3)

    assert joined == by_one(sources, projects())
    assert joined is not None
    assert "PRJ002 f#6:46 spec.project\n    the workloads of project team-a need 4.2 GPUs" in joined[1]
    assert joined[2]


def test_the_same_name_in_two_parts_is_left_to_one_process() -> None:
    sources = [Source("f", named(FINE, 1) + b"---\n" + named(FINE, 1))]

    assert by_parts(sources, profiles.load_built_in("full"), 2) is None
    assert "NAM004" in by_one(sources, profiles.load_built_in("full"))[1]


def test_one_service_of_workloads_in_two_parts_is_left_to_one_process() -> None:
    folder = Path(__file__).parent / "golden" / "predictors-service-taken"
    sources = [Source("f", (folder / "spec.yaml").read_bytes())]

    assert by_parts(sources, profiles.load_built_in("full"), 2) is None
    assert "NAM004" in by_one(sources, profiles.load_built_in("full"))[1]


def test_a_shared_object_that_differs_between_parts_is_left_to_one_process() -> None:
    plain, patched = BLOCKS[2], BLOCKS[14]
    sources = [Source("f", named(plain, 1) + b"---\n" + named(patched, 2))]

    assert by_parts(sources, projects(), 2) is None
    assert "NAM005" in by_one(sources, projects())[1]


def test_a_warning_of_a_later_part_has_its_document_and_line() -> None:
    sources = [Source("f", named(FINE, 1) + b"---\n---\n" + named(FINE, 2) + b"---\n" + named(BLOCKS[18], 3))]

    joined = by_parts(sources, profiles.load_built_in("full"), 2)

    assert joined == by_one(sources, profiles.load_built_in("full"))
    assert joined is not None
    assert "IMP007 f#3:15 kind" in joined[1]


def test_cuts_are_only_between_documents() -> None:
    text = b"".join(b"---\n" + named(FINE, number) for number in range(9))

    groups = parts.split_sources([Source("f", text)], 4)

    assert len(groups) == 4
    assert b"".join(piece.text for group in groups for piece in group) == text
    assert all(group[0].text.startswith(b"---\n") for group in groups)
    assert [group[0].first_line for group in groups] == [
        1 + text.count(b"\n", 0, text.index(group[0].text)) for group in groups
    ]
    assert len(parts.split_sources([Source("f", FINE)], 4)) == 1


def test_files_are_distributed_by_size() -> None:
    sources = [Source(str(number), b"#" * size) for number, size in enumerate((10, 10, 70, 10, 0))]

    groups = parts.split_sources(sources, 2)

    assert [source for group in groups for source in group] == sources
    assert [len(group) for group in groups] == [3, 2]


def test_an_unreadable_file_is_left_to_one_process(tmp_path: Path) -> None:
    sources = [Source("f", FINE), *read_sources([str(tmp_path / "none.yaml")])]

    assert by_parts(sources, profiles.load_built_in("full"), 2) is None


def test_threads_or_other_systems_use_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "THREADS", str(ROOT))
    assert parts.count_processors() == 1
    monkeypatch.setattr(parts, "THREADS", str(ROOT / "there-is-no-such-folder"))
    assert parts.count_processors() == 1


FORKED = """
import os, signal, sys
from ebbtide.documents import profiles
from ebbtide.cli import parts
from ebbtide.cli.common import Source
from ebbtide.cli.render import render_sources

parts.count_processors = lambda: 3
profile = profiles.load_built_in("full")
spec = "apiVersion: ebbtide.dev/v1alpha1\\nkind: Inference\\nmetadata: {name: w%d}\\nspec: {image: a/%s, project: p}\\n"
found = [Source("f", "---\\n".join(spec % (n, "x" * 9000) for n in range(40)).encode().replace(b"x" * 9000, b"x" * 90))]
whole = render_sources(found, profile, as_json=False, large=10**9)
"""


def forked(script: str) -> str:
    """Run a script that renders by forking, in a process without pytest's threads."""
    ran = subprocess.run(
        [sys.executable, "-c", FORKED + script], capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_children_render_like_one_process() -> None:
    answer = forked("""
made = parts.render_parts(found, profile, 1)
assert made is not None
assert "".join(made[0]) == "".join(whole[0]) and made[1] == whole[1]
try:
    os.wait()
except ChildProcessError:
    print("none left")
""")
    assert answer == "none left\n"


@pytest.mark.parametrize(
    "fate",
    [
        "os._exit(1)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "raise KeyboardInterrupt",
        "raise MemoryError",
        "return None",
        "os.write(4, b'('), os._exit(0)",
    ],
)
def test_a_lost_child_only_costs_time(fate: str) -> None:
    answer = forked(f"""
parent, make = os.getpid(), parts.render_part
def part(group, profile):
    if os.getpid() != parent and group[0].first_line > 120:
        {fate}
    return make(group, profile)
parts.render_part = part
assert parts.render_parts(found, profile, 1) is None
made = render_sources(found, profile, as_json=False, large=1)
assert "".join(made[0]) == "".join(whole[0]) and made[1] == whole[1]
try:
    os.wait()
except ChildProcessError:
    print("none left")
""")
    assert answer == "none left\n"


def test_without_processes_or_pipes_one_process_renders() -> None:
    forked("""
def refuse():
    raise BlockingIOError("no more processes")
os.fork = refuse
made = render_sources(found, profile, as_json=False, large=1)
assert "".join(made[0]) == "".join(whole[0]) and made[1] == whole[1]
""")


def test_the_command_prints_the_same_with_several_processes(tmp_path: Path) -> None:
    text = b"---\n".join(named(BLOCKS[number % 6], number) for number in range(2500))
    assert len(text) > 200_000
    file = tmp_path / "many.yaml"
    file.write_bytes(text)

    ran = subprocess.run(
        [sys.executable, "-m", "ebbtide", "render", "--profile", "full", file],
        capture_output=True,
        text=True,
        check=False,
    )

    out, err, bad = by_one(list(read_sources([str(file)])), profiles.load_built_in("full"))
    assert (ran.stdout, ran.stderr, ran.returncode) == ("" if bad else out, err, int(bad))
