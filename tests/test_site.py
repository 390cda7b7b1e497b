"""The builder of the documentation site: links, the navigation, and the check of the result. ``make site`` runs the generator."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from site_builder import build

if TYPE_CHECKING:
    from pathlib import Path


def test_the_navigation_has_every_page_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "SOURCE", tmp_path / "source")
    build.copy_docs()
    nav = tomllib.loads(build.CONFIG.read_text())["project"]["nav"]

    assert build.list_navigation_faults(nav, build.SOURCE) == []
    assert build.list_navigation_faults(["index.md", "install.md", "install.md", "none.md"], build.SOURCE)[-2:] == [
        "none.md of the navigation does not exist",
        "install.md is in the navigation twice",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](install.md#extras)", "[a](install.md#extras)"),
        ("[`a`](README.md)", "[`a`](index.md)"),
        ("[a](#here) [b](https://example.com/README.md)", "[a](#here) [b](https://example.com/README.md)"),
        ("[a](../CONTRIBUTING.md#release)", "[a](repository/CONTRIBUTING.md.txt)"),
        ("[a](../examples/probes)", "[a](repository/examples/probes/README.md.txt)"),
        (
            "```yaml docs/specs/chat.yaml\n[a](README.md)\n```\n",
            '```yaml title="docs/specs/chat.yaml"\n[a](README.md)\n```\n',
        ),
        ("```yaml refused\na: b\n```\n", "```yaml\na: b\n```\n"),
    ],
)
def test_a_page_is_converted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, expected: str) -> None:
    monkeypatch.setattr(build, "SOURCE", tmp_path / "source")
    monkeypatch.setattr("pathlib.Path.read_text", lambda _: text)
    page = build.DOCS / "page.md"

    assert build.convert_page(page) == expected


def test_a_link_without_a_target_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h2 id="here">a</h2><a href="#here">1</a><a href="b.html#there">2</a><a href="b.html#gone">3</a>'
        '<img src="none.png"><a href="https://example.com/none">4</a><a href="#nowhere">5</a>'
    )
    (tmp_path / "b.html").write_text('<h2 id="there">b</h2><a href="./">1</a>')
    (tmp_path / "index.html").write_text("")

    assert build.list_broken_links(tmp_path) == ["a.html: #nowhere", "a.html: b.html#gone", "a.html: none.png"]
