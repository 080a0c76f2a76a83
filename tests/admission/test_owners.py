from __future__ import annotations

from gateway.admission import owners
from gateway.admission.owners import KEPT_FOR, Owners
from gateway.admission.store import StoreBudget

BUDGET = StoreBudget()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


async def test_an_owner_is_known_for_a_day():
    clock = Clock()
    known = Owners(clock)
    await known.remember("a", "chat ann", BUDGET)
    assert await known.find("a", BUDGET) == "chat ann"
    assert await known.find("b", BUDGET) is None
    clock.now += KEPT_FOR
    assert await known.find("a", BUDGET) is None


async def test_the_number_is_bounded_and_the_oldest_goes_first(monkeypatch):
    monkeypatch.setattr(owners, "MOST_KEPT", 3)
    known = Owners(Clock())
    for name in ("a", "b", "a", "c", "d"):  # the second a is younger than b
        await known.remember(name, "o", BUDGET)
    assert [name for name in "abcd" if await known.find(name, BUDGET)] == ["a", "c", "d"]
    assert len(known) == 3


async def test_what_has_expired_is_forgotten_by_the_next():
    clock = Clock()
    known = Owners(clock)
    await known.remember("a", "o", BUDGET)
    clock.now += KEPT_FOR
    await known.remember("b", "o", BUDGET)
    assert len(known) == 1
