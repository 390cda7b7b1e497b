"""The renderers of reports: text for a terminal, and a self-contained page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from ebbtide.core.report import (
    ROWS,
    WIDTH,
    ReportChart,
    ReportContent,
    ReportCurve,
    ReportList,
    ReportSection,
    ReportSpans,
    ReportTable,
    draw_chart,
    render_page,
    render_text,
)

EVIL = "</script><script>alert(1)</script>\x1b[31m"


def make_chart(values: Sequence[float | None], **changes: Any) -> ReportChart:
    return ReportChart("Things over time", "things", [ReportCurve("seen", 0, values)], text_title="things", **changes)


def make_content(text: str) -> ReportContent:
    curves = [ReportCurve(text, 0, [1.0, None]), ReportCurve(text, 1, [2.0, 2.00001], dashed=True)]
    sections: tuple[ReportSection, ...] = (
        ReportTable([["", text], [text, "1 s"]], text),
        ReportTable([]),
        ReportList([text], text),
        ReportList([], "empty"),
        ReportChart(text, "things", curves, stacked=True),
        ReportChart("empty", "things", []),
        ReportSpans(text, [(0.0, 30.0, text)]),
        ReportSpans("empty", []),
    )
    return ReportContent(text, sections, (text,), text, 60.0)


def read_data(page: str) -> dict[str, Any]:
    match = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    data: dict[str, Any] = json.loads(match[1])
    return data


def test_text_has_blocks_between_empty_lines_and_no_empty_section() -> None:
    assert render_text(make_content("a")) == ("a\n\n  note: a\n\na\n        a\n  a   1 s\n\na\n  a\n")


def test_text_has_no_control_characters() -> None:
    text = render_text(make_content(EVIL))

    assert "\x1b" not in text
    assert text.count("\\x1b[31m") == text.count("</script><script>")


def test_a_chart_has_labels_and_shows_any_value_above_0() -> None:
    lines = draw_chart(make_chart([0.0] * 24 + [0.001] * 24 + [10.0] * 24), 60.0).splitlines()

    assert len(lines) == ROWS + 2
    assert lines[0] == "things"
    assert lines[1] == f"  10 │{' ' * 48}{'█' * 24}"
    assert lines[ROWS] == f"   0 │{' ' * 24}{'▁' * 24}{'█' * 24}"
    assert lines[-1] == f"     └0{'60 s':─>{WIDTH - 1}}"


@pytest.mark.parametrize("count", [1, 7, WIDTH, 3 * WIDTH, 1000])
def test_a_chart_has_a_fixed_width(count: int) -> None:
    assert {len(line) for line in draw_chart(make_chart([1.0] * count), 60.0).splitlines()[1:]} == {WIDTH + 5}


def test_a_column_has_the_mean_or_the_maximum_of_its_values() -> None:
    values: list[float | None] = [0.0, 1500.0] * WIDTH

    assert "  750 │" in draw_chart(make_chart(values), 60.0)
    assert "  1,500 │" in draw_chart(make_chart(values, is_peak=True), 60.0)


def test_an_empty_chart() -> None:
    assert "█" not in draw_chart(make_chart([None] * 10), 60.0)


def test_the_page_is_self_contained() -> None:
    page = render_page(make_content("a"))

    assert "default-src 'none'" in page
    assert re.findall(r"""(?:src|href)=|url\(|@import|fetch\(|XMLHttp""", page) == []
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "<!--" not in page.replace("<!DOCTYPE", "")


def test_the_script_draws_each_chart_in_its_place() -> None:
    page = render_page(make_content("a"))
    data = read_data(page)

    assert data["end"] == 60.0
    assert page.count("<section></section>") == len(data["charts"]) == 2
    assert [curve["values"] for curve in data["charts"][0]["curves"]] == [[1.0, None], [2.0, 2.0]]
    assert data["charts"][1]["spans"] == [[0.0, 30.0, "a"]]
    assert "empty" not in page


def test_a_name_cannot_break_the_page() -> None:
    page = render_page(make_content(EVIL))

    assert page.count("<script") == 2
    assert "<script>alert" not in page
    assert read_data(page)["charts"][0]["title"] == EVIL
