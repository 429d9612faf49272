"""The metrics of the dashboard's server, for Prometheus: its connection, its pages, and what it has shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

from prometheus_client import Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fastmon_client import __version__
from fastmon_client.snapshot import AlarmKind, ConnectionState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class DashboardMetrics(Collector):
    """Collects the metrics from a snapshot, in the event loop. No label grows: every value is known from the start."""

    def __init__(self, snapshot: Callable[[], Mapping[str, Any]], pages: Callable[[], int]) -> None:
        """*pages* returns the number of pages that are open."""
        self._snapshot = snapshot
        self._pages = pages
        self._process = ProcessCollector(registry=None)

    @property
    def routes(self) -> list[Route]:
        """The paths `/livez` and `/metrics`."""
        return [Route("/livez", self._livez), Route("/metrics", self._metrics)]

    async def _livez(self, _request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _metrics(self, _request: Request) -> Response:
        return Response(self.render(), media_type=CONTENT_TYPE)

    def render(self) -> bytes:
        """Return the page of `/metrics`."""
        return generate_latest(self)

    def collect(self) -> Iterable[Metric]:
        """Return the families of one page."""
        return [*self._families(self._snapshot()), *self._process.collect()]

    def _families(self, snapshot: Mapping[str, Any]) -> Iterator[Metric]:
        connection, totals = snapshot["connection"], snapshot["totals"]
        build = GaugeMetricFamily("fastmon_dashboard_build_info", "1; what runs, as labels.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield GaugeMetricFamily("fastmon_dashboard_pages", "Pages that are open.", value=self._pages())
        states = {state: float(state == connection["state"]) for state in get_args(ConnectionState)}
        yield _by("fastmon_dashboard_connection", "1 for the current state of the event stream.", "state", states)
        age = connection["heartbeat_age_s"]
        yield GaugeMetricFamily(
            "fastmon_dashboard_heartbeat_age_seconds",
            "Time since the last event or heart-beat of the stream; NaN: none yet.",
            value=float("nan") if age is None else age,
        )
        active = [alarm["kind"] for alarm in snapshot["alarms"] if alarm["until"] is None]
        alarms = {kind: float(active.count(kind)) for kind in get_args(AlarmKind)}
        yield _by("fastmon_dashboard_alarms", "Active alarms, by kind.", "kind", alarms)
        for name, help_, value in (
            ("reconnects", "Connections after a loss; planned renewals do not count.", connection["reconnects"]),
            ("tf_files", "TF files seen since the start.", totals["tf_files"]),
            ("tf_files_backfilled", "TF files that came from the monitor's tables.", totals["backfilled"]),
            ("duplicates", "Repeated announcements, neither shown nor counted.", totals["duplicates"]),
        ):
            yield CounterMetricFamily(f"fastmon_dashboard_{name}_total", help_, value=value)


def _by(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family
