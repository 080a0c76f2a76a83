"""What the garbage collector would find of the gateway's objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """From a state without garbage on, nothing is collected."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def garbage() -> list[str]:
    """The types of the gateway's objects that a collection finds; what else it finds may be of the test's own ends."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        found = [type(one) for one in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    return [one.__qualname__ for one in found if one.__module__.startswith("gateway.")]
