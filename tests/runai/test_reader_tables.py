"""Every row in the tables of the readers names an existing native field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ebbtide.core.readers import rest
from ebbtide.core.readers.fields import field_names_at
from ebbtide.core.readers.table import FieldRow, split_path
from ebbtide.core.translation.placed_fields import PLACED
from ebbtide.runai import flags

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Path

TABLES: dict[str, list[FieldRow]] = {
    "REST body": [*rest.FIELDS.values()],
    "flags": [*flags.FLAGS],
    "objects": [FieldRow(row.key, f"spec.{row.field}", part) for part, rows in PLACED.items() for row in rows],
}
ROWS = {f"{table}-{row.to}-{row.name}": row for table, rows in TABLES.items() for row in rows if row.to}


def has(path: Path) -> bool:
    return path[-1] in field_names_at(path[:-1])


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_row_names_existing_native_fields(row: FieldRow) -> None:
    assert has(row.native)
    assert all(has((*row.native, *split_path(part.to))) for part in row.parts.values())


def test_a_table_has_one_row_per_name() -> None:
    for table, rows in TABLES.items():
        assert len({(row.name, row.kind) for row in rows}) == len(rows), table
