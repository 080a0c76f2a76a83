"""The servers of one upstream: which of them a request gets, and what becomes of one where requests and checks fail.

`balance` and `standing` decide; this owns the list, and tells log and metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from time import monotonic

from gateway.causes import UNREACHABLE, Cause
from gateway.config import UpstreamSettings
from gateway.errors import UpstreamUnreachable
from gateway.upstream.balance import by_conversation, least_busy
from gateway.upstream.server import Server
from gateway.upstream.server_reports import By, ServerReports
from gateway.upstream.standing import Rules, Standing, too_many


class Servers:
    """Those that are used now, and those that drain; what a `Choice` is made from."""

    def __init__(self, settings: UpstreamSettings, labels: Sequence[str], reports: ServerReports) -> None:
        """`labels`: all that the configuration names."""
        self.connect_timeout = settings.timeouts.connect
        self._is_by_conversation = settings.balance == "conversation"
        self._labels = labels
        self._reports = reports
        self._rules = _rules(settings)
        self._all: tuple[Server, ...] = ()
        self._standings: tuple[Standing, ...] = ()
        self._draining: list[Server] = []
        self._is_serving = (
            False  # else these are prepared, or were replaced: they change nothing but themselves
        )
        self._shown: list[bool] = []  # which were up when the metrics were last set
        self._why_none = UNREACHABLE

    def __iter__(self) -> Iterator[Server]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    # -- which ones there are ----------------------------------------------------------------------

    def replace(self, servers: Iterable[Server]) -> None:
        """Use these from now on. Those that are not among them drain, if others do not use them too."""
        present = tuple(servers)
        removed = [server for server in self._all if server not in present]
        self._all = present
        self._standings = tuple(server.standing for server in present)
        if self._is_serving:
            self._let_go(removed)
            self._restore()

    def begin(self) -> None:
        """Serve from now on: what becomes of them counts, and shows in the metrics."""
        self._is_serving = True
        self._restore()

    def _restore(self) -> None:
        """Fewer may be out than before, if there are fewer."""
        for standing in too_many(self._rules, self._standings):
            standing.restore()
            self._reports.up(next(server for server in self if server.standing is standing), "discovery")
        self._show()

    def _let_go(self, servers: Iterable[Server]) -> None:
        for server in servers:
            server.drain()
            self._draining.append(server)

    def none_because(self, cause: Cause) -> None:
        """Why there is no server, where there is none."""
        self._why_none = cause

    def tick(self, now: float) -> None:
        """Close idle connections that a server is about to close, and servers that have drained."""
        for server in self._all:
            server.sweep(now)
        if self._shown != [standing.is_up for standing in self._standings]:  # a request that began earlier
            self._show()
        if self._draining:
            for server in [server for server in self._draining if server.is_drained]:
                server.close()
                self._draining.remove(server)

    def drain(self, kept: Iterable[Server]) -> None:
        """Those that are not kept close their connections as requests end; they may still be chosen until then."""
        self._is_serving = False
        taken = set(kept)
        self._let_go(server for server in self._all if server not in taken)

    @property
    def is_drained(self) -> bool:
        """Whether no server that was removed has a connection left."""
        return all(server.is_drained for server in self._draining)

    def close(self) -> None:
        for server in (*self._all, *self._draining):
            server.close()

    # -- the choice: `Pickable` --------------------------------------------------------------------------------

    def pick(self, chat_id: str | None, tried: tuple[Server, ...] = ()) -> tuple[Server, bool]:
        candidates: Sequence[Server] = self._usable(tried) if tried else self._all
        # looked at each time, because upstreams of an earlier configuration may have the same servers
        for standing in self._standings:
            if not standing.is_up:
                candidates = self._usable(tried)
                break
        if len(candidates) == 1:
            server = candidates[0]
        elif not candidates:
            raise self._refusal()
        elif chat_id is not None and self._is_by_conversation:
            server = by_conversation(chat_id, candidates)
        else:
            server = least_busy(candidates)
        if server.standing.is_up:
            return server, False
        server.standing.try_it()
        return server, True

    def has_another(self, tried: tuple[Server, ...]) -> bool:
        if len(self._all) <= len(tried):
            return False
        for standing in self._standings:
            if not standing.is_up:
                return bool(self._usable(tried))
        return True

    def ranked(self, chat_id: str) -> list[Server]:
        """All of them, in the order in which the conversation would go to them."""
        left, found = list(self._all), []
        while left:
            found.append(by_conversation(chat_id, left))
            left.remove(found[-1])
        return found

    def same(self, server: Server) -> Server | None:
        """The one of these that is the same, though it may belong to another upstream."""
        place = server.identity.met_at
        return next((own for own in self._all if own.identity.met_at == place), None)

    def _usable(self, tried: tuple[Server, ...]) -> Sequence[Server]:
        """Those that may be used; if there are none, any of them unless a request tries one already."""
        now = monotonic()
        left = [server for server in self._all if server not in tried]
        usable = [server for server in left if server.standing.may_be_used(now)]
        if usable or any(standing.is_tried for standing in self._standings):
            return usable
        return left

    def _refusal(self) -> UpstreamUnreachable:
        if not self._all:
            return UpstreamUnreachable("Flowise cannot be reached.", self._why_none)
        reasons = sorted({standing.reason for standing in self._standings if standing.reason})
        words = f"every server is down: {', '.join(reasons)}"
        return UpstreamUnreachable("Flowise cannot be reached.", Cause(UNREACHABLE.label, words))

    # -- what has shown itself ---------------------------------------------------------------------

    def succeeded(self, server: Server, *, is_trial: bool) -> None:
        if not is_trial:
            server.standing.succeeded()
        elif server.standing.tried(self._rules, monotonic(), ""):
            self._reports.up(server, "requests")
            self._show()

    def failed(self, server: Server, cause: Cause, *, is_trial: bool) -> None:
        standing, now = server.standing, monotonic()
        if is_trial:
            standing.tried(self._rules, now, cause.words)
        elif standing.failed(self._rules, now, cause.words, self._standings):
            self._reports.ejected(server, cause)
            self._reports.down(server, "requests")
            self._show()

    def checked(self, server: Server, failure: str) -> None:
        """A check of this server has passed, or failed because of this."""
        was_up = server.standing.is_up
        if server.standing.checked(self._rules, failure):
            by: By = "checks"
            if was_up:
                self._reports.down(server, by)
            elif server.standing.is_up:
                self._reports.up(server, by)
            self._show()

    def moved(self, cause: Cause) -> None:
        self._reports.moved(cause)

    def _show(self) -> None:
        if self._is_serving:
            self._shown = [standing.is_up for standing in self._standings]
            self._reports.standings(self._labels, self._all)


def _rules(settings: UpstreamSettings) -> Rules:
    health, eject = settings.health, settings.eject
    return Rules(health.fall, health.rise, eject.failures, eject.within, eject.for_, eject.most)
