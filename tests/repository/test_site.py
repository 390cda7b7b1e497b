"""The documentation site, without building it: ``make site`` builds it and checks its links."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_builder", ROOT / "tools" / "site_builder" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_term_that_readers_search_for_is_the_title_of_a_section(builder: Any) -> None:
    for words, place in builder.SEARCHES.items():
        page = DOCS / place.partition("#")[0].replace(".html", ".md")
        titles = {title.lower() for title in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)}

        assert words in titles, place


def test_a_section_with_another_title_is_a_fault(builder: Any, tmp_path: Path) -> None:
    index = tmp_path / "search.json"
    items = [{"location": place, "title": words.title()} for words, place in builder.SEARCHES.items()]
    index.write_text(json.dumps({"items": items}))
    assert builder.list_search_faults(index) == []

    items[0]["title"] = "Another title"
    index.write_text(json.dumps({"items": items[:-1]}))
    assert len(builder.list_search_faults(index)) == 2


def test_each_picture_of_the_glossary_is_drawn_and_shown() -> None:
    shown = set(re.findall(r"\(images/glossary/([\w-]+\.svg)\)", (DOCS / "glossary.md").read_text()))

    assert shown == {file.name for file in (DOCS / "images" / "glossary").iterdir()}
