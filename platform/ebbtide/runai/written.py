"""Writer of a native document as Run:ai's: the body of a REST request, and the line of ``runai inference submit``.

The table of the flags has both directions. A flag is written only if the line's reader reads the same value from it, so
that no value changes its meaning; everything else is reported by its field.
"""

from __future__ import annotations

import json
import shlex
from textwrap import indent
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import has_errors, make_warning
from ebbtide.core.readers import rest
from ebbtide.core.readers.reading import Writer, make_document
from ebbtide.core.readers.table import NAMELESS, set_at, split_path
from ebbtide.core.spec.inference import Inference
from ebbtide.core.translation.container import split_command
from ebbtide.runai.flag_parser import FORMS, PART_FORMS, Flag
from ebbtide.runai.flags import FLAGS, read_flags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.core.base.problems import Path, Problem
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.table import Native

SUBMIT: Final = ("runai", "inference", "submit")
#: The flags by native field, in the order of the table; the container's command is not the value of a flag.
FLAGS_BY_FIELD: Final[dict[tuple[str, ...], list[Flag]]] = {}
for _flag in FLAGS:
    if _flag.to and _flag.refusal is None and _flag.name != "--command":
        FLAGS_BY_FIELD.setdefault(_flag.native, []).append(_flag)
#: Fields of an item that only describe it in Run:ai's user interface.
DESCRIPTIONS: Final = ("name", "description", "toolType", "toolName")
#: The fields of the container's process.
PROCESS: Final = (("spec", "command"), ("spec", "args"))
#: The blocks whose fields have flags.
BLOCKS: Final = {native[:length] for native in FLAGS_BY_FIELD for length in range(1, len(native))}


def write(native: dict[str, Any], profile: Profile, cluster_id: str | None = None) -> tuple[str, list[Problem]]:
    """Return the line as comments, then the body, and a problem for each field that one of them cannot express."""
    body, lost = rest.write_body(native, profile, cluster_id)
    spec = body["spec"]
    if native["spec"].get("project"):
        spec = {"project": native["spec"]["project"], **spec}
    words, lost_in_line = write_line(native["metadata"]["name"], spec, profile)
    text = indent(shlex.join(words), "# ", lambda _: True)
    return f"{text}\n{json.dumps(body, indent=2, ensure_ascii=False)}\n", lost + lost_in_line


WRITER: Final = Writer(write)


def write_line(name: str, spec: dict[str, Any], profile: Profile) -> tuple[list[str], list[Problem]]:
    """Return the words of ``runai inference submit`` for a REST body's spec with its project, and what they do not say."""
    words = [*SUBMIT, name]
    places: list[Path] = [path for path in _list_fields(spec, ("spec",)) if path not in (*FLAGS_BY_FIELD, *PROCESS)]
    for path, flags in FLAGS_BY_FIELD.items():
        value = get_at(spec, *path[1:])
        is_list = flags[0].many and isinstance(value, list)
        # Each item of a list has its own flag, in the order of the list.
        items: list[tuple[Path, Any]] = [(path, value)] if value is not None else []
        if is_list:
            items = [((*path, index), item) for index, item in enumerate(value)]
        for where, item in items:
            flag_words, lost_names = _choose_words(flags, path, item, is_list=is_list, profile=profile)
            words += flag_words
            places += [(*where, *names) for names in lost_names]
    process = _write_process(spec)
    if process is None:
        places += [path for path in PROCESS if path[1] in spec]
    return [*words, *(process or ())], [_make_loss(where) for where in places]


def _write_process(spec: dict[str, Any]) -> list[str] | None:
    """Return the command and the arguments as words, or None if they cannot be written."""
    try:
        command, args = (split_command(spec.get(name)) or [] for _, name in PROCESS)
    except ValueError:
        # An open quote, which a translation rejects.
        return None
    words = [*command, *args]
    if not all(_is_writable(word) for word in words):
        return None
    # With --command, everything after -- is the process, as it is for a container with both.
    return [*(("--command",) if command else ()), *(("--", *words) if words else ())]


def _list_fields(value: dict[str, Any], above: Native) -> Iterator[Native]:
    """Yield the paths of the fields with a value: inside the blocks that have flags, and of whole other blocks."""
    for name, item in value.items():
        path = (*above, name)
        if path in BLOCKS and isinstance(item, dict):
            yield from _list_fields(item, path)
        elif item not in (None, [], {}):
            yield path


def _choose_words(
    flags: list[Flag], path: Native, value: Any, *, is_list: bool, profile: Profile
) -> tuple[list[str], list[Native]]:
    """Return the words of the first flag from which the line's reader reads the value, and the fields without a flag.

    If no flag has the whole value, the fields that only describe it are left out. If this does not help either, there are no
    words, and what has no flag is the value itself.
    """
    # The name is part of the text of variables and labels.
    names = [name for name in DESCRIPTIONS if name != "name" or all(flag.write is None for flag in flags)]
    described = [name for name in names if isinstance(value, dict) and name in value]
    plain = {name: item for name, item in value.items() if name not in described} if described else value
    tries: list[tuple[Any, list[Native]]] = [(value, []), (plain, [(name,) for name in described])]
    for written, lost in tries:
        for flag in flags:
            words = _write_words(flag, written)
            if words and _reads_back(words, path, [written] if is_list else written, profile):
                return words, lost
    return [], [()]


def _write_words(flag: Flag, value: Any) -> list[str]:
    text = _write_value(flag, value)
    if text is None or not _is_writable(text):
        return []
    if flag.kind == "switch":
        return [flag.name if text == "true" else f"{flag.name}={text}"]
    # A text that looks like a flag would be read as one.
    return [flag.name, text] if text and not text.startswith("-") else [f"{flag.name}={text}"]


def _is_writable(text: str) -> bool:
    """Return whether a text may be in a comment of YAML, line by line."""
    return text.replace("\n", "").isprintable()


def _write_value(flag: Flag, value: Any) -> str | None:
    """Return the text of a flag's value, or None if the flag cannot express it."""
    if flag.write is not None:
        return flag.write(value)
    if not flag.parts:
        return FORMS[flag.kind].write(value)
    pieces: dict[str, str] = {}
    for key, part in flag.parts.items():
        item = get_at(value, *split_path(part.to))
        # Of two spellings of a key, the first one is written.
        if item is not None and part.to not in pieces:
            text = PART_FORMS[part.kind].write(item)
            pieces[part.to] = key if text == "true" else f"{key}={text}"
    return ",".join(pieces.values())


def _reads_back(words: list[str], path: tuple[str, ...], value: Any, profile: Profile) -> bool:
    """Return whether the words, and nothing else, have the meaning of a native field's value."""
    reading = read_flags([NAMELESS, *words], profile)
    document = make_document(NAMELESS, {})
    set_at(document, path, value)
    try:
        # Models compare by their values, in which a default is equal to a field that is not set.
        return not has_errors(reading.problems) and (
            Inference.model_validate(reading.native).spec == Inference.model_validate(document).spec
        )
    except ValidationError:
        return False


def _make_loss(path: Path) -> Problem:
    message = "runai inference submit has no flag for this value; it is omitted from the line"
    return make_warning("CNV004", path, message, "use the REST body, or keep the native document as the source")
