"""Reports as data, and their renderers: text for a terminal, and an HTML page that loads nothing from the network.

A feature fills a ``ReportContent``; its JSON is the body of the feature's own result. Names come from a cluster or a file, so
both renderers escape them.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

from ebbtide.core.base.prose import make_printable
from ebbtide.core.tables import align_table, wrap_text
from ebbtide.core.units import format_duration

#: Width and height of a chart in text, in characters. A whole multiple of the width is a good number of values.
WIDTH: Final = 72
ROWS: Final = 5
BLOCKS: Final = " ▁▂▃▄▅▆▇█"
#: The place in a page where its script draws the next chart.
PLACE: Final = "<section></section>"


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Rows of cells with an optional title; the columns ``[left:right]`` have numbers.

    If ``headed``, the first row has the headings, and a table without another row is empty. An empty cell is a dash in the text.
    """

    rows: Sequence[Sequence[str]]
    title: str = ""
    left: int = 1
    right: int | None = None
    headed: bool = True


@dataclass(frozen=True, slots=True)
class ReportList:
    """Lines with an optional title."""

    lines: Sequence[str]
    title: str = ""


@dataclass(frozen=True, slots=True)
class ReportCurve:
    """Values over equal parts of the report's time; None is a gap. ``color`` numbers the colors, and -1 is gray."""

    name: str
    color: int
    values: Sequence[float | None]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class ReportChart:
    """Curves over time. In a stacked chart, those that are not dashed are areas above each other.

    ``text_title`` is the title of the first curve as text; without it, the chart is only on the page. A column of the text has the
    mean of its values, or with ``is_peak`` their maximum.
    """

    title: str
    unit: str
    curves: Sequence[ReportCurve]
    stacked: bool = False
    text_title: str = ""
    is_peak: bool = False


@dataclass(frozen=True, slots=True)
class ReportSpans:
    """Named spans of the report's time in seconds, only on the page: begin, end, name. ``has_shares`` shows the share of each name."""

    title: str
    spans: Sequence[tuple[float, float, str]]
    has_shares: bool = True


ReportSection: TypeAlias = ReportTable | ReportList | ReportChart | ReportSpans


@dataclass(frozen=True, slots=True)
class ReportContent:
    """A report: one line that describes it, notes on its numbers, and its sections in order, of which empty ones are left out.

    ``title`` is that of the page, ``seconds`` the length of the charts' time, and ``start`` its start in seconds since 1970, 0 if
    unknown.
    """

    head: str
    sections: Sequence[ReportSection]
    notes: Sequence[str] = ()
    title: str = ""
    seconds: float = 0.0
    start: float = 0.0


# Text.


def render_text(report: ReportContent, width: int = 0) -> str:
    """Return a report as text: blocks between empty lines, of at most ``width`` columns if it is not 0."""
    notes = ReportList([f"note: {note}" for note in report.notes])
    blocks = (_render_block(section, report.seconds, width) for section in (notes, *report.sections))
    return wrap_text("\n".join((f"{make_printable(report.head)}\n", *filter(None, blocks))), width)


def _render_block(section: ReportSection, seconds: float, width: int) -> str:
    title = f"{make_printable(section.title)}\n" if section.title else ""
    match section:
        case ReportTable(rows=rows) if len(rows) > section.headed:
            body = [[make_printable(cell) or "-" for cell in row] for row in rows[section.headed :]]
            lines = [*([*map(make_printable, row)] for row in rows[: section.headed]), *body]
            return title + align_table(lines, "  ", section.left, section.right, width)
        case ReportList(lines=lines) if lines:
            return title + "".join(f"  {make_printable(line)}\n" for line in lines)
        case ReportChart(text_title=text_title) if text_title:
            return draw_chart(section, seconds)
    return ""


def draw_chart(chart: ReportChart, seconds: float) -> str:
    """Return the first curve that is not dashed as a chart of block characters, labeled with the maximum and the duration."""
    values = next([value or 0.0 for value in curve.values] for curve in chart.curves if not curve.dashed)
    edges = [column * len(values) // WIDTH for column in range(WIDTH + 1)]
    parts = [values[first : max(last, first + 1)] for first, last in pairwise(edges)]
    columns = [max(part) if chart.is_peak else math.fsum(part) / len(part) for part in parts]
    maximum = max(columns)
    label = f"{maximum:,.3g}" if maximum < 1000 else f"{maximum:,.0f}"  # noqa: PLR2004 - four digits
    # Any value above 0 is visible.
    heights = [math.ceil(value / maximum * ROWS * 8) if maximum else 0 for value in columns]
    lines = [chart.text_title]
    for row, label_text in zip(reversed(range(ROWS)), (label, *[""] * (ROWS - 2), "0"), strict=True):
        cells = "".join(BLOCKS[min(max(height - row * 8, 0), 8)] for height in heights)
        lines.append(f"  {label_text:>{len(label)}} │{cells}".rstrip())
    lines.append(f"  {'':>{len(label)}} └0{format_duration(seconds):─>{WIDTH - 1}}")
    return "".join(f"{line}\n" for line in lines)


# HTML.


def render_page(report: ReportContent) -> str:
    """Return a report as a self-contained HTML page with zoomable charts."""
    from importlib.resources import files  # noqa: PLC0415 - only the page needs it

    template = files("ebbtide.core").joinpath("report.html").read_text(encoding="utf-8")
    drawn = [_make_chart_data(section) for section in report.sections if _render_html(section) == PLACE]
    data = {"end": report.seconds, "start": report.start, "charts": drawn}
    replacements = {
        "TITLE": html.escape(report.title),
        "HEAD": html.escape(report.head),
        "NOTES": "".join(f"<p class=note>{html.escape(note)}</p>" for note in report.notes),
        "SECTIONS": "\n".join(map(_render_html, report.sections)),
        # A name may contain any text; inside a script element, none may look like its end tag.
        "DATA": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    for key, value in replacements.items():
        template = template.replace(f"<!--{key}-->", value)
    return template


def _make_chart_data(section: ReportSection) -> dict[str, Any]:
    """Return what the page's script draws in the place of a section."""
    data = asdict(section)
    for curve in data.get("curves", ()):
        curve["values"] = [None if value is None else float(f"{value:.4g}") for value in curve["values"]]
    return data


def _render_html(section: ReportSection) -> str:
    title = f"<h2>{html.escape(section.title)}</h2>" if section.title else ""
    match section:
        case ReportTable(rows=rows) if len(rows) > section.headed:
            headings = [_render_row(row, section, "th scope=col") for row in rows[: section.headed]]
            body = [_render_row(row, section, "td") for row in rows[section.headed :]]
            parts = f"<thead>{''.join(headings)}</thead><tbody>{''.join(body)}</tbody>"
            return f'{title}<div class="scroll"><table>{parts}</table></div>'
        case ReportList(lines=lines) if lines:
            return f"{title}<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"
        case ReportChart(curves=drawn) | ReportSpans(spans=drawn) if drawn:
            return PLACE
    return ""


def _render_row(row: Sequence[str], table: ReportTable, tag: str) -> str:
    numbers = range(len(row))[table.left : table.right]
    tags = [tag if tag != "td" else "th scope=row", *[tag] * len(row)]
    cells = (
        f"<{name}{'' if place in numbers else ' class=text'}>{html.escape(cell)}</{name[:2]}>"
        for place, (name, cell) in enumerate(zip(tags, row, strict=False))
    )
    return f"<tr>{''.join(cells)}</tr>\n"
