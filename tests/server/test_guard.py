"""The looks of the guard at connections, with connections that say what is wrong with them."""

from __future__ import annotations

import math
from io import StringIO

import pytest

from gateway.config import LogSettings, ServerSettings
from gateway.server.guard import LOOK_EVERY, ConnectionGuard
from gateway.telemetry.logs import make_logger


class Connection:
    """Stays open after `abort`, as one whose loss is reported in a later iteration of the loop."""

    address = site = "10.0.0.1"
    late = "slow_head"

    def __init__(self, head_due=math.inf, reason=""):
        self.head_due = head_due
        self._reason = reason
        self.aborts = self.looks = 0

    def look(self, _now, _send_timeout):
        self.looks += 1
        return self._reason

    def abort(self):
        self.aborts += 1
        self.head_due = math.inf


@pytest.mark.parametrize(
    ("head_due", "reason", "closed"),
    [
        (math.inf, "", []),
        (1.0, "", ["slow_head"]),
        (math.inf, "stalled", ["stalled"]),
        (1.0, "stalled", ["slow_head"]),
    ],
)
def test_a_connection_is_closed_and_counted_once_in_a_look(head_due, reason, closed):
    counted = []
    log = StringIO()
    guard = ConnectionGuard(ServerSettings(), make_logger(LogSettings(), log), lambda: None, counted.append)
    connection = Connection(head_due, reason)
    guard.opened(connection)
    guard.watched.add(connection)
    for _ in range(LOOK_EVERY - 1):
        guard.tick(0.5)
    guard.tick(2.0)
    assert counted == closed
    assert log.getvalue().count("connection_closed") == len(closed)
    assert connection.aborts == len(closed)


def test_what_needs_no_look_is_not_looked_at_until_it_is_watched_again():
    guard = ConnectionGuard(ServerSettings(), make_logger(LogSettings(), StringIO()), lambda: None)
    connection = Connection(reason=None)
    guard.opened(connection)
    for looks in (1, 2):
        guard.watched.add(connection)
        for _ in range(3 * LOOK_EVERY):
            guard.tick(1.0)
        assert connection.looks == looks


def test_of_a_closed_connection_nothing_is_kept():
    guard = ConnectionGuard(ServerSettings(), make_logger(LogSettings(), StringIO()), lambda: None)
    connection = Connection()
    guard.opened(connection)
    guard.watched.add(connection)
    guard.closed(connection)
    assert (len(guard), guard.awaiting, guard.watched) == (0, set(), set())
