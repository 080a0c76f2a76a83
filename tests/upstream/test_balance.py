"""Which server a request goes to: shares, what moves when a server is lost, and the least busy one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.balance import Lot, by_conversation, least_busy, point_of

TEXT = st.text(max_size=40)
NAMES = st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=8, unique=True)


@dataclass(eq=False)
class Server:
    name: str
    weight: int = 1
    busy: int = 0
    lot: Lot = field(init=False)

    def __post_init__(self):
        self.lot = Lot(self.name, self.weight)


@given(TEXT, NAMES, st.data())
def test_a_lost_server_moves_only_its_own_conversations_and_they_come_back(chat_id, names, data):
    servers = [Server(name, data.draw(st.integers(1, 100))) for name in names]
    before = by_conversation(chat_id, servers)
    lost = data.draw(st.sampled_from(servers))
    left = [server for server in servers if server is not lost]
    after = by_conversation(chat_id, left)
    assert (after is before) == (lost is not before)
    assert by_conversation(chat_id, [*left, lost]) is before


@given(TEXT, NAMES)
def test_the_choice_depends_on_names_alone(chat_id, names):
    """So every worker and every gateway comes to the same one, in whatever order they list the servers."""
    one = by_conversation(chat_id, [Server(name) for name in names])
    other = by_conversation(chat_id, [Server(name) for name in reversed(names)])
    assert one.name == other.name


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2), (1, 3, 1, 3), (1,) * 8, (1, 100)])
def test_each_server_gets_its_share(weights):
    servers = [Server(f"flowise-{number}:3000", weight) for number, weight in enumerate(weights)]
    count = 20_000
    found = Counter(by_conversation(f"chat-{number}", servers) for number in range(count))
    for server in servers:
        expected = count * server.weight / sum(weights)
        assert abs(found[server] - expected) < 5 * expected**0.5 + 1


def test_conversations_of_a_lost_server_spread_over_all_others():
    servers = [Server(f"flowise-{number}:3000") for number in range(5)]
    moved = Counter()
    for number in range(20_000):
        if by_conversation(f"chat-{number}", servers) is servers[0]:
            moved[by_conversation(f"chat-{number}", servers[1:])] += 1
    expected = moved.total() / 4
    assert all(abs(count - expected) < 5 * expected**0.5 for count in moved.values())


def test_a_choice_is_the_same_in_every_release():
    """A changed formula would move conversations while gateways of two versions run side by side."""
    servers = [Server(f"flowise-{name}:3000") for name in "abc"]
    chosen = [by_conversation(f"chat-{number}", servers).name[8] for number in range(12)]
    assert "".join(chosen) == CHOSEN
    assert point_of("chat-1") == pytest.approx(POINT, abs=1e-15)


CHOSEN, POINT = "abaabcbabbab", 0.6479899622314066


# -- without a conversation -------------------------------------------------------------------------


def test_the_server_with_the_fewest_open_runs_by_weight():
    servers = [Server("a", 1, 2), Server("b", 2, 3), Server("c", 4, 7)]
    assert least_busy(servers).name == "b"
    servers[1].busy = 4
    assert least_busy(servers).name == "c"


def test_idle_servers_take_turns_by_weight():
    servers = [Server("a"), Server("b", 2), Server("c", 3)]
    found = Counter(least_busy(servers).name for _ in range(600))
    assert found == {"a": 100, "b": 200, "c": 300}


def test_a_server_that_is_new_or_was_away_does_not_catch_up():
    servers = [Server("a"), Server("b")]
    for _ in range(1000):
        least_busy(servers)
    joined = Server("c")
    found = Counter(least_busy([*servers, joined]).name for _ in range(30))
    assert abs(found["c"] - 10) <= 1


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 50)), min_size=1, max_size=8))
def test_no_other_server_has_fewer_runs_for_its_weight(given_servers):
    servers = [Server(str(n), weight, busy) for n, (weight, busy) in enumerate(given_servers)]
    chosen = least_busy(servers)
    assert all(chosen.busy / chosen.weight <= server.busy / server.weight for server in servers)
