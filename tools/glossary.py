"""Draw the pictures of the glossary, ``docs/images/glossary/*.svg``. ``--check`` and a test compare them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "docs" / "images" / "glossary"
WIDTH: Final = 560
HEIGHT: Final = 150
#: Colors of the page's light scheme: ``platform/ebbtide/server/web/static/app.css``.
CARD, LINE, TEXT, SOFT, WASH = "#ffffff", "#e4e8eb", "#12191f", "#56636e", "#e4f1f4"
ACCENT, ACCENT_SOFT, CAPACITY, BAD = "#0b6780", "#4c9db3", "#2f3b45", "#b92525"
FONTS: Final = "Geist, system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
#: Requests in flight, every two seconds: quiet, then a burst.
LOAD: Final = (4, 5, 4, 6, 5, 4, 5, 6, 5, 4, 6, 5, 5, 4, 6, 5, 4, 5, 6, 5, 4, 5, 6, 5, 5, 6, 5, 18, 24, 27, 28)
SECONDS: Final = 2
STABLE: Final = 60
PANIC: Final = 6
#: Pods of a class from this value are not preempted.
FIRM: Final = 100
TIMES: Final = "\N{MULTIPLICATION SIGN}"


def box(x: float, y: float, width: float, height: float, fill: str, edge: str = "none") -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" fill="{fill}" stroke="{edge}"/>'


def label(x: float, y: float, text: str, color: str = TEXT, anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{color}" text-anchor="{anchor}">{escape(text)}</text>'


def path(points: Iterable[tuple[float, float]], color: str, *, dashed: bool = False) -> str:
    places = " ".join(f"{x:g},{y:g}" for x, y in points)
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="2"{dashes}/>'


def draw_window(seconds: int, text: str) -> list[str]:
    """Return the load of a minute, with the window of its last ``seconds`` and the mean in it."""

    def place(time: float, load: float) -> tuple[float, float]:
        return 20 + 340 * time / STABLE, 128 - 3.6 * load

    window = LOAD[-1 - seconds // SECONDS :]
    mean = sum(window) / len(window)
    left, right = place(STABLE - seconds, 0)[0], place(STABLE, 0)[0]
    level = place(0, mean)[1]
    return [
        box(left, 14, right - left, 114, WASH),
        path([place(SECONDS * number, load) for number, load in enumerate(LOAD)], ACCENT),
        path([(left, level), (right, level)], CAPACITY, dashed=True),
        label(right + 12, level + 4, f"mean {mean:.1f}", CAPACITY, "start"),
        label(right + 12, 26, text, SOFT, "start"),
        label(20, 144, f"{STABLE} s ago", SOFT, "start"),
        label(right, 144, "now", SOFT, "end"),
    ]


def draw_revision() -> list[str]:
    revisions = (("chat-00001", 0), ("chat-00002", 80), ("chat-00003", 20))
    parts = [box(20, 58, 90, 34, WASH, ACCENT), label(65, 80, "requests")]
    for row, (name, share) in enumerate(revisions):
        y = 18 + 42 * row
        parts += [
            path([(110, 75), (250, y + 15)], ACCENT if share else LINE),
            box(250, y, 120, 30, CARD, ACCENT if share else LINE),
            label(310, y + 20, name, TEXT if share else SOFT),
            label(384, y + 20, f"{share}% of the traffic" if share else "kept for a rollback", SOFT, "start"),
        ]
    return parts


def draw_target() -> list[str]:
    parts = []
    for number, load in enumerate((7, 7, 6)):
        x = 20 + 70 * number
        parts += [
            box(x, 20, 50, 100, CARD, LINE),
            box(x, 120 - 10 * load, 50, 10 * load, ACCENT_SOFT),
            label(x + 25, 138, str(load), SOFT),
        ]
    return [
        *parts,
        path([(14, 50), (236, 50)], CAPACITY, dashed=True),
        label(248, 54, f"target 7 = threshold 10 {TIMES} 70%", CAPACITY, "start"),
        label(248, 24, "threshold 10", SOFT, "start"),
        label(248, 116, "20 requests in flight / 7 = 2.9 → 3 replicas", TEXT, "start"),
    ]


def draw_share() -> list[str]:
    names = ("detect", "chat", "embed", "free")
    parts = [
        part
        for number, name in enumerate(names)
        for part in (
            box(24 + 84 * number, 34, 80, 60, CARD if name == "free" else ACCENT_SOFT, LINE),
            label(64 + 84 * number, 69, name, SOFT if name == "free" else CARD),
        )
    ]
    return [
        box(20, 30, 340, 68, CARD, CAPACITY),
        *parts,
        label(190, 122, "one GPU", SOFT),
        label(374, 69, "gpuPortionRequest: 0.25", TEXT, "start"),
    ]


def draw_quota() -> list[str]:
    return [
        box(20, 50, 180, 44, ACCENT),
        box(204, 50, 60, 44, WASH, ACCENT),
        box(268, 50, 92, 44, CARD, LINE),
        path([(202, 36), (202, 108)], CAPACITY, dashed=True),
        label(110, 77, "services", CARD),
        label(234, 77, "training", ACCENT),
        label(314, 77, "free", SOFT),
        label(202, 28, "quota: 2 GPUs", CAPACITY),
        label(234, 126, "idle GPUs, lent until they are needed", SOFT, "middle"),
    ]


def draw_priority() -> list[str]:
    classes = (("train", 50), ("build-preemptible", 75), ("build", 100), ("inference", 125))
    parts = []
    for row, (name, value) in enumerate(classes):
        y = 110 - 30 * row
        kept = value >= FIRM
        parts += [
            box(150, y, 2.4 * value, 22, ACCENT if kept else ACCENT_SOFT),
            label(142, y + 16, name, TEXT, "end"),
            label(160 + 2.4 * value, y + 16, f"{value}{'' if kept else ', can be preempted'}", SOFT, "start"),
        ]
    return parts


def draw_burn_rate() -> list[str]:
    return [
        path([(20, 20), (380, 120)], CAPACITY),
        path([(20, 20), (200, 120)], BAD),
        path([(20, 120), (380, 120)], LINE),
        label(30, 18, "error budget left", SOFT, "start"),
        label(340, 96, "rate 1: empty after 30 days", CAPACITY, "start"),
        label(24, 112, "rate 2: after 15 days", BAD, "start"),
        label(20, 140, "day 0", SOFT, "start"),
        label(200, 140, "15", SOFT),
        label(380, 140, "30", SOFT),
    ]


def draw_to_zero() -> list[str]:
    bars = [
        box(20 + 12 * number, 66 - height, 8, height, ACCENT)
        for number, height in enumerate((30, 34, 24, 12))
        if height
    ]
    return [
        *bars,
        box(284, 32, 8, 34, ACCENT),
        label(20, 24, "requests", SOFT, "start"),
        label(284, 24, "the next request waits", SOFT, "start"),
        path([(20, 100), (130, 100), (130, 128), (330, 128), (330, 100), (380, 100)], CAPACITY),
        label(20, 92, "1 replica", SOFT, "start"),
        label(230, 122, "0 replicas", SOFT),
        label(340, 92, "1 replica", SOFT, "start"),
    ]


PICTURES: Final = {
    "revision": draw_revision(),
    "stable-window": draw_window(STABLE, "stable window: 60 s"),
    "panic-window": draw_window(PANIC, "panic window: 6 s"),
    "target": draw_target(),
    "scale-to-zero": draw_to_zero(),
    "share": draw_share(),
    "quota": draw_quota(),
    "priority-class": draw_priority(),
    "burn-rate": draw_burn_rate(),
}


def format_picture(name: str) -> str:
    """Return a picture as SVG, on a card that is readable on light and dark pages."""
    frame = f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10" fill="{CARD}" stroke="{LINE}"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">'
    return "\n".join(
        [
            head,
            f"<title>{name.replace('-', ' ')}</title>",
            frame,
            f'<g font-family="{FONTS}" font-size="13">',
            *PICTURES[name],
            "</g>",
            "</svg>\n",
        ]
    )


def main() -> int:
    """Write or compare the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a picture differs, and write nothing")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    outdated = []
    for name in PICTURES:
        file = FOLDER / f"{name}.svg"
        drawn = format_picture(name)
        if not options.check:
            file.write_text(drawn)
        elif not file.exists() or file.read_text() != drawn:
            outdated.append(file.name)
    if outdated:
        sys.exit(f"{', '.join(outdated)} outdated: run python tools/glossary.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
