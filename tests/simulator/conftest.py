"""A simulated Flowise with the flows of the recorded servers, whose model takes no time."""

from __future__ import annotations

import asyncio

import pytest

from gateway.simulator import Simulator
from tests.harness import recorded_requests as requests


async def instantly(_seconds: float) -> None:
    """Let the model's time pass at once."""
    await asyncio.sleep(0)


@pytest.fixture
async def flowise():
    """A running simulator."""
    async with Simulator(requests.flows(), api_key=requests.KEY, sleep=instantly) as simulator:
        yield simulator
