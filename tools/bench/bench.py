"""Benchmark ebbtide, helm and kustomize, which all render the same objects.

The chart and the kustomization are derived from what ebbtide renders, and all outputs are compared as
data before anything is timed. This is a report, not a test: the exit code is always 0.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import jobs

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]

TOOLS: Final = {
    "helm": ("helm.sh/helm/v3/cmd/helm", ["version", "--short"]),
    "kustomize": ("sigs.k8s.io/kustomize/kustomize/v5", ["version"]),
}

# Kustomize compares each resource with all previous ones, so its time is quadratic in their number.
KUSTOMIZE_MOST: Final = 1000
KUSTOMIZE_ROUNDS: Final = 1

MEMORY_GOAL: Final = 100.0


@dataclass(frozen=True, slots=True)
class Size:
    """Input size of one row of the table."""

    count: int
    rounds: int
    # Maximum ratio of ebbtide's time to helm's.
    goal: float | None = None


FULL: Final = (Size(1, 21, 2.5), Size(100, 21), Size(1000, 7, 0.7), Size(4000, 7, 0.8))
QUICK: Final = (Size(1, 5, 2.5), Size(100, 5), Size(1000, 3, 0.7))


@dataclass(frozen=True, slots=True)
class Measured:
    """The runs of one program."""

    seconds: tuple[float, ...]
    kibibytes: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median wall time in seconds."""
        return statistics.median(self.seconds)

    @property
    def megabytes(self) -> float:
        """Highest peak memory."""
        return max(self.kibibytes) * 1024 / 1e6


@dataclass(frozen=True, slots=True)
class Options:
    """Settings from the command line."""

    ebbtide: str
    profile: str
    sizes: tuple[Size, ...]
    kustomize_most: int
    seconds_a_row: float
    environment: dict[str, str] = field(default_factory=dict)

    def render(self, path: Path) -> list[str]:
        """Return the command that renders a file of specs."""
        return [self.ebbtide, "render", str(path), "--profile", self.profile]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print the report."""
    options = parse(arguments)
    tools = {name: path for name in TOOLS if (path := program(name))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = jobs.derive(lambda specs: rendered(options, specs, folder / "one.yaml"))
        describe(options, tools, template)
        report_start_up(options, tools, folder)
        print()
        print(HEAD)
        for size in options.sizes:
            report_size(options, tools, template, size, folder / str(size.count))
        print()
        report_timings(options, folder)
    return 0


def parse(arguments: list[str] | None) -> Options:
    """Parse the command line."""
    beside = Path(sys.executable).parent / "ebbtide"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, up to 1,000 specs, about a minute")
    parser.add_argument("--ebbtide", default=str(beside), help="the translator (default: beside this Python)")
    parser.add_argument("--profile", default="full", help="passed on to ebbtide render (default: full)")
    parser.add_argument(
        "--seconds-a-row",
        type=float,
        default=90.0,
        metavar="S",
        help="start no further round after S seconds",
    )
    parsed = parser.parse_args(arguments)
    ebbtide = shutil.which(parsed.ebbtide) or parser.error(f"no program {parsed.ebbtide}: install the project first")
    # Prevents connections to the cluster of the caller's environment.
    environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    return Options(
        ebbtide,
        parsed.profile,
        QUICK if parsed.quick else FULL,
        100 if parsed.quick else KUSTOMIZE_MOST,
        parsed.seconds_a_row,
        environment,
    )


def program(name: str) -> str | None:
    """Return the path of a program from PATH, or build it once per version of go.sum."""
    if path := shutil.which(name):
        return path
    pins = hashlib.sha256((HERE / "go.mod").read_bytes() + (HERE / "go.sum").read_bytes()).hexdigest()[:12]
    built = ROOT / ".cache" / "bin" / pins / name
    if built.exists():
        return str(built)
    if not shutil.which("go"):
        print(f"{name}: neither the program nor Go to build it is on PATH; left out")
        return None
    print(f"building {name}: minutes the first time ...", file=sys.stderr, flush=True)
    begun = time.monotonic()
    built.parent.mkdir(parents=True, exist_ok=True)
    # An interrupted build must not leave a file at the final path.
    partial = built.with_suffix(f".{os.getpid()}")
    subprocess.run(
        ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(partial), TOOLS[name][0]],
        cwd=HERE,
        env=os.environ | {"CGO_ENABLED": "0"},
        check=True,
    )
    partial.replace(built)
    print(f"built {name} in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return str(built)


def output_of(command: list[str], environment: dict[str, str]) -> bytes:
    """Run a command and return its output; exit with its error output if it fails."""
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.decode()[-2000:]}")
    return done.stdout


def rendered(options: Options, specs: list[jobs.Object], path: Path) -> list[jobs.Object]:
    """Return the objects that ebbtide renders from specs."""
    jobs.write_specs(specs, path)
    return jobs.objects_in(output_of(options.render(path), options.environment))


def describe(options: Options, tools: dict[str, str], template: jobs.Template) -> None:
    """Print the versions and the inputs of the comparison."""
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    for name, path in tools.items():
        print(f"{name} {output_of([path, *TOOLS[name][1]], options.environment).decode().strip()}: {path}")
    kinds = [obj["kind"] for obj in template.objects]
    print(f"one spec makes {len(kinds)} objects: {', '.join(kinds)}")
    varying = {part.name for parts in template.formulas.values() for part in parts if isinstance(part, jobs.Field)}
    print(f"{len(varying)} fields vary from spec to spec")
    if idle := sorted({field.name for field in jobs.FIELDS} - varying):
        print(f"the same in all, since the output doesn't hold them as they are: {', '.join(idle)}")


def turns(options: Options, commands: dict[str, list[str]], rounds: int, folder: Path) -> dict[str, Measured]:
    """Run the commands in turns in a separate process, and return their measurements."""
    order = {
        "commands": commands,
        "rounds": rounds,
        "limit": options.seconds_a_row,
        "log": str(folder / "log"),
    }
    done = subprocess.run(
        [sys.executable, "-I", str(HERE / "turns.py")],
        input=json.dumps(order),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env=options.environment,
    )
    if done.returncode:
        log = folder / "log"
        sys.exit(log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else 1)
    return {
        name: Measured(tuple(run[0] for run in runs), tuple(run[1] for run in runs))
        for name, runs in json.loads(done.stdout).items()
    }


def report_start_up(options: Options, tools: dict[str, str], folder: Path) -> None:
    """Print the start-up time of each program."""
    commands = {
        "bare python": [sys.executable, "-c", "pass"],
        "ebbtide --version": [options.ebbtide, "--version"],
        **{f"{name} version": [path, *TOOLS[name][1]] for name, path in tools.items()},
    }
    timings = turns(options, commands, options.sizes[0].rounds, folder)
    print("start-up:", ", ".join(f"{name} {timing.median * 1000:.0f} ms" for name, timing in timings.items()))


HEAD: Final = (
    "     N  rounds   helm s  ebbtide s  ratio  goal      kustomize s  ratio   peak MB: helm  ebbtide  kustomize"
)


def report_size(options: Options, tools: dict[str, str], template: jobs.Template, size: Size, folder: Path) -> None:
    """Write the inputs of one size, compare the outputs, measure the programs and print the row."""
    folder.mkdir()
    commands = write_job(options, tools, template, size, folder)
    ours = jobs.objects_in(output_of(commands["ebbtide"], options.environment))
    for name in [name for name in commands if name != "ebbtide"]:
        theirs = jobs.objects_in(output_of(commands[name], options.environment))
        if unlike := jobs.difference(ours, theirs):
            print(f"{size.count:6}  {name} makes other objects, so there is no ratio: {unlike}")
            del commands[name]
    # At the largest size, kustomize runs only once, after the others.
    late = [name for name in ("kustomize",) if name in commands and size.count >= KUSTOMIZE_MOST]
    slow = {name: commands.pop(name) for name in late}
    timings = turns(options, commands, size.rounds, folder)
    if slow:
        timings |= turns(options, slow, KUSTOMIZE_ROUNDS, folder)
    print(row(size, timings))


def write_job(
    options: Options, tools: dict[str, str], template: jobs.Template, size: Size, folder: Path
) -> dict[str, list[str]]:
    """Write the inputs of one size and return each program's command."""
    documents = jobs.specs(size.count, template.fixed)
    commands = {}
    if "helm" in tools:
        jobs.write_chart(template, documents, folder / "chart")
        commands["helm"] = [tools["helm"], "template", "bench", str(folder / "chart")]
    jobs.write_specs(documents, folder / "specs.yaml")
    commands["ebbtide"] = options.render(folder / "specs.yaml")
    if "kustomize" in tools and size.count <= options.kustomize_most:
        jobs.write_kustomization(template, documents, folder / "kustomization")
        commands["kustomize"] = [tools["kustomize"], "build", str(folder / "kustomization")]
    return commands


