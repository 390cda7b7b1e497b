"""Metrics that inference engines export about tokens: the one table of their names, units and bounds, by version.

Upstream: vllm-project/vllm vllm/v1/metrics/loggers.py (0.11 renamed time_per_output_token; V1 renamed gpu_cache_usage_perc);
sgl-project/sglang python/sglang/srt/observability/metrics_collector.py (``--enable-metrics``; bounds changed between
versions); huggingface/text-generation-inference router/src/server.rs (no time to first token; the mean time per token
includes the prefill); triton-inference-server/server docs/user_guide/metrics.md (port 8002; the first response with
``--metrics-config histogram_latencies=true``; the bounds can be configured).
"""

from __future__ import annotations

from typing import Final, NamedTuple


class TokenHistogram(NamedTuple):
    """A histogram of token times: its name without ``_bucket``, its unit in seconds, and its bounds in seconds if known."""

    series: str
    unit: float = 1.0
    bounds: tuple[float, ...] = ()
    #: Note on the measured quantity, if it differs from the objective.
    note: str = ""


class EngineMetrics(NamedTuple):
    """Metrics of one engine; of several names, the newest version's is first, and the first one with data counts."""

    engine: str
    """Name as in ``ebbtide.core.translation.engines``."""
    first_token: tuple[TokenHistogram, ...] = ()
    inter_token: tuple[TokenHistogram, ...] = ()
    waiting: tuple[str, ...] = ()
    """Gauges of the requests that wait in the engine."""
    kv_cache: tuple[str, ...] = ()
    """Gauges of the used share of the KV cache, from 0 to 1."""
    prompt_tokens: tuple[str, ...] = ()
    """Counters of processed prompt tokens and of generated tokens."""
    output_tokens: tuple[str, ...] = ()
    #: Port of the metrics, 0 for the port of the API.
    port: int = 0

    def histograms(self, objective: str) -> tuple[TokenHistogram, ...]:
        """Return the histograms of an objective: ``ttft`` or ``itl``."""
        return self.first_token if objective == "ttft" else self.inter_token


# fmt: off
_VLLM_FIRST: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0,
    2560.0,
)
_VLLM_BETWEEN: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)
# fmt: on
ENGINE_METRICS: Final = (
    EngineMetrics(
        "vLLM",
        first_token=(TokenHistogram("vllm:time_to_first_token_seconds", bounds=_VLLM_FIRST),),
        inter_token=(
            TokenHistogram("vllm:inter_token_latency_seconds", bounds=_VLLM_BETWEEN),
            TokenHistogram("vllm:time_per_output_token_seconds", bounds=_VLLM_BETWEEN),
        ),
        waiting=("vllm:num_requests_waiting",),
        kv_cache=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        prompt_tokens=("vllm:prompt_tokens_total",),
        output_tokens=("vllm:generation_tokens_total",),
    ),
    EngineMetrics(
        "SGLang",
        first_token=(TokenHistogram("sglang:time_to_first_token_seconds"),),
        inter_token=(
            TokenHistogram("sglang:inter_token_latency_seconds"),
            TokenHistogram("sglang:time_per_output_token_seconds"),
        ),
        waiting=("sglang:num_queue_reqs",),
        kv_cache=("sglang:token_usage",),
        prompt_tokens=("sglang:prompt_tokens_total",),
        output_tokens=("sglang:generation_tokens_total",),
    ),
    EngineMetrics(
        "TGI",
        inter_token=(
            TokenHistogram(
                "tgi_request_mean_time_per_token_duration",
                note="TGI includes the prefill in the time per token, so the inter-token latency is at most this",
            ),
        ),
        waiting=("tgi_queue_size",),
        prompt_tokens=("tgi_request_input_length_sum",),
        output_tokens=("tgi_request_generated_tokens_sum",),
    ),
    EngineMetrics(
        "Triton",
        first_token=(
            TokenHistogram(
                "nv_inference_first_response_histogram_ms",
                unit=0.001,
                note="Triton measures the first response, which is the first token only if the model streams",
            ),
        ),
        waiting=("nv_inference_pending_request_count",),
        port=8002,
    ),
)


def find_engine_metrics(engine: str) -> EngineMetrics | None:
    """Return the metrics of an engine, or None if it has none in the table."""
    return next((row for row in ENGINE_METRICS if row.engine == engine), None)
