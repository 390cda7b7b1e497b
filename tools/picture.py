"""Take the picture of the overview in the README: ``docs/images/overview.png``, of the demo cluster, with Chromium.

The demo starts at a fixed time with a fixed seed, so a picture that is taken again shows the same traffic.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ebbtide.sandbox.backend import make_simulated_backend
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.services import PROFILE, demo_profile, demo_world
from website import FLAGS, Site

PICTURE: Final = Path(__file__).parents[1] / "docs" / "images" / "overview.png"
WIDTH: Final = 1200
HEIGHT: Final = 820
#: The price of a GPU-hour in the picture.
GPU_HOUR: Final = 2.5
HOURS: Final = 3.0


def take_picture(path: Path) -> None:
    """Serve the demo at the end of its past, and write the overview as PNG."""
    world = demo_world(ManualClock(), hours=HOURS)
    backend = make_simulated_backend(
        world.cluster, demo_profile(), PROFILE, world.clock, source=world.source, demo=True, gpu_hour=GPU_HOUR
    )
    chromium = os.environ.get("EBBTIDE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with Site(backend) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(f"{site.address}/overview")
        page.locator("svg.tide").first.wait_for()
        page.screenshot(path=path)
        browser.close()


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PICTURE)
    path = parser.parse_args().output
    take_picture(path)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
