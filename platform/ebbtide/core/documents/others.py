"""Objects of other kinds in the input of a command, such as Secrets: passed on, left out, or rejected."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import ERROR, Problem, make_warning
from ebbtide.core.documents import CONVERT, OTHER_KINDS
from ebbtide.core.readers.loaded import LoadedDocument, OtherObject

KEEP: Final = "keep"
DROP: Final = "drop"
FAIL: Final = "fail"
#: Values of --others: the ways to handle an object of another kind.
CHOICES: Final = (KEEP, DROP, FAIL)
#: Kinds of the group apps that often run a model server without Knative and KServe.
SERVER_KINDS: Final = {"Deployment", "StatefulSet"}
#: The start of the names of GPU resources: of NVIDIA's device plugin with its MIG devices, of AMD's and of Intel's.
GPU_RESOURCES: Final = ("nvidia.com/gpu", "nvidia.com/mig-", "amd.com/gpu", "gpu.intel.com/")
_GPU_CONTAINER: Final = "a container with a GPU"
_WRITE: Final = "write a spec with its image, args, servingPort and GPUs, and delete it when the spec serves"


def settle_other(loaded: LoadedDocument, other: OtherObject, choice: str) -> list[Problem]:
    """Return the problems of an object of another kind, if a command handles it by ``choice``.

    An object that is kept is an error only if YAML parsers reject it. It is named if Ebbtide knows its kind as one of a
    model server, which the caller may expect to be converted.
    """
    *text_problems, problem = loaded.problems
    if choice == DROP:
        return [_report(problem, f"{other.description} is not a spec; it is left out of the output", other)]
    if choice != KEEP:
        return [*text_problems, replace(problem, severity=ERROR)]
    rejected = [text_problem for text_problem in text_problems if text_problem.code == "YML001"]
    server = _name_server(other)
    if other.kind not in OTHER_KINDS and server is None:
        return rejected
    because = f": {other.obstacle}" if other.obstacle else ""
    described = other.description if server is None else f"{other.description} runs {server}, and"
    return [*rejected, _report(problem, f"{described} is not translated; it is in the output as it is{because}", other)]


def _name_server(other: OtherObject) -> str | None:
    """Return what serves in a Deployment or StatefulSet: a known model server, or a container with a GPU; None without them."""
    version = other.data.get("apiVersion")
    if other.kind not in SERVER_KINDS or not (isinstance(version, str) and version.startswith("apps/")):
        return None
    from ebbtide.core.adopt.deployment import find_servers  # noqa: PLC0415 - not on the common path

    servers = find_servers(other.data)
    if servers:
        return servers[0][1].name
    containers = get_at(other.data, "spec", "template", "spec", "containers")
    limits = [get_at(item, "resources", "limits") for item in (containers if isinstance(containers, list) else ())]
    names = [str(name) for amounts in limits if isinstance(amounts, dict) for name in amounts]
    return _GPU_CONTAINER if any(name.startswith(GPU_RESOURCES) for name in names) else None


def report_nothing_converted(name: str) -> Problem:
    """Return the error of an input in which no document is a spec or is converted to one."""
    message = "nothing was converted: the input contains no spec, and no object that is read as one"
    fix = "add a Knative Service, an InferenceService, an LLMInferenceService, a Deployment of a known server or a Run:ai REST body, or write a spec"
    return Problem("IMP011", (), message, fix, document=name)


def _report(problem: Problem, message: str, other: OtherObject) -> Problem:
    server = _name_server(other)
    is_unread = other.kind == "Deployment" and not other.obstacle and server != _GPU_CONTAINER
    if server is None:
        otherwise = "use --others keep, or apply it from a separate file"
    else:
        otherwise = CONVERT if is_unread else _WRITE
    fix = OTHER_KINDS.get(other.kind, otherwise)
    return replace(make_warning("IMP079", problem.field, message, fix), line=problem.line, document=problem.document)


def strip_separator(text: str) -> str:
    """Return the text of one document without the separator before it, ending with a line feed."""
    if text.startswith("---"):
        text = text.partition("\n")[2]
    return text.strip("\n") + "\n"
