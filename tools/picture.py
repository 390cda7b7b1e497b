"""Take the pictures of the README and of the site: ``docs/images/*.png``, of the demo cluster, with Chromium.

The demo starts at a fixed time with a fixed seed, so a picture that is taken again shows the same traffic.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ebbtide.sandbox.backend import make_simulated_backend
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.services import PROFILE, demo_profile, demo_world
from website import FLAGS, Site

if TYPE_CHECKING:
    from collections.abc import Collection

PICTURES: Final = Path(__file__).parents[1] / "docs" / "images"
#: The path of the page in each picture, what must be drawn on it, and where the cursor is, if it shows something.
PAGES: Final = {
    "overview": ("/overview", "svg.tide", ""),
    "why": ("/workloads/team-a/chat", "figure[data-part='replicas'] canvas", "figure[data-part='replicas'] .plot"),
}
#: Milliseconds until a simulation has ended on a busy machine.
PATIENCE: Final = 300_000
WIDTH: Final = 1200
HEIGHT: Final = 808
#: The price of a GPU-hour in the picture.
GPU_HOUR: Final = 2.5
HOURS: Final = 3.0


def take_pictures(folder: Path, names: Collection[str]) -> None:
    """Serve the demo at the end of its past, and write a page of each name as PNG."""
    world = demo_world(ManualClock(), hours=HOURS)
    backend = make_simulated_backend(
        world.cluster, demo_profile(), PROFILE, world.clock, source=world.source, demo=True, gpu_hour=GPU_HOUR
    )
    chromium = os.environ.get("EBBTIDE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with Site(backend) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.set_default_timeout(PATIENCE)
        for name in names:
            address, drawn, cursor = PAGES[name]
            page.goto(f"{site.address}{address}")
            page.locator(drawn).first.wait_for()
            if cursor:
                page.locator(cursor).hover()
                page.locator(".decision b").wait_for()
            path = folder / f"{name}.png"
            page.screenshot(path=path)
            print(f"{path}: {path.stat().st_size:,} bytes")
        browser.close()


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*PAGES])
    parser.add_argument("--output", type=Path, default=PICTURES)
    options = parser.parse_args()
    take_pictures(options.output, options.names)


if __name__ == "__main__":
    main()
