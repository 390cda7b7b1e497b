"""Measure a small transformer on one NVIDIA GPU, and compare it with what the simulator assumes of GPUs.

    python tools/gpu-truth/gpu_truth.py --write docs/measurements

Three measurements, in a few minutes, with PyTorch and the driver's NVML:

1. Times to first token and per output token with continuous batching, for several prompts, outputs and numbers of requests.
   The form of ``--calibrate`` is fitted to half of them and predicts the other half; the goal is a median error of 10%.
2. Memory of a process that may use a fraction of the GPU: what it gets under load, and what the driver counts.
3. What the driver's utilization says under a quarter of the full load, and under kernels that fill a small part of the GPU.

Without PyTorch or a GPU, the program prints one sentence, exits with 2 and changes nothing. PyTorch is not a dependency of
Ebbtide: install it yourself.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

from ebbtide.simulate.measured import (
    ErrorShares,
    HeldOutErrors,
    ServingPoint,
    fit_points,
    predict_points,
    summarize_errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

UNAVAILABLE: Final = 2
GOAL: Final = 0.10
"""Median relative error of the half that was not fitted."""
PROMPTS: Final = (64, 256, 1024)
OUTPUTS: Final = (32, 128)
BATCHES: Final = (1, 2, 4, 8, 16)
ROUNDS: Final = 3
"""Requests of each slot that are measured, after one that is not."""
FRACTION: Final = 0.25
LOAD: Final = 0.25
LOAD_SECONDS: Final = 10.0
LAYERS, WIDTH, HEADS, VOCABULARY = 12, 1024, 16, 32_000


class Engine(Protocol):
    """A transformer with a KV cache for some requests, each in a slot. Calls return when the work is done."""

    def prefill(self, slot: int, prompt: int) -> None:
        """Compute a prompt and the first token of a new request in a slot."""
        ...

    def decode(self) -> None:
        """Compute the next token of all slots."""
        ...


class Utilization(NamedTuple):
    """The driver's mean utilization in percent under a load."""

    load: str
    """Name of the load."""
    busy: float
    """Share of the time in which it ran, in percent."""
    reported: float


# Times of tokens.


def measure_point(engine: Engine, shape: tuple[int, int, int], clock: Callable[[], float]) -> ServingPoint:
    """Keep n requests in the engine, and return their mean times: the next request begins when one ends.

    Requests are spread evenly over their outputs, so that one prompt at a time interrupts the others, as with continuous
    batching in a steady state.
    """
    prompt, output, batch = shape
    left = [max(round((output - 1) * (slot + 1) / batch), 1) for slot in range(batch)]
    for slot in range(batch):
        engine.prefill(slot, prompt)
    first: list[float] = []
    gaps: list[float] = []
    waiting, last = [clock()] * batch, [clock()] * batch
    ended = 0
    while len(first) < ROUNDS * batch:
        engine.decode()
        now = clock()
        for slot in range(batch):
            if ended >= batch:
                gaps.append(now - last[slot])
            last[slot] = now
            left[slot] -= 1
            if left[slot] == 0:
                waiting[slot] = now
        for slot in [slot for slot in range(batch) if left[slot] == 0]:
            engine.prefill(slot, prompt)
            last[slot] = clock()
            if ended >= batch:
                first.append(last[slot] - waiting[slot])
            ended += 1
            left[slot] = output - 1
    return ServingPoint(float(prompt), float(output), float(batch), float(np.mean(first)), float(np.mean(gaps)))


def measure_points(
    make_engine: Callable[[int, int], Engine],
    clock: Callable[[], float],
    shapes: Sequence[tuple[int, int, int]] = tuple(product(PROMPTS, OUTPUTS, BATCHES)),
) -> list[ServingPoint]:
    """Return the times of all shapes. ``make_engine`` takes the number of slots and the tokens of the longest request."""
    points = []
    for prompt, output, batch in shapes:
        engine = make_engine(batch, prompt + 2 * output)
        points.append(measure_point(engine, (prompt, output, batch), clock))
    return points


def compare_halves(points: Sequence[ServingPoint]) -> HeldOutErrors:
    """Fit every second point of a shuffled list, and return the errors of the others."""
    order = np.random.default_rng(0).permutation(len(points))
    fitted, held = ([points[index] for index in order[start::2]] for start in (0, 1))
    first, step = predict_points(fit_points(fitted), held)
    _, output, _, true_first, true_step = np.asarray(held).T
    pairs = (
        (first, true_first),
        (step, true_step),
        (first + step * (output - 1), true_first + true_step * (output - 1)),
    )
    return summarize_errors([np.abs(value - truth) / truth for value, truth in pairs])


