"""Tables and prose that fit the width of a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ebbtide.core.tables import align_table, wrap_text


def test_the_rest_of_a_line_is_below_its_last_cell() -> None:
    line = f"  URL        {'word ' * 20}".rstrip()
    lines = wrap_text(f"{line}\n", 60).splitlines()

    assert lines[0].startswith("  URL        word word")
    assert {len(row) - len(row.lstrip()) for row in lines[1:]} == {len("  URL        ")}
    assert wrap_text("word " * 20, 60).splitlines()[1].startswith("  word")


@given(st.lists(st.text(st.sampled_from("ab "), max_size=90), max_size=4), st.integers(40, 100))
def test_wrapping_keeps_every_word_and_breaks_none(lines: list[str], width: int) -> None:
    text = "".join(f"{line}\n" for line in lines)
    wrapped = wrap_text(text, width)

    assert wrapped.split() == text.split()
    assert wrap_text(text, 0) == text
    assert all(len(line) <= width or len(line.split()) == 1 for line in wrapped.splitlines())


def test_columns_beyond_the_width_follow_with_the_first_one() -> None:
    rows = [("NAME", *(f"COLUMN-{index}" for index in range(9))), ("chat", *map(str, range(9)))]
    text = align_table(rows, "  ", width=60)

    assert max(map(len, text.splitlines())) <= 60
    tables = text.split("\n\n")
    assert len(tables) > 1
    assert all(table.splitlines()[0].startswith("  NAME   COLUMN-") for table in tables)
    assert [cell for table in tables for cell in table.splitlines()[1].split()[1:]] == [*map(str, range(9))]
    assert align_table(rows, "  ").count("\n") == 2
