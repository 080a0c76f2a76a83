"""A test that waits for what never comes fails: pytest's own alarm does not wake an idle uvloop."""

from __future__ import annotations

import asyncio
import functools
import inspect

SECONDS = 9


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/surface/" in item.path.as_posix() and inspect.iscoroutinefunction(item.obj):
            item.obj = _bounded(item.obj)


def _bounded(test):
    @functools.wraps(test)
    async def bounded(*args, **kwargs):
        async with asyncio.timeout(SECONDS):
            await test(*args, **kwargs)

    return bounded
