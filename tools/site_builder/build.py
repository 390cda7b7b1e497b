"""Build the documentation site in ``build/site`` from ``docs``, and check its links and what its search finds.

GitHub shows the same pages, so their links are relative, and some lead out of ``docs``. The copy that the generator reads
has the files behind those links too, as text. ``README.md`` becomes ``index.md``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

ROOT: Final = Path(__file__).parent.parent.parent
DOCS: Final = ROOT / "docs"
BUILD: Final = ROOT / "build"
SOURCE: Final = BUILD / "site-source"
SITE: Final = BUILD / "site"
CONFIG: Final = Path(__file__).parent / "zensical.toml"
#: The mark and the typeface of the product's page, and the site's own style.
STATIC: Final = ROOT / "platform" / "ebbtide" / "server" / "web" / "static"
ASSETS: Final = (STATIC / "icon.svg", STATIC / "vendor" / "geist.woff2", CONFIG.with_name("site.css"))
#: Words that readers search for, and the section whose title has them: search prefers titles.
SEARCHES: Final = {
    "scale to zero": "write-specs.html#scale-to-zero",
    "panic window": "glossary.html#panic-window",
    "burn rate": "glossary.html#burn-rate",
}
#: Folder of the copies of files outside ``docs``.
OUTSIDE: Final = "repository"
FENCE: Final = re.compile(r"^(?P<fence>```[\w-]*) (?P<rest>[^\n`]+)$", re.MULTILINE)
LINK: Final = re.compile(r"(?P<start>!?\[[^\]]*\]\()(?P<target>[^)\s]+)(?P<end>\))")
#: Text that is not Markdown. A link's label may be inline code.
CODE: Final = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def copy_docs() -> None:
    """Copy ``docs``, the files that it links to, and the site's assets."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for file in sorted(DOCS.rglob("*")):
        if file.is_dir():
            continue
        target = SOURCE / file.relative_to(DOCS)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            target.with_name(target.name.replace("README.md", "index.md")).write_text(convert_page(file))
        else:
            shutil.copyfile(file, target)
    (SOURCE / "assets").mkdir()
    for file in ASSETS:
        shutil.copy(file, SOURCE / "assets")


def convert_page(page: Path) -> str:
    """Return a page's text with the generator's form of code titles, and links that work on the site."""
    text = FENCE.sub(convert_fence, page.read_text())
    parts, end = [], 0
    for code in CODE.finditer(text):
        parts += [convert_links(text[end : code.start()], page), code[0]]
        end = code.end()
    return "".join([*parts, convert_links(text[end:], page)])


def convert_fence(match: re.Match[str]) -> str:
    """Return the opening of a code block with the file that it shows as its title."""
    names = [word for word in match["rest"].split() if "." in word]
    return f'{match["fence"]} title="{names[0]}"' if names else match["fence"]


def convert_links(text: str, page: Path) -> str:
    """Return Markdown whose links to files outside ``docs`` lead to copies of them."""

    def convert(match: re.Match[str]) -> str:
        target, sign, anchor = match["target"].partition("#")
        if not target or urlsplit(target).scheme:
            return match[0]
        file = (page.parent / target).resolve()
        if file.is_relative_to(DOCS):
            changed = re.sub(r"(^|/)README\.md$", r"\1index.md", target)
        else:
            copy = copy_outside(file)
            changed, sign, anchor = os.path.relpath(copy, (SOURCE / page.relative_to(DOCS)).parent), "", ""
        return f"{match['start']}{changed}{sign}{anchor}{match['end']}"

    return LINK.sub(convert, text)


def copy_outside(file: Path) -> Path:
    """Copy a file, or the specification of an example's folder, as text; return the copy."""
    if file.is_dir():
        file = next(file / name for name in ("README.md", "kustomization.yaml") if (file / name).exists())
    copy = SOURCE / OUTSIDE / f"{file.relative_to(ROOT)}.txt"
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copy)
    return copy


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "__top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src"} and value:
                self.links.append(value)
            elif name in {"id", "name"} and value:
                self.anchors.add(value)
        del tag


def list_broken_links(site: Path) -> list[str]:
    """Return the links of the site's pages without a target, and those to other sites that a page would load."""
    pages = {file: Page(file.read_text()) for file in sorted(site.rglob("*.html"))}
    broken = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            # The page for missing addresses has absolute links.
            if parts.scheme or parts.netloc or file.name == "404.html":
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if target.is_dir():
                target /= "index.html"
            anchors = pages[target].anchors if target in pages else {parts.fragment}
            if not target.exists() or unquote(parts.fragment) not in anchors:
                broken.append(f"{file.relative_to(site)}: {link}")
    return sorted(set(broken))


def list_pages(nav: Any) -> list[str]:
    """Return the pages of a navigation."""
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in list_pages(part)]


def list_navigation_faults(nav: Any, source: Path) -> list[str]:
    """Return the pages that are missing in the navigation, and those that it names without a file."""
    named = list_pages(nav)
    pages = {str(file.relative_to(source)) for file in source.rglob("*.md") if file.parent.name != "specs"}
    return [
        *(f"{page} is not in the navigation" for page in sorted(pages - {*named})),
        *(f"{page} of the navigation does not exist" for page in sorted({*named} - pages)),
        *(f"{page} is in the navigation twice" for page in sorted({page for page in named if named.count(page) > 1})),
    ]


def list_search_faults(index: Path) -> list[str]:
    """Return the searches for which no section of the index has the title and the place that ``SEARCHES`` names."""
    titles = {item["location"]: item["title"].lower() for item in json.loads(index.read_text())["items"]}
    return [
        f"search for {words!r}: no section {place}" for words, place in SEARCHES.items() if titles.get(place) != words
    ]


def main() -> int:
    """Build the site and print its faults."""
    copy_docs()
    faults = list_navigation_faults(tomllib.loads(CONFIG.read_text())["project"]["nav"], SOURCE)
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copyfile(CONFIG, BUILD / CONFIG.name)
    generator = Path(sys.executable).with_name("zensical")
    subprocess.run([generator, "build", "--clean", "--config-file", BUILD / CONFIG.name], check=True, cwd=BUILD)
    faults += [f"broken link: {link}" for link in list_broken_links(SITE)]
    faults += list_search_faults(SITE / "search.json")
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    if not faults:
        sys.stdout.write(f"{SITE.relative_to(ROOT)}: {len(list(SITE.rglob('*.html')))} pages, no broken link\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
