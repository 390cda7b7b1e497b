"""Changes of a component's sources before the build: parts that no case uses and that take longest to compile, and versions."""

import re
from pathlib import Path
from typing import Final

SCALERS: Final = {"cpu", "memory", "prometheus"}
"""Scalers that Ebbtide's and KServe's ScaledObjects name."""
FILES: Final = {"cpu_memory_scaler.go", "prometheus_scaler.go", "azure_queue_scaler.go"}
"""The last for a constant that the others read from it."""
JOBS: Final = re.compile(r'\t_ "[^"]+/controller/jobs/(?!deployment|job"|pod|statefulset)[^\n]*\n')
"""Kueue's imports of integrations with other operators."""
JOB_KINDS: Final = re.compile(r"\t+(?:kfmpi|kftrainer|kftraining|awv1beta2|rayv1|jobset)[ .][^\n]*\n")
"""Lines of Kueue's checks about the kinds of those operators: imports, and rows of a list."""
CASE: Final = re.compile(r'\tcase "(?P<name>[^"]+)":\n\t\treturn scalers\.New[^\n]*\n')


def keda(source: Path) -> None:
    """Leave of KEDA's scalers those in use; the other seventy bring the SDKs of every cloud, database and queue."""
    builder = source / "pkg/scaling/scalers_builder.go"
    builder.write_text(CASE.sub(lambda case: case[0] if case["name"] in SCALERS else "", builder.read_text()))
    for scaler in (source / "pkg/scalers").glob("*_scaler.go"):
        if scaler.name not in FILES:
            scaler.unlink()


def kueue(source: Path) -> None:
    """Leave of Kueue's integrations those with Kubernetes' own kinds: one of the others does not compile with Kubernetes 1.37."""
    for file, part in (("jobs/jobs.go", JOBS), ("jobframework/validation.go", JOB_KINDS)):
        place = source / "pkg/controller" / file
        place.write_text(part.sub("", place.read_text()))


def knative(source: Path) -> None:
    """Let Knative's library name the version of OpenTelemetry's conventions that the linked OpenTelemetry has.

    The library is of the release before (see its go.mod). Programs whose parts name two versions exit immediately.
    """
    conventions = source / "observability/semconv/semconv.go"
    conventions.write_text(conventions.read_text().replace("otel/semconv/v1.41.0", "otel/semconv/v1.43.0"))
