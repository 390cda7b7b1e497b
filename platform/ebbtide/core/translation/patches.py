"""Patches of rendered objects: strategic merge patches, and the check that none of them covers a field of the spec.

A patch is a JSON merge patch (RFC 7386), in which the lists of ``LIST_KEYS`` are merged item by item, as in Kubernetes'
strategic merge patch (sigs.k8s.io/structured-merge-diff and k8s.io/apimachinery pkg/util/strategicpatch). Custom resources
do not support that kind of patch on the server, so Ebbtide applies it before it writes the objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.base.problems import Path, Problem, format_path, remove_field
from ebbtide.core.translation.objects import Object, to_camel, with_values

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import Inference

#: The lists that are merged by item, and the field that identifies an item (k8s.io/api core/v1, patchMergeKey).
LIST_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
}
#: The field of an item that says what to do with it: ``delete`` the item, or ``replace`` the whole list with the other items.
DIRECTIVE: Final = "$patch"
#: The prefix of the field with the order of a list: ``$setElementOrder/env: [A, B]``.
ORDER: Final = "$setElementOrder/"
#: Fields of the spec that select the object or are not rendered: they are never what a patch covers.
NOT_RENDERED: Final = frozenset(
    {
        *("apiVersion", "kind", "metadata.name", "metadata.namespace", "spec.defaults", "spec.patches"),
        *("spec.serving", "spec.slo", "spec.relatedUrls", "spec.exposedUrls"),
    }
)


class Override(NamedTuple):
    """A value that a patch covers: its path in the patch, and in the object, with the keys of list items."""

    in_patch: Path
    in_object: tuple[Any, ...]


class ItemKey(NamedTuple):
    """The part of a path that selects the item of a list by its key."""

    field: str
    value: Any


def index_items(name: str, items: Any) -> dict[Any, dict[str, Any]] | None:
    """Return the items of the list ``name`` by key, or None if the list is not merged by item."""
    key = LIST_KEYS.get(name)
    if key is None or not isinstance(items, list):
        return None
    by_key: dict[Any, dict[str, Any]] = {}
    for item in items:
        value = item.get(key) if isinstance(item, dict) else None
        if not isinstance(value, str | int) or value in by_key:
            return None
        by_key[value] = item
    return by_key


def apply_patch(target: Any, patch: Any, name: str = "") -> Any:
    """Return ``target`` with ``patch`` merged in. ``name`` is the field that contains both."""
    if isinstance(patch, dict):
        result = dict(target) if isinstance(target, dict) else {}
        for field, value in patch.items():
            if field.startswith(ORDER):
                continue
            if value is None:
                result.pop(field, None)
            else:
                result[field] = apply_patch(result.get(field), value, field)
        for field, order in patch.items():
            if field.startswith(ORDER):
                _sort_items(result, field.removeprefix(ORDER), order)
        return result
    if isinstance(patch, list):
        return _apply_list(target, patch, name)
    return patch


def _apply_list(target: Any, patch: list[Any], name: str) -> list[Any]:
    items = [item for item in patch if not _has_directive(item, "replace")]
    patched, existing = index_items(name, items), index_items(name, target)
    if len(items) < len(patch) or patched is None or existing is None:
        return [item for item in items if not _has_directive(item, "delete")]
    result = dict(existing)
    for key, item in patched.items():
        if _has_directive(item, "delete"):
            result.pop(key, None)
        else:
            result[key] = apply_patch(result.get(key), item)
    return list(result.values())


def _has_directive(item: Any, directive: str) -> bool:
    return isinstance(item, dict) and item.get(DIRECTIVE) == directive


def _sort_items(holder: dict[str, Any], name: str, order: Any) -> None:
    """Sort a list by an order of keys. Items that the order does not name go last."""
    by_key = index_items(name, holder.get(name))
    if by_key is None or not isinstance(order, list):
        return
    places = {key: place for place, key in enumerate(order) if isinstance(key, str | int)}
    holder[name] = [by_key[key] for key in sorted(by_key, key=lambda key: places.get(key, len(places)))]


def make_patch(old: Any, new: Any, name: str = "") -> Any:
    """Return the patch that turns ``old`` into ``new``, ``{}`` if they are equal mappings.

    A merge patch cannot set a value to null, so ``new`` must not contain null.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        patch: dict[str, Any] = {field: None for field in old if field not in new}
        for field, value in new.items():
            if field not in old:
                patch[field] = value
            elif not is_same(old[field], value):
                patch[field] = make_patch(old[field], value, field)
                old_items, new_items = index_items(field, old[field]), index_items(field, value)
                if old_items is not None and new_items is not None:
                    kept = [key for key in old_items if key in new_items]
                    if [*kept, *(key for key in new_items if key not in old_items)] != list(new_items):
                        patch[ORDER + field] = list(new_items)
        return patch
    old_items, new_items = index_items(name, old), index_items(name, new)
    if new_items is None or old_items is None:
        return (
            [{DIRECTIVE: "replace"}, *new] if isinstance(new, list) and name in LIST_KEYS and old is not None else new
        )
    key_field = LIST_KEYS[name]
    items = [{DIRECTIVE: "delete", key_field: key} for key in old_items if key not in new_items]
    for key, item in new_items.items():
        if key not in old_items:
            items.append(item)
        elif not is_same(old_items[key], item):
            items.append({key_field: key, **make_patch(old_items[key], item)})
    return items


