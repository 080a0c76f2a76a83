"""What log and metrics say about the servers of an upstream. A server has the label of its configured name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from gateway.causes import Cause
from gateway.telemetry.logs import Logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.server import Server

By = Literal["checks", "requests", "discovery"]


class ServerReports:
    """What has become of the servers of one upstream."""

    def __init__(self, upstream: str, metrics: Metrics, logger: Logger) -> None:
        self._upstream = upstream
        self._metrics = metrics
        self._logger = logger

    def connected(self, label: str, seconds: float) -> None:
        """A connection for relayed requests is open, after so long."""
        self._metrics.child(self._metrics.upstream_connect, self._upstream, label).observe(seconds)

    def down(self, server: Server, by: By) -> None:
        """A server gets no requests from now on; `by`: what has shown it."""
        where = self._where(server)
        self._logger.warning("server_down", **where, by=by, reason=server.standing.reason)

    def up(self, server: Server, by: By) -> None:
        """It gets requests again."""
        self._logger.info("server_up", **self._where(server), by=by)

    def ejected(self, server: Server, cause: Cause) -> None:
        ejections = self._metrics.upstream_ejections
        self._metrics.child(ejections, self._upstream, server.label, cause.label).inc()

    def moved(self, cause: Cause) -> None:
        """A request has gone to another server."""
        self._metrics.child(self._metrics.upstream_failovers, self._upstream, cause.label).inc()

    def without_address(self, label: str, cause: Cause, *, is_known: bool) -> None:
        """A name was looked up in vain; `is_known`: it has the addresses of an earlier time."""
        self._logger.warning(
            "lookup_failed", upstream=self._upstream, server=label, reason=cause.words, has_addresses=is_known
        )

    def addresses(self, label: str, added: Iterable[str], removed: Iterable[str]) -> None:
        """The addresses of a name have changed."""
        self._logger.info(
            "addresses_changed",
            upstream=self._upstream,
            server=label,
            added=sorted(added),
            removed=sorted(removed),
        )

    def standings(self, labels: Iterable[str], servers: Iterable[Server]) -> None:
        """Set how much of each label is up: 1 all, 0 nothing."""
        found: dict[str, list[bool]] = {label: [] for label in labels}
        for server in servers:
            found[server.label].append(server.standing.is_up)
        for label, up in found.items():
            gauge = self._metrics.child(self._metrics.upstream_server_up, self._upstream, label)
            gauge.set(sum(up) / len(up) if up else 0.0)

    def forget(self, labels: Iterable[str]) -> None:
        """These are no servers of the upstream any more."""
        for label in set(labels):
            self._metrics.forget(self._metrics.upstream_server_up, self._upstream, label)

    def _where(self, server: Server) -> dict[str, str]:
        address = {"address": server.place.address} if server.place.address else {}
        return {"upstream": self._upstream, "server": server.label, **address}
