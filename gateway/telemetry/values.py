"""The numbers of prometheus_client's metrics, in cells: `cell[0] += 1` adds to one without a call.

The library's `inc` is a call of two functions and a lock, and a request would have twenty of them. What is added to in
its cell is added to by the thread of the event loop only; other threads take the library's methods, for other numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram, values


class Cell(Protocol):
    """The place of one number, at the index 0."""

    def __getitem__(self, index: int, /) -> float: ...
    def __setitem__(self, index: int, number: float, /) -> None: ...


class LocalValue:
    """A number of this process, with the interface that prometheus_client expects of its values."""

    __slots__ = ("_exemplar", "cell")
    _lock = Lock()  # of all of them

    def __init__(self, *_: object, **__: object) -> None:
        """Zero. The arguments are the name and the labels of its metric, which the library knows too."""
        self.cell: Cell = [0.0]
        self._exemplar: object = None

    def inc(self, amount: float) -> None:
        with self._lock:
            self.cell[0] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002 - not kept
        with self._lock:
            self.cell[0] = value

    def get(self) -> float:
        return self.cell[0]

    def set_exemplar(self, exemplar: object) -> None:
        self._exemplar = exemplar

    def get_exemplar(self) -> object:
        return self._exemplar


values.ValueClass = LocalValue  # the library has no other way to choose it after its import


# -- the library keeps all of this to itself -------------------------------------------------------


def cell_of(child: Counter | Gauge) -> Cell:
    """Where the number of a child is."""
    cell: Cell = child._value.cell  # noqa: SLF001 - see above
    return cell


def observer(child: Histogram) -> Callable[[float], None]:
    """Observes as the child's `observe` does."""
    bounds, total = child._upper_bounds, child._sum.cell  # noqa: SLF001 - see above
    buckets = [bucket.cell for bucket in child._buckets]  # noqa: SLF001 - see above

    def observe(amount: float) -> None:
        buckets[bisect_left(bounds, amount)][0] += 1
        total[0] += amount

    return observe


def add_observed(child: Histogram, counts: Sequence[int], total: float) -> None:
    """Add what was observed elsewhere: a count for each bucket, and the sum."""
    for bucket, count in zip(child._buckets, counts, strict=True):  # noqa: SLF001 - see above
        if count:
            bucket.cell[0] += count
    child._sum.cell[0] += total  # noqa: SLF001 - see above