def is_same(old: Any, new: Any) -> bool:
    """Return whether two values are equal in Kubernetes, where true is not 1."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(is_same(value, new[name]) for name, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(is_same, old, new))
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def find_overrides(
    patch: Any, written: Any, name: str = "", where: Path = (), at: tuple[Any, ...] = ()
) -> Iterator[Override]:
    """Yield each value of ``written``, the object without Ebbtide's defaults, that ``patch`` changes or removes."""
    if isinstance(patch, dict) and isinstance(written, dict):
        for field, value in patch.items():
            if field in written and not field.startswith((ORDER, DIRECTIVE)):
                yield from find_overrides(value, written[field], field, (*where, field), (*at, field))
    elif isinstance(patch, list) and isinstance(written, list):
        items = [item for item in patch if not _has_directive(item, "replace")]
        patched, existing = index_items(name, items), index_items(name, written)
        if len(items) < len(patch) or patched is None or existing is None:
            if not is_same(items, written):
                yield Override(where, at)
            return
        for index, item in enumerate(patch):
            key = ItemKey(LIST_KEYS[name], item[LIST_KEYS[name]])
            if key.value not in existing:
                # A second port would make the pod invalid, so a port that the patch adds replaces that of the spec.
                if name == "ports" and existing:
                    yield Override((*where, index), at)
            elif _has_directive(item, "delete"):
                yield Override((*where, index), (*at, key))
            else:
                yield from find_overrides(item, existing[key.value], "", (*where, index), (*at, key))
    elif not is_same(patch, written):
        yield Override(where, at)


def list_patched_paths(patch: dict[str, Any], old: Any, new: Any, path: Path = ()) -> Iterator[tuple[Path, bool]]:
    """Yield the path in ``new`` of each part of the patch from ``old``, and whether ``new`` has a value there."""
    for field, value in patch.items():
        where, before, after = (*path, field), _get(old, field), _get(new, field)
        if field.startswith((ORDER, DIRECTIVE)):
            continue
        old_items, new_items = index_items(field, before), index_items(field, after)
        if isinstance(value, dict) and isinstance(before, dict):
            yield from list_patched_paths(value, before, after, where)
        elif (
            isinstance(value, list)
            and old_items
            and new_items
            and not any(_has_directive(item, "replace") for item in value)
        ):
            places = {key: index for index, key in enumerate(new_items)}
            for item in value:
                key = item[LIST_KEYS[field]]
                if key in old_items and key in new_items:
                    changes = {name: part for name, part in item.items() if name != LIST_KEYS[field]}
                    yield from list_patched_paths(changes, old_items[key], new_items[key], (*where, places[key]))
                else:
                    yield (*where, places[key]) if key in places else where, key in new_items
        else:
            yield where, value is not None


