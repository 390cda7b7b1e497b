"""The services of a cluster and their recorded requests, as the input of a plan of the fleet."""

from __future__ import annotations

from ebbtide.cluster.slo.replay import load_live_specs, read_traffic_logs
from ebbtide.cluster.slo.source import History, Ref, SeriesPoint, SourceError
from ebbtide.core.documents import profiles
from recorded import RecordedSource

DAY = 86_400.0


class PartSource(RecordedSource):
    """A source that has no requests of one workload, and does not answer for another."""

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        if ref.name == "down":
            raise SourceError("no answer")
        return History(ref, {}) if ref.name == "idle" else super().history(ref, start, end, step)


def test_a_service_without_an_answer_is_left_out_and_one_without_requests_has_an_empty_log() -> None:
    refs = [Ref("team-a", name) for name in ("chat", "idle", "down")]
    notes: list[str] = []
    logs = read_traffic_logs(PartSource(), refs, 10 * DAY, notes)

    assert [*logs] == refs[:2]
    assert [note.partition(":")[0] for note in notes] == ["without team-a/down and its GPUs"]
    assert logs[refs[1]].count_requests() == 0
    # Three of the six hours are busy.
    assert logs[refs[0]].count_requests() == round(3 * 3600 * (0.71 + 0.05))


class ImpossibleSource(RecordedSource):
    """A source in which the pods of some workloads have reported impossible numbers."""

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        series = {**super().history(ref, start, end, step).series}
        if ref.name == "rate":
            series["rate"] = tuple(SeriesPoint(row.time, row.value and 1e308) for row in series["rate"])
        elif ref.name in {"p50", "p95"}:
            series[ref.name] = (SeriesPoint(end, 1e-300 if ref.name == "p50" else 1e300),)
        return History(ref, series)


def test_impossible_numbers_of_one_workload_leave_out_only_that_one() -> None:
    notes: list[str] = []
    refs = [Ref("team-a", name) for name in ("rate", "p50", "p95", "chat")]

    assert [*read_traffic_logs(ImpossibleSource(), refs, 10 * DAY, notes)] == refs[3:]
    assert len(notes) == 3
    assert all("Prometheus has no usable" in note for note in notes), notes


def test_an_object_with_errors_is_noted_and_left_out() -> None:
    broken = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat", "namespace": "team-a"},
        "spec": {"image": "ghcr.io/acme/chat:1", "autoscaling": {"minReplicas": "many"}},
    }
    valid = {**broken, "metadata": {"name": "rank", "namespace": "team-a"}, "spec": {"image": "ghcr.io/acme/rank:1"}}
    notes: list[str] = []
    specs = load_live_specs([broken, valid], profiles.load_built_in("full"), notes)

    assert [ref for ref, _ in specs] == [Ref("team-a", "rank")]
    assert len(notes) == 1
    assert notes[0].startswith("without team-a/chat and its GPUs: ")
