"""Every check by its name, in the order of the report; and how they run: at the same time, each with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from gateway.aio import Tasks
from gateway.config import Url
from gateway.doctor.ask import PATIENCE, ask
from gateway.doctor.certificate import certificate
from gateway.doctor.flowise import api_keys, servers
from gateway.doctor.issuers import issuers
from gateway.doctor.machine import descriptors, disk, extensions, keys_file, log_file, secret
from gateway.doctor.report import Finding, failed
from gateway.doctor.routes import routes
from gateway.doctor.store import store
from gateway.doctor.world import World

Check = Callable[[World], Awaitable[list[Finding]]]

DEADLINE = 30.0  # seconds
CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "servers": servers,
        "api_keys": api_keys,
        "routes": routes,
        "store": store,
        "issuers": issuers,
        "certificate": certificate,
        "secret": secret,
        "keys_file": keys_file,
        "log_file": log_file,
        "descriptors": descriptors,
        "extensions": extensions,
        "disk": disk,
        "ask": ask,
    }
)


async def run_checks(
    world: World, checks: Mapping[str, Check] = CHECKS, deadline: float = DEADLINE
) -> list[Finding]:
    """What all checks find. A question to the chatflows has more time: `PATIENCE` for each route."""
    found: dict[str, list[Finding]] = {}
    bugs: list[BaseException] = []
    tasks = Tasks(bugs.append)
    longest = deadline + PATIENCE * len(world.config.routes) * bool(world.question)
    for place in [place for upstream in world.config.upstreams for place in world.servers(upstream)]:
        tasks.start(
            _survey(world, place), world.subject(place)
        )  # all at the same time; the checks wait for theirs
    for name, check in checks.items():
        limit = longest if name == "ask" else deadline
        tasks.start(_run(name, check, world, found, limit), name)
    await tasks.join(longest + 1)
    if bugs:
        raise bugs[0]
    return [finding for name in checks for finding in found.get(name, [])]


async def _survey(world: World, place: tuple[str, Url]) -> None:
    await world.survey_of(place)


async def _run(name: str, check: Check, world: World, found: dict[str, list[Finding]], limit: float) -> None:
    try:
        async with asyncio.timeout(limit):
            found[name] = await check(world)
    except TimeoutError:
        found[name] = [
            failed(name, "", f"did not finish within {limit:g} s. See what else is slow, and try again.")
        ]