# The driver.


class Nvml:
    """The first GPU of the driver's library, without a package."""

    def __init__(self) -> None:
        """Load the library. Raises OSError if there is none, or no GPU."""
        self.library = ctypes.CDLL("libnvidia-ml.so.1")
        self.device = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByIndex_v2", 0, ctypes.byref(self.device))

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status:
            raise OSError(f"{name} returned {status}")

    def utilization(self) -> int:
        """Return the percent of the last sample period in which a kernel ran."""
        rates = (ctypes.c_uint * 2)()
        self._call("nvmlDeviceGetUtilizationRates", self.device, rates)
        return int(rates[0])

    def used_mebibytes(self) -> float:
        """Return the memory in use by all processes."""
        memory = (ctypes.c_ulonglong * 3)()
        self._call("nvmlDeviceGetMemoryInfo", self.device, memory)
        return memory[2] / 2**20


@contextmanager
def sampled(read: Callable[[], float], every: float = 0.2) -> Iterator[list[float]]:
    """Read a value in the background until the block ends."""
    values: list[float] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(every):
            values.append(read())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield values
    finally:
        stop.set()
        thread.join()


def run_share(work: Callable[[], None], share: float, seconds: float) -> float:
    """Run work for a share of the time, in periods of about 0.1 s; return the share that it took."""
    start, busy = time.perf_counter(), 0.0
    while (passed := time.perf_counter() - start) < seconds:
        if busy <= share * passed:
            before = time.perf_counter()
            while time.perf_counter() - before < share * 0.1:
                work()
            busy += time.perf_counter() - before
        else:
            time.sleep(0.005)
    return busy / (time.perf_counter() - start)


# PyTorch.


def make_torch_engine(torch: Any, slots: int, length: int) -> Engine:
    """Return a transformer of random weights in PyTorch on the GPU."""
    device, kind = "cuda", torch.float16
    torch.manual_seed(0)

    def weight(*shape: int) -> Any:
        return torch.randn(*shape, device=device, dtype=kind) / shape[-1] ** 0.5

    attend = torch.nn.functional.scaled_dot_product_attention
    layers = [
        (weight(3 * WIDTH, WIDTH), weight(WIDTH, WIDTH), weight(4 * WIDTH, WIDTH), weight(WIDTH, 4 * WIDTH))
        for _ in range(LAYERS)
    ]
    embedding = weight(VOCABULARY, WIDTH)
    size = WIDTH // HEADS
    cache = torch.zeros(LAYERS, 2, slots, HEADS, length, size, device=device, dtype=kind)
    lengths = torch.zeros(slots, device=device, dtype=torch.long)
    tokens = torch.zeros(slots, device=device, dtype=torch.long)
    columns = torch.arange(length, device=device)

    def norm(values: Any) -> Any:
        return torch.nn.functional.layer_norm(values, (WIDTH,))

    class TorchEngine:
        @torch.inference_mode()  # type: ignore[untyped-decorator,unused-ignore]
        def prefill(self, slot: int, prompt: int) -> None:
            hidden = embedding[torch.randint(VOCABULARY, (prompt,), device=device)]
            for index, (project, out, up, down) in enumerate(layers):
                query, key, value = (norm(hidden) @ project.T).view(prompt, 3, HEADS, size).permute(1, 2, 0, 3)
                cache[index, 0, slot, :, :prompt], cache[index, 1, slot, :, :prompt] = key, value
                mixed = attend(query[None], key[None], value[None], is_causal=True)[0].transpose(0, 1)
                hidden = hidden + mixed.reshape(prompt, WIDTH) @ out.T
                hidden = hidden + torch.nn.functional.gelu(norm(hidden) @ up.T) @ down.T
            tokens[slot] = (norm(hidden[-1]) @ embedding.T).argmax()
            lengths[slot] = prompt
            torch.cuda.synchronize()

        @torch.inference_mode()  # type: ignore[untyped-decorator,unused-ignore]
        def decode(self) -> None:
            hidden, every = embedding[tokens], torch.arange(slots, device=device)
            mask = (columns[None] <= lengths[:, None])[:, None, None]
            for index, (project, out, up, down) in enumerate(layers):
                query, key, value = (norm(hidden) @ project.T).view(slots, 3, HEADS, size).unbind(1)
                cache[index, 0, every, :, lengths], cache[index, 1, every, :, lengths] = key, value
                mixed = attend(query[:, :, None], cache[index, 0], cache[index, 1], attn_mask=mask)
                hidden = hidden + mixed.reshape(slots, WIDTH) @ out.T
                hidden = hidden + torch.nn.functional.gelu(norm(hidden) @ up.T) @ down.T
            tokens.copy_((norm(hidden) @ embedding.T).argmax(-1))
            lengths.add_(1).clamp_(max=length - 1)
            torch.cuda.synchronize()

    return TorchEngine()