def _get(data: Any, field: str) -> Any:
    return data.get(field) if isinstance(data, dict) else None


def _look_up(data: Any, path: tuple[Any, ...]) -> Any:
    """Return the value at the path of an override, None if it is missing."""
    for part in path:
        if isinstance(part, ItemKey):
            items = data if isinstance(data, list) else []
            data = next((item for item in items if isinstance(item, dict) and item.get(part.field) == part.value), None)
        else:
            data = data.get(part) if isinstance(data, dict) else None
    return data


def without_defaults(inference: Inference) -> Inference:
    """Return the document with ``defaults: none`` and without patches."""
    return with_values(inference, spec=with_values(inference.spec, defaults="none", patches=()))


def check_overrides(
    inference: Inference,
    index: int,
    written: Object,
    list_variants: Callable[[], Iterable[tuple[Path, Sequence[Object]]]],
    is_selected: Callable[[Object], bool],
) -> Iterator[Problem]:
    """Yield an error for each field of the spec whose rendered value the patch ``index`` changes or removes.

    ``written`` is the object without Ebbtide's defaults, so that everything in it comes from a field of the spec, and
    ``is_selected`` returns whether an object is that one. The field is found by trying each: in its variant, the value differs.
    ``list_variants`` returns the objects without each field, with its path.
    """
    for override in find_overrides(inference.spec.patches[index].patch, written):
        in_patch: Path = ("spec", "patches", index, "patch", *override.in_patch)
        value = _look_up(written, override.in_object)
        path = _find_cause(override, value, list_variants(), is_selected)
        if path is None:
            continue
        message = f"{format_path(path)} has no effect: {format_path(in_patch)} changes or removes what it renders"
        fix = f"remove {format_path(in_patch)}, or remove {format_path(path)}"
        yield Problem("PAT003", path, message, fix, fixes=remove_field(in_patch) + remove_field())


def _find_cause(
    override: Override,
    value: Any,
    variants: Iterable[tuple[Path, Sequence[Object]]],
    is_selected: Callable[[Object], bool],
) -> Path | None:
    """Return the field that renders a value, or else the one that renders the least around it; None if there is none.

    A field such as the container's name moves every value of the container to another place, and is the cause of none.
    """
    where = override.in_object
    cause, deepest = None, -1
    for path, objects in variants:
        after = next(filter(is_selected, objects), None)
        if after is None or is_same(_look_up(after, where), value):
            continue
        depth = next(length for length in range(len(where) - 1, -1, -1) if _look_up(after, where[:length]) is not None)
        if depth > deepest:
            cause, deepest = path, depth
        if depth == len(where) - 1:
            break
    return cause


def _is_block(value: Any) -> bool:
    return hasattr(value, "__pydantic_fields_set__")


def list_variants(model: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the path of each rendered field that a document sets, and the document without it, or with another value of it.

    The parts of a block such as ``compute`` are tried instead of the block itself, and the items of a list one by one.
    """
    for name, value in model.__dict__.items():
        where = (*path, to_camel(name))
        if ".".join(where) in NOT_RENDERED or value is None or (isinstance(value, list | tuple | dict) and not value):
            continue
        if _is_block(value) and len(path) < 2:  # noqa: PLR2004 - metadata or spec, and a block of it
            for inner, variant in list_variants(value, where):
                yield inner, with_values(model, **{name: variant})
        elif isinstance(value, dict):
            for key in value:
                yield (
                    (*where, key),
                    with_values(model, **{name: {other: value[other] for other in value if other != key}}),
                )
        elif isinstance(value, list) and any(map(_is_block, value)):
            for index in range(len(value)):
                yield (*where, index), with_values(model, **{name: [*value[:index], *value[index + 1 :]]})
        else:
            yield where, with_values(model, **{name: None})
            if isinstance(value, str):
                yield where, with_values(model, **{name: f"{value}0"})
