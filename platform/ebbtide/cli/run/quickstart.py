"""``ebbtide quickstart``: from nothing to a served model on this computer, as a table of steps that run programs.

The cluster is one of kind, in a separate kubeconfig file, so that the user's contexts stay as they are. kind selects the
node image that belongs to its release, by digest. Knative and Kourier are those of one release, from the files that it publishes.
Upstream: kind.sigs.k8s.io/docs/user/quick-start, knative.dev/docs/install/yaml-install/serving.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.files import find_state_folder, replace_file
from ebbtide.cli.base.options import PROFILE_VARIABLE, Options, make_option, make_switch

CLUSTER: Final = "ebbtide-quickstart"
NAME: Final = "hello"
IMAGE: Final = "ghcr.io/ggml-org/llama.cpp:server"
QUESTION: Final = "Why do services scale to zero?"
KNATIVE: Final = "1.23.0"
SERVING: Final = f"https://github.com/knative/serving/releases/download/knative-v{KNATIVE}"
AVAILABLE: Final = "--for=condition=Available deployment --all --timeout=10m"
KOURIER: Final = f"https://github.com/knative-extensions/net-kourier/releases/download/knative-v{KNATIVE}/kourier.yaml"
#: The steps that create the cluster and install Knative: a title and a command each. With Knative's default domain,
#: svc.cluster.local, no service would be visible outside the cluster.
CLUSTER_STEPS: Final = (
    ("Create a Kubernetes cluster in Docker", f"kind create cluster --wait 5m --name {CLUSTER}"),
    (f"Install the resources of Knative Serving {KNATIVE}", f"kubectl apply -f {SERVING}/serving-crds.yaml"),
    ("Wait for them", "kubectl wait --for=condition=Established crd --all --timeout=2m"),
    (f"Install Knative Serving {KNATIVE}", f"kubectl apply -f {SERVING}/serving-core.yaml"),
    (f"Install the gateway Kourier {KNATIVE}", f"kubectl apply -f {KOURIER}"),
    ("Wait for Knative", f"kubectl wait {AVAILABLE} -n knative-serving"),
    ("Wait for the gateway", f"kubectl wait {AVAILABLE} -n kourier-system"),
    (
        "Select the gateway",
        """kubectl patch configmap config-network -n knative-serving
        -p '{"data": {"ingress-class": "kourier.ingress.networking.knative.dev"}}'""",
    ),
    (
        "Set a domain",
        """kubectl patch configmap config-domain -n knative-serving -p '{"data": {"ebbtide.test": ""}}'""",
    ),
)
#: The steps of an interrupted run on its cluster begin with this one.
CONTINUE: Final = ("Connect to the cluster", f"kind export kubeconfig --name {CLUSTER}")
#: Commands that are tried again: downloads, and writes for which Knative's webhook may need a moment.
RETRIED: Final = ("kubectl apply", "kubectl patch")
ATTEMPTS: Final = 4
#: Programs of the steps, and where to get them; the last one also for a cluster that exists.
PROGRAMS: Final = (
    ("docker", "docs.docker.com/get-started/get-docker"),
    ("kind", "kind.sigs.k8s.io/docs/user/quick-start"),
    ("kubectl", "kubernetes.io/docs/tasks/tools"),
)
DOCKER_INFO: Final = re.compile(r"^(?P<cpus>\d+) (?P<memory>\d+) (?P<root>.+)$", re.MULTILINE)
#: The control plane requests 0.95 CPUs, Knative 0.6, Kourier 0.4 and the model 0.5.
MIN_CPUS: Final = 3
MIN_MEMORY_GIB: Final = 4
#: Space for the images of the node, Knative and llama.cpp, and for the model.
MIN_DISK_GIB: Final = 8
GIB: Final = 1 << 30
#: Lines of a failed program's output that are printed.
FAILED_LINES: Final = 20
RETRY_SECONDS: Final = 5.0
EBBTIDE: Final = "ebbtide"
OPTIONS: Final = (
    make_switch("--down", help="Delete the cluster, or with --use the model"),
    make_option(
        "--use", metavar="KUBECONFIG", help="Use this cluster, which has Knative, instead of a new one of kind"
    ),
    make_option("-n", "--namespace", metavar="NS", default="default", help="Namespace of the model (default: default)"),
    make_option("-i", "--image", metavar="IMAGE", default=IMAGE, help=f"Image of the server (default: {IMAGE})"),
)


def run(options: Options) -> int:
    """Run the steps until one fails."""
    folder = find_state_folder()
    if folder is None:
        terminal.exit_with_message("error: no home directory for the kubeconfig: set HOME or XDG_STATE_HOME")
    kubeconfig = Path(options.use).absolute() if options.use else folder / "quickstart.kubeconfig"
    programs = PROGRAMS[-1:] if options.use else PROGRAMS
    missing = [f"{name} is not on the PATH: install it ({url})" for name, url in programs if shutil.which(name) is None]
    if not (missing or options.use or options.down):
        missing = find_docker_limits()
    if missing:
        needs = "".join(f"\n  - {reason}" for reason in missing)
        terminal.exit_with_message(
            f"error: the quickstart needs more than this computer has:{needs}", connection.CLUSTER
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    spec = folder / f"{NAME}.yaml"
    replace_file(spec, Path(__file__).with_suffix(".yaml").read_text().replace(IMAGE, options.image).encode())
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    if not options.use:
        # The profile and the Prometheus of the environment describe the user's own cluster.
        environment |= {PROFILE_VARIABLE: "", connection.PROMETHEUS: ""}
    steps = list_steps(options, spec)
    down = shlex.join(["ebbtide", "quickstart", *(("--use", options.use) if options.use else ()), "--down"])
    start = time.monotonic()
    for number, (title, command) in enumerate(steps, 1):
        words = shlex.split(command)
        terminal.write_stderr(f"[{number}/{len(steps)}] {title}\n$ {shlex.join(words)}")
        began = time.monotonic()
        if code := run_step(words, environment):
            terminal.write_stderr(
                f"error: step {number} failed with exit code {code}: {title}. Solve its problem and run the command "
                f"again, which continues, or run {down}"
            )
            return connection.CLUSTER
        terminal.write_stderr(f"  {time.monotonic() - began:.1f} s\n")
    terminal.write_stderr(f"Done in {time.monotonic() - start:.0f} s.")
    if not options.down:
        terminal.write_stderr(
            f"To go on, run export KUBECONFIG={kubeconfig}, then for example ebbtide list or ebbtide open. "
            f"To delete everything, run {down}"
        )
    return 0


def find_docker_limits() -> list[str]:
    """Return the processors, memory and disk of which Docker has too little, each with its fix."""
    done = run_program(["docker", "info", "--format", "{{.NCPU}} {{.MemTotal}} {{.DockerRootDir}}"])
    match = DOCKER_INFO.search(done.stdout)
    if done.returncode or match is None:
        reason = done.stdout.strip() or "no output"
        return [f"Docker does not answer: start it, or allow your account to use it ({reason})"]
    root = Path(match["root"])
    # The folder of Docker Desktop is in a virtual machine, whose disk is a file of the user.
    free = shutil.disk_usage(root if root.exists() else Path.home()).free / GIB
    rows = (
        (int(match["cpus"]), MIN_CPUS, "CPUs", "give it more in its settings"),
        # Docker reports slightly less than the memory that a virtual machine was given.
        (int(match["memory"]) / GIB + 0.5, MIN_MEMORY_GIB, "GiB of memory", "give it more in its settings"),
        (free, MIN_DISK_GIB, "GiB of free disk", "free some, for example with docker system prune"),
    )
    return [
        f"Docker has {int(has)} {unit}, and {need} are needed: {fix}" for has, need, unit, fix in rows if has < need
    ]


def list_steps(options: Options, spec: Path) -> list[tuple[str, str]]:
    """Return the title and the command of each step: those up to a model that is scaled to zero, or the one that deletes it."""
    place = f"-n {shlex.quote(options.namespace)}"
    if options.down:
        model = ("Delete the model", f"ebbtide delete -y {NAME} {place}")
        return [model if options.use else ("Delete the cluster", f"kind delete cluster --name {CLUSTER}")]
    if options.use:
        before: tuple[tuple[str, str], ...] = ()
    elif CLUSTER in run_program(["kind", "get", "clusters"]).stdout.split():
        before = (CONTINUE, *CLUSTER_STEPS[1:])
    else:
        before = CLUSTER_STEPS
    return [
        *before,
        (
            "Serve a model of 0.5 billion parameters, about 500 MB",
            f"ebbtide apply -y --wait 15m {place} {shlex.quote(str(spec))}",
        ),
        ("Ask it", f"ebbtide call {NAME} {place} --chat '{QUESTION}'"),
        ("See why it has this number of replicas", f"ebbtide why {NAME} {place}"),
        (
            "Wait until it is scaled to zero, about a minute after the last request",
            f"kubectl wait pod {place} -l serving.knative.dev/service={NAME} --for=delete --timeout=5m",
        ),
        ("List the model: the next request starts a replica", f"ebbtide list {place}"),
    ]


def run_step(words: list[str], environment: dict[str, str]) -> int:
    """Run a command and return its exit code. The output of other programs is printed only if they fail."""
    if words[0] == EBBTIDE:
        own = [sys.executable, "-m", EBBTIDE, *words[1:]]
        return subprocess.run(own, check=False, env=environment).returncode  # noqa: S603 - of the table
    done = run_program(words, environment)
    attempts = ATTEMPTS if shlex.join(words[:2]) in RETRIED else 1
    while done.returncode and (attempts := attempts - 1):
        time.sleep(RETRY_SECONDS)
        done = run_program(words, environment)
    if done.returncode:
        terminal.write_stderr("\n".join(done.stdout.splitlines()[-FAILED_LINES:]))
    return done.returncode


def run_program(words: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program, and return its exit code with everything that it printed."""
    return subprocess.run(  # noqa: S603 - of the table
        words,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