def measure_fraction(torch: Any, nvml: Nvml) -> dict[str, float]:
    """Return, in MiB, what a process gets that may use a fraction of the GPU, while it computes."""
    before = nvml.used_mebibytes()
    total = torch.cuda.get_device_properties(0).total_memory / 2**20
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(FRACTION)
    held: list[Any] = []
    operand = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
    try:
        while True:
            held.append(torch.empty(64 << 20, device="cuda", dtype=torch.uint8))
            operand = operand @ operand / 4096
    except torch.cuda.OutOfMemoryError:
        pass
    found = {
        "total": total,
        "fraction": FRACTION * total,
        "allocated": torch.cuda.memory_allocated() / 2**20,
        "driverBefore": before,
        "driver": nvml.used_mebibytes(),
    }
    held.clear()
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()
    return found


def measure_utilization(torch: Any, nvml: Nvml) -> list[Utilization]:
    """Return the driver's utilization under a quarter of the time, and under kernels of one block all the time."""
    engine = make_torch_engine(torch, 8, 512)
    for slot in range(8):
        engine.prefill(slot, 64)
    small = torch.ones(32, device="cuda")

    def tiny() -> None:
        for _ in range(200):
            small.add_(1)
        torch.cuda.synchronize()

    found = []
    for name, work, share in (
        ("decode", engine.decode, LOAD),
        ("decode", engine.decode, 1.0),
        ("one block", tiny, 1.0),
    ):
        with sampled(nvml.utilization) as values:
            busy = run_share(work, share, LOAD_SECONDS)
        found.append(Utilization(name, 100 * busy, float(np.mean(values[len(values) // 5 :]))))
    return found


# Results.


def describe(
    device: str, points: Sequence[ServingPoint], memory: dict[str, float], loads: Sequence[Utilization]
) -> dict[str, Any]:
    """Return the results as JSON has them."""
    errors = compare_halves(points)
    return {
        "device": device,
        "measured": datetime.now(UTC).date().isoformat(),
        "model": {"layers": LAYERS, "width": WIDTH, "vocabulary": VOCABULARY, "precision": "float16"},
        "heldOut": {
            name: {"median": round(row.median, 4), "p90": round(row.p90, 4)}
            for name, row in zip(("firstToken", "step", "response"), errors, strict=True)
        },
        "met": is_met(errors),
        "memoryMebibytes": {name: round(value) for name, value in memory.items()},
        "utilizationPercent": [
            {"load": row.load, "busy": round(row.busy, 1), "reported": round(row.reported, 1)} for row in loads
        ],
        "points": [[round(value, 7) for value in point] for point in points],
    }


def is_met(errors: HeldOutErrors) -> bool:
    """Return whether the form predicts the other half within the goal."""
    rows: tuple[ErrorShares, ...] = errors
    return all(row.median <= GOAL for row in rows)


def find_device() -> tuple[Any, Nvml] | str:
    """Return PyTorch and the driver, or the reason why nothing can be measured."""
    try:
        import torch  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - not a dependency
    except ImportError:
        return "PyTorch is not installed"
    if not torch.cuda.is_available():
        return "PyTorch finds no NVIDIA GPU"
    try:
        return torch, Nvml()
    except OSError as error:
        return f"the driver's NVML is not available ({error})"


def main() -> int:
    """Measure, print the results, and write them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="folder for the results as JSON, by the device's name"
    )
    options = parser.parse_args()
    found = find_device()
    if isinstance(found, str):
        print(f"nothing was measured: {found}", file=sys.stderr)
        return UNAVAILABLE
    torch, nvml = found
    name = str(torch.cuda.get_device_name(0))
    memory = measure_fraction(torch, nvml)
    points = measure_points(lambda slots, length: make_torch_engine(torch, slots, length), time.perf_counter)
    results = describe(name, points, memory, measure_utilization(torch, nvml))
    print(json.dumps({key: value for key, value in results.items() if key != "points"}, indent=2))
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        file = options.write / f"gpu-truth-{name.lower().replace(' ', '-')}.json"
        file.write_text(json.dumps(results) + "\n")
        print(f"wrote {file}", file=sys.stderr)
    return 0 if results["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
