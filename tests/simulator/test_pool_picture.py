"""The picture of a planned pool: bands whose areas are GPU-hours, and marks for evictions and violated minutes."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from test_fleet import make_planner, make_random_fleet, make_service

from ebbtide.simulator.fleet import FleetRun, FleetService, record_service
from ebbtide.simulator.planner import Fleet, FleetPlanner
from ebbtide.simulator.pool import UNITS, GpuDemand, PoolSize
from ebbtide.simulator.pool_picture import HEIGHT, NAMED, SPANS, PoolPicture, draw_pool, render_picture
from ebbtide.simulator.slo import HOUR

#: Largest difference of a sum of means, in seconds of a GPU.
ROUNDING = 1e-6


def plan(service: FleetService, training: GpuDemand | None, count: int) -> FleetPlanner:
    recording = record_service(service)
    fleet = Fleet((service,), (PoolSize("default", 1, 1),), {}, training, count, {}, 0.0, service.case.traffic.seconds)
    return FleetPlanner(fleet, [recording])


def sum_training(picture: PoolPicture) -> float:
    return sum(band.hours for band in picture.bands if band.label == "training")


def test_the_areas_of_the_bands_are_the_gpu_hours_of_the_run() -> None:
    for seed in range(8):
        recordings, training, count = make_random_fleet(seed)
        planner = make_planner(recordings, training, count)
        for gpus in (1, planner.find_largest_useful()):
            run: FleetRun = planner.run(gpus)
            picture = draw_pool(planner, gpus)
            end = planner.fleet.seconds
            edges = np.append(run.usage[:, 0] / 1e9, end).clip(0, end)
            held = float((run.usage[:, 2] * np.diff(edges)).sum())
            services = sum(band.hours for band in picture.bands if band.label != "training") * HOUR
            assert services == pytest.approx(held, abs=ROUNDING)
            assert sum_training(picture) * HOUR == pytest.approx(run.training_seconds, abs=ROUNDING)
            assert np.sum([band.gpus for band in picture.bands], axis=0).max() <= gpus + ROUNDING
            assert picture.evicted == run.training_evictions + sum(run.evictions)
            assert len(picture.evictions) <= picture.evicted
            # A service without a violated minute meets a bound on the share of late requests.
            assert picture.violated > 0 or all(measured.holds for measured in run.measured)


def test_evictions_and_violated_minutes_have_marks_at_their_time() -> None:
    service = make_service("chat", low=0, high=1, traffic="steps:0rps,2m,1rps,2m")
    planner = plan(service, GpuDemand(("default",), 1, UNITS, 50, is_preemptible=True), 1)
    picture = draw_pool(planner, 1)

    assert (picture.evicted, len(picture.evictions)) == (1, 1)
    assert SPANS / 2 <= picture.evictions[0] < SPANS * 0.52
    assert picture.violated in {1, 2}
    assert min(picture.violations) >= SPANS / 2
    assert [band.label for band in picture.bands] == ["training", "chat"]


def test_the_picture_is_xml_with_escaped_names_inside_its_frame() -> None:
    recordings, training, count = make_random_fleet(3)
    attack = "<script>alert(1)</script>"
    for recording in recordings:
        object.__setattr__(recording.service, "name", attack)
    planner = make_planner(recordings, training, count)
    text = render_picture(draw_pool(planner, planner.find_largest_useful()))

    ET.fromstring(f"<div>{text}</div>")  # noqa: S314 - text of this program
    assert "<script" not in text
    assert text == render_picture(draw_pool(planner, planner.find_largest_useful()))
    heights = [
        float(number) for path in re.findall(r' d="(M0 [^"]+)"', text) for number in re.findall(r"V([\d.]+)", path)
    ]
    assert heights
    assert all(0 <= height <= HEIGHT for height in heights)


def test_services_beyond_the_colors_share_a_band() -> None:
    service = make_service("chat", low=1, high=1, traffic="constant:0.2rps,1m")
    recording = record_service(service)
    count = NAMED + 2
    fleet = Fleet((service,) * count, (PoolSize("default", count, 1),), {}, None, 0, {}, 0.0, 60.0)
    picture = draw_pool(FleetPlanner(fleet, [recording] * count), count)

    assert [band.label for band in picture.bands] == ["chat"] * NAMED + ["2 other services"]
    assert [band.color for band in picture.bands] == [*range(NAMED + 1)]
