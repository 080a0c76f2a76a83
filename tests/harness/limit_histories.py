"""Random histories of limits, played to the memory store and to `limits.lua`."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.admission import memory as memory_module
from gateway.admission.gcra import SECOND, Correction
from gateway.admission.memory import Leases, MemoryStore
from gateway.admission.quotas import subject
from gateway.admission.redis.commands import LimitCommands, Script, parse_decision, parse_numbers
from tests.harness.limit_process import requests, slots, tokens

LEASE = 3 * SECOND
QUOTAS = (
    requests(5, 7.0, scope="route:a"),
    requests(3, 1.0, burst=1, scope="key:b"),
    tokens(1000, 10.0, reserve=100),
    tokens(7, 3.0, reserve=1, scope="key:b"),
    slots(2),
    slots(1, scope="key:b"),
)
START = 1_800_000_000 * SECOND

subjects = st.sampled_from(["me", "you"])
gaps = st.one_of(st.integers(0, 3 * SECOND), st.sampled_from([0, 1, LEASE, 60 * SECOND]))
steps_back = st.sampled_from([-1, -5 * SECOND, -3600 * SECOND])
buckets = st.lists(st.integers(0, len(QUOTAS) - 1), min_size=1, unique=True)
runs = st.integers(0, 5).map(str)
acts = st.one_of(
    st.tuples(st.just("apply"), buckets, st.integers(0, 3000)),
    st.tuples(st.just("apply"), buckets, st.integers(0, 3000)),
    st.tuples(st.just("peek"), buckets),
    st.tuples(st.just("settle"), st.sampled_from([2, 3]), st.integers(-2000, 2000)),
    st.tuples(st.just("renew"), st.sampled_from([4, 5]), runs),
    st.tuples(st.just("release"), st.sampled_from([4, 5]), runs),
)
histories = st.lists(st.tuples(gaps, subjects, runs, acts), max_size=15)
histories_of_any_clock = st.lists(st.tuples(gaps | steps_back, subjects, runs, acts), max_size=15)


class BothStores:
    """Plays histories; fails where the two stores differ."""

    def __init__(self, client):
        self._client = client
        script = Script("limits.lua")
        client.execute_command(*asyncio.run(script.load()).words)
        self._commands = LimitCommands(script, LEASE)
        self._settled = 0

    def play(self, history):
        self._client.flushall()
        self._commands.now = START
        memory = MemoryStore(LEASE, lambda: self._commands.now)
        for gap, caller, run, (act, *words) in history:
            self._commands.now += gap
            self._act(memory, act, caller, run, words)

    def _act(self, memory, act, caller, run, words):
        where = words[0] if isinstance(words[0], list) else [words[0]]
        charges = [
            QUOTAS[place].charge(subject(caller), *(words[1:] if act == "apply" else ())) for place in where
        ]
        if act == "apply":
            answer = self._tell(self._commands.admit(charges, run))
            assert parse_decision(answer, len(charges)) == memory.apply(charges, run)
        elif act == "peek":
            assert parse_numbers(self._tell(self._commands.peek(charges))) == memory.peek(charges)
        elif act == "settle":
            rule = charges[0].rule
            correction = {charges[0].key: Correction(words[1] * SECOND // 100, rule.most_used)}
            self._settled += 1
            assert self._tell(self._commands.settle(str(self._settled), correction)) == 1
            memory.settle(correction)
        elif act == "renew":
            self._tell(self._commands.renew([(charges[0].key, words[1])]))
            memory.renew([(charges[0].key, words[1])])
        else:
            self._tell(self._commands.release([charges[0].key], words[1]))
            memory.release([charges[0].key], words[1])

    def _tell(self, command):
        return self._client.execute_command(*command.words)


def never_forget(monkeypatch):
    """For clocks that step back: normally memory forgets full buckets and expired leases, and cannot restore them."""
    monkeypatch.setattr(memory_module, "SWEEP_PER_INSERT", 0)
    monkeypatch.setattr(Leases, "sweep", lambda *_: None)


def play_all(both, kind, count):
    """Play `count` histories."""

    @settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],  # shrinking may take minutes
    )
    @given(kind)
    def play(history):
        both.play(history)

    play()