def row(size: Size, timings: dict[str, Measured]) -> str:
    """Return one row of the table."""
    ours = timings["ebbtide"]

    def seconds(name: str) -> str:
        return f"{timings[name].median:.3f}" if name in timings else "-"

    def ratio(name: str) -> str:
        return f"{ours.median / timings[name].median:.2f}" if name in timings else "-"

    def memory(name: str) -> str:
        return f"{timings[name].megabytes:.0f}" if name in timings else "-"

    goal = ""
    if size.goal is not None and "helm" in timings:
        goal = f"<= {size.goal:g} {verdict(ours.median <= size.goal * timings['helm'].median)}"
    line = (
        f"{size.count:6}  {len(ours.seconds):6}  {seconds('helm'):>7}  {seconds('ebbtide'):>9}  "
        f"{ratio('helm'):>5}  {goal:10}{seconds('kustomize'):>11}  {ratio('kustomize'):>5}   "
        f"{memory('helm'):>13}  {memory('ebbtide'):>7}  {memory('kustomize'):>9}"
    )
    if size is FULL[-1]:
        line += (
            f"\nmemory at {size.count}, of the largest process: "
            f"goal < {MEMORY_GOAL:.0f} MB {verdict(ours.megabytes < MEMORY_GOAL)}"
        )
    return line


def verdict(reached: bool) -> str:
    """Return whether a goal is met, as text."""
    return "yes" if reached else "NO"


def report_timings(options: Options, folder: Path) -> None:
    """Print the time of each phase of ebbtide for the largest input, if ebbtide supports ``--timings``."""
    if b"--timings" not in output_of([options.ebbtide, "render", "--help"], options.environment):
        return
    count = options.sizes[-1].count
    command = [*options.render(folder / str(count) / "specs.yaml"), "--timings"]
    done = subprocess.run(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=options.environment,
    )
    print(f"where the time goes at {count}:")
    print(done.stderr.strip())


if __name__ == "__main__":
    sys.exit(main())
