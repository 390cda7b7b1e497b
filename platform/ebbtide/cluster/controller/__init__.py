"""The controller: it scales Knative revisions on any metric, to zero too, by the floor under the KPA's own decision.

One process leads; it reads the cluster from a cache, the metrics from Prometheus, decides with ``ebbtide.core.autoscaler.floor``,
and writes min-scale on the revisions that receive traffic.
"""
