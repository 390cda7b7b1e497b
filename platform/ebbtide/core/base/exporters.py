"""Exporters whose own labels name the workload, and the scrape job by which Prometheus identifies each.

A pod can export any series with any labels. Prometheus adds the labels of the scrape target, such as ``job`` and ``namespace``, and
renames scraped labels with these names to ``exported_job`` and ``exported_namespace``, unless the scrape job honors the
scraped labels (prometheus/prometheus scrape/scrape.go, ``mutateSampleLabels``). A query of these series therefore matches the job.

The Prometheus operator names the job of a PodMonitor ``NAMESPACE/NAME`` and that of a ServiceMonitor after the Service
(prometheus-operator pkg/prometheus/promcfg.go). No Service and no label has a name with a slash.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class ScrapeJob(NamedTuple):
    """The scrape job of an exporter; empty fields match any target."""

    job: str = ""
    #: The label ``namespace`` of the job's targets. It stays empty if the job honors the exporter's own label.
    namespace: str = ""
    #: True if Prometheus renames the exporter's labels ``namespace`` and ``pod`` to ``exported_namespace`` and ``exported_pod``.
    renamed: bool = False

    @property
    def matchers(self) -> str:
        """The PromQL matchers of the job's series; empty without a job."""
        labels = (("job", self.job), ("namespace", self.namespace))
        return ",".join(f'{name}="{value}"' for name, value in labels if value)


class Exporter(NamedTuple):
    """An exporter: its field in the profile's ``metrics.exporters``, its series and its default scrape job."""

    name: str
    title: str
    #: Regular expression of the names of its series that Ebbtide reads.
    series: str
    #: The job of Ebbtide's own monitor, in kustomize/metrics/monitors. kube-state-metrics comes with its own monitor.
    job: str


#: The exporters. A series of another name belongs to the pod that exports it: it has the namespace and the pod of its target.
EXPORTERS: Final[dict[str, Exporter]] = {
    row.name: row
    for row in (
        Exporter(
            "gpu",
            "the GPU exporter",
            "DCGM_FI_(DEV_GPU_UTIL|PROF_GR_ENGINE_ACTIVE)",
            "monitoring/ebbtide-dcgm-exporter",
        ),
        Exporter(
            "gateway",
            "the gateway",
            "envoy_cluster_upstream_rq_(time_(bucket|sum|count)|xx)",
            "monitoring/ebbtide-kourier",
        ),
        Exporter("autoscaler", "Knative's autoscaler", "(kn_revision|autoscaler)_.+", "monitoring/ebbtide-autoscaler"),
        Exporter("deployments", "kube-state-metrics", "kube_(deployment|pod)_.+", "kube-state-metrics"),
    )
}
#: The scrape job of the GPU exporter by Ebbtide's monitor.
GPU_JOB: Final = ScrapeJob(EXPORTERS["gpu"].job)
