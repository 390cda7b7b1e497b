"""Every row in the tables of the readers names an existing native field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import cases
from ebbtide.core import manifests
from ebbtide.core.adopt import derive
from ebbtide.core.readers import rest
from ebbtide.core.readers.fields import field_names_at
from ebbtide.core.readers.table import split_path
from ebbtide.runai import flags, nim, nim_flags

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Path
    from ebbtide.core.readers.table import FieldRow

TABLES: dict[str, list[FieldRow]] = {
    "REST body": [*rest.FIELDS.values()],
    "NIM service": [*nim.FIELDS.values()],
    "port of a NIM service": [*nim.PORT_FIELDS.values()],
    "flags": [*flags.FLAGS],
    "flags of a NIM service": [*nim_flags.FLAGS],
    "live objects": [*derive.FIELDS],
}
ROWS = [(table, row) for table, rows in TABLES.items() for row in rows if row.to]


def has(path: Path) -> bool:
    return path[-1] in field_names_at(path[:-1])


@pytest.mark.parametrize(("table", "row"), ROWS, ids=[f"{table}-{row.to}-{row.name}" for table, row in ROWS])
def test_a_row_names_existing_native_fields(table: str, row: FieldRow) -> None:
    assert has(row.native)
    # Their keys have the names of another row's fields.
    if (table, row.name) != ("flags of a NIM service", "--serving-port"):
        assert all(has((*row.native, *split_path(part.to))) for part in row.parts.values())


def test_a_table_has_one_row_per_name() -> None:
    for table, rows in TABLES.items():
        assert len({(row.name, row.kind) for row in rows}) == len(rows), table


def test_the_golden_cases_in_this_format_are_known() -> None:
    """They are skipped in an installation without the reader, and no other case is."""
    folders = {
        folder.name
        for folder in cases.FOLDERS
        for document in manifests.read_documents(cases.spec_file(folder).read_bytes(), folder.name)
        if isinstance(document.data, dict) and nim.READER.recognize(document.data)
    }

    assert len(folders) > 5
    assert {folder.name for folder in cases.FOLDERS if folder.name.startswith(cases.OF_RUNAI)} == folders
