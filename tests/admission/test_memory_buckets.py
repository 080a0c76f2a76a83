"""Buckets in memory: full ones are forgotten, and fresh keys never evict a debt."""

from __future__ import annotations

from heapq import heappop

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import memory as memory_module
from gateway.admission.memory import EVICTION_TRIES, SWEEP_PER_TICK, Buckets


def test_what_was_put_drains():
    buckets = Buckets()
    assert buckets.used("a", 0) == 0
    buckets.put("a", 100, 50)
    assert [buckets.used("a", now) for now in (50, 90, 150, 999)] == [100, 60, 0, 0]


def test_nothing_used_is_not_kept():
    buckets = Buckets()
    buckets.put("a", 0, 0)
    assert len(buckets) == 0


def test_a_full_bucket_is_forgotten_by_the_timer():
    buckets = Buckets()
    buckets.put("a", 100, 0)
    buckets.put("b", 300, 0)
    buckets.put("a", 150, 50)  # until 200 now
    for now, left in ((100, 2), (199, 2), (200, 1), (299, 1), (300, 0)):
        buckets.sweep(now)
        assert len(buckets) == left


def test_a_refunded_bucket_is_forgotten_in_time():
    buckets = Buckets()
    buckets.put("a", 100, 0)
    buckets.put("a", 0, 10)
    buckets.sweep(100)
    assert len(buckets) == 0


def test_inserts_sweep_so_memory_does_not_wait_for_the_timer():
    buckets = Buckets()
    for count in range(1000):
        buckets.put(f"old {count}", 10, 0)
    for count in range(1000):
        buckets.put(f"new {count}", 10_000, 100)
    assert len(buckets) == 1000


def test_one_sweep_is_bounded():
    buckets = Buckets()
    for count in range(SWEEP_PER_TICK * 2):
        buckets.put(str(count), 10, 0)
    buckets.sweep(1000)
    assert len(buckets) == SWEEP_PER_TICK


def test_at_capacity_the_bucket_closest_to_full_is_evicted_and_the_newest_stays():
    buckets = Buckets(max_buckets=3)
    for key, used in (("debt", 1_000_000), ("small", 10), ("middle", 500), ("newest", 1)):
        buckets.put(key, used, 0)
    assert {key: buckets.used(key, 0) for key in ("debt", "small", "middle", "newest")} == {
        "debt": 1_000_000,
        "small": 0,
        "middle": 500,
        "newest": 1,
    }


def test_fresh_keys_do_not_flush_a_debt():
    buckets = Buckets(max_buckets=100)
    buckets.put("debt", 10**9, 0)
    for fresh in range(10_000):
        buckets.put(f"fresh {fresh}", 1000, fresh)
        assert len(buckets) <= 100
    assert buckets.used("debt", 10_000) == 10**9 - 10_000


def test_any_number_of_callers_stays_within_capacity():
    buckets = Buckets(max_buckets=1000)
    for caller in range(20_000):
        buckets.put(str(caller), 60_000_000 + caller, caller)
    assert len(buckets) == len(buckets._due) == 1000


def test_eviction_knows_buckets_that_were_used_again():
    buckets = Buckets(max_buckets=3)
    for key in ("first", "second", "third"):
        buckets.put(key, 10, 0)
    for key, used in (("first", 900), ("second", 100), ("third", 800)):
        buckets.put(key, used, 1)
    buckets.put("newest", 1000, 2)
    assert [buckets.used(key, 2) for key in ("first", "second", "third", "newest")] == [899, 0, 799, 1000]


def test_eviction_is_bounded(monkeypatch):
    looks = []

    def counted(heap):
        looks.append(heap[0])
        return heappop(heap)

    monkeypatch.setattr(memory_module, "heappop", counted)
    buckets = Buckets(max_buckets=50)
    for key in range(50):
        buckets.put(str(key), 10 + key, 0)
    for key in range(50):
        buckets.put(str(key), 10_000, 5)  # every entry in the heap is too early by now
    buckets.put("one more", 10_000, 6)
    assert len(looks) == EVICTION_TRIES
    assert len(buckets) == len(buckets._due) == 50


def test_after_a_clock_steps_back_draining_continues_from_there():
    buckets = Buckets()
    buckets.put("a", 100, 1000)
    assert buckets.used("a", 500) == 100
    assert buckets.used("a", 560) == 40


keys = st.sampled_from("abcdef")


@given(st.lists(st.tuples(keys, st.integers(0, 200), st.integers(0, 60)), max_size=60))
def test_it_agrees_with_a_plain_mapping(puts):
    buckets, plain, now = Buckets(), {}, 0
    for key, used, gap in puts:
        now += gap
        buckets.put(key, used, now)
        plain[key] = (used, now)
        for other, (was, since) in plain.items():
            assert buckets.used(other, now) == max(0, was - (now - since))
    assert len(buckets._due) == len(buckets)
