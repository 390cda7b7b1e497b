"""Reader of a command line of Run:ai: the words before the name submit an inference, or are refused.

Upstream: NVIDIA's pages of ``runai inference`` and its subcommands (2.20 to 3.0), and run-ai/runai-cli for ``runai submit``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.core.readers.reading import make_document
from ebbtide.core.readers.table import DISTRIBUTED, NAMELESS, Draft
from ebbtide.runai import flags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.core.profile.models import Profile

#: Program that a copied line starts with. Without it, the first argument is the workload's name.
PROGRAM: Final = "runai"
CODE: Final = "FLAGS192"
#: The words after the program of the lines that Ebbtide reads.
COMMANDS: Final = (("inference", "submit"), ("inference", "standard", "submit"))
FAMILIES: Final = ("standard", "nim", "distributed")
#: Ebbtide's commands for the other commands of ``runai inference``.
INSTEAD: Final = {
    "bash": "use kubectl exec -it deployment/REVISION-deployment -- bash",
    "delete": "use ebbtide delete NAME",
    "describe": "use ebbtide describe NAME",
    "exec": "use kubectl exec deployment/REVISION-deployment -- COMMAND",
    "list": "use ebbtide list",
    "logs": "use ebbtide logs NAME",
    "port-forward": "use kubectl port-forward deployment/REVISION-deployment PORT",
    "scale": "use ebbtide scale NAME --min N --max N",
    "update": "change the spec and use ebbtide apply, or use ebbtide scale NAME --min N --max N",
}
#: The fix for a word that is not a command, such as ``huggingface``.
UNKNOWN: Final = (
    "use runai inference submit; a Hugging Face model is served by -i vllm/vllm-openai:v0.32.0 --serving-port 8000 -- --model "
    "ORGANIZATION/MODEL"
)
#: The fix for Run:ai's other kinds of workloads, and for its older client.
OTHER_WORKLOADS: Final = "Ebbtide serves inference only: use a Job, a StatefulSet or a Kubeflow job instead"
FIRST_CLI: Final = (
    "write the line as runai inference submit; --gpu 0.5 of the older client is --gpu-portion-request 0.5, and --gpu 1 is "
    "--gpu-devices-request 1"
)


def read_command_line(argv: Sequence[str], profile: Profile) -> Draft:
    """Return a command line in native form, with all its problems.

    ``argv`` contains the arguments after ``runai inference submit``, or a whole line that starts with the program: ``runai``,
    its path, or any name before ``inference``, as in ``./runai-cli-amd64.exe inference submit``.
    """
    name = argv[0].replace("\\", "/").rpartition("/")[2].removesuffix(".exe") if argv else ""
    if name != PROGRAM and [*argv[1:2]] != ["inference"]:
        return flags.read_flags(argv, profile)
    for words in COMMANDS:
        if (*argv[1 : len(words) + 1],) == words:
            return flags.read_flags(argv[len(words) + 1 :], profile)
    draft = Draft(make_document(NAMELESS, {}), cluster=profile.spec)
    draft.refuse_kind((), _explain_command([*argv[1:]]))
    return draft


def _explain_command(words: list[str]) -> tuple[str, str, str]:
    """Return the refusal of a line that submits no inference: code, message and fix."""
    command = [word for word in words[: _count_words(words)] if not word.startswith("-")]
    if command[:3] == ["inference", "distributed", "submit"]:
        return DISTRIBUTED
    name = " ".join((PROGRAM, *command))
    if command[:1] == ["submit"]:
        return CODE, f"{name} is a command of Run:ai's older client", FIRST_CLI
    if command[:1] != ["inference"]:
        return CODE, f"{name} does not submit an inference", OTHER_WORKLOADS
    if command[-1] in INSTEAD:
        return CODE, f"{name} does not submit an inference", INSTEAD[command[-1]]
    return CODE, f"{name} is not a command that Ebbtide reads", UNKNOWN


def _count_words(words: list[str]) -> int:
    """Return the number of words that are the command: one more after ``inference``, and after the name of a family."""
    if words[:1] != ["inference"]:
        return 1
    return 3 if words[1:2] and words[1] in FAMILIES else 2
