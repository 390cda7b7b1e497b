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

SUBMIT: Final = ("runai", "inference", "submit")
#: The flags by native field, in the order of the table; the container's command is not the value of a flag.
FLAGS_BY_FIELD: Final[dict[tuple[str, ...], list[Flag]]] = {}
for _flag in FLAGS:
    if _flag.to and _flag.refusal is None and _flag.name != "--command":
        FLAGS_BY_FIELD.setdefault(_flag.native, []).append(_flag)
#: Fields of an item that only describe it in Run:ai's user interface.
DESCRIPTIONS: Final = ("name", "description", "toolType", "toolName")
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
    words, lost = [*SUBMIT, name], []
    for path, flags in FLAGS_BY_FIELD.items():
        value = get_at(spec, *path[1:])
        if value is None:
            continue
        # Each item of a list has its own flag, in the order of the list.
        is_list = flags[0].many and isinstance(value, list)
        for where, item in [((*path, index), item) for index, item in enumerate(value)] if is_list else [(path, value)]:
            flag_words, lost_fields = _choose_words(flags, path, item, is_list=is_list, profile=profile)
            words += flag_words
            lost += [_make_loss((*where, *field)) for field in lost_fields]
    try:
        command, args = (split_command(spec.get(field)) or [] for field in ("command", "args"))
    except ValueError:
        # An open quote, which a translation rejects.
        lost.append(_make_loss(("spec", "command" if "command" in spec else "args")))
    else:
        # With --command, everything after -- is the process, as it is for a container with both.
        words += [*(("--command",) if command else ()), *(("--", *command, *args) if command or args else ())]
    known = {**dict.fromkeys(FLAGS_BY_FIELD), ("spec", "command"): None, ("spec", "args"): None}
    lost += [_make_loss(path) for path in _list_fields(spec, ("spec",)) if path not in known]
    return words, lost


def _list_fields(value: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the fields with a value: inside the blocks that have flags, and of whole other blocks."""
    for name, item in value.items():
        path = (*above, name)
        if path in BLOCKS and isinstance(item, dict) and path not in FLAGS_BY_FIELD:
            yield from _list_fields(item, path)
        elif item not in (None, [], {}):
            yield path


def _choose_words(
    flags: list[Flag], path: tuple[str, ...], value: Any, *, is_list: bool, profile: Profile
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the words of the first flag from which the line's reader reads the value, and the fields without a flag.

    If no flag has the whole value, the fields that only describe it are left out. If this does not help either, there are no
    words, and the field without a flag is the value itself.
    """
    # The name is part of the text of variables and labels.
    names = [name for name in DESCRIPTIONS if name != "name" or all(flag.write is None for flag in flags)]
    described = [name for name in names if isinstance(value, dict) and name in value]
    plain = {name: item for name, item in value.items() if name not in described} if described else value
    for written, lost in ((value, []), (plain, [(name,) for name in described])):
        for flag in flags:
            text = _write_value(flag, written)
            if text is None or not text.replace("\n", "").isprintable():
                continue
            is_switch = flag.kind == "switch"
            words = [flag.name] if is_switch and text == "true" else [f"{flag.name}={text}"]
            if not is_switch and text and not text.startswith("-"):
                words = [flag.name, text]
            if _reads_back(words, path, [written] if is_list else written, profile):
                return words, lost
    return [], [()]


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
