"""The shared limit store: reachable, rights, memory, version, clock."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from gateway.admission.factory import check_store
from gateway.admission.store import StoreError
from gateway.doctor.clocks import compare
from gateway.doctor.report import Finding, failed, ok, warning
from gateway.doctor.world import World

SUBJECT = "limits.store"
_FAILURES = {
    "auth": "The store refuses the login. Write the user and password that it has into limits.store.",
    "timeout": "The store does not answer in time. See whether it is overloaded, or its address is another one.",
}
_UNREACHABLE = (
    "The store cannot be reached, or is no Redis or Valkey. Start it, or write its address, and ca for TLS."
)
_REFUSALS = {
    "NOPERM": "The user of limits.store may not write as limits do. Give it +@all on the keys ~fgw:* in the store.",
    "OOM": "The store is full and refuses writes. Raise its maxmemory, or remove what else is in it.",
    "READONLY": "The store is a read-only replica. Write the address of its primary into limits.store.",
}
_REFUSED = "The store refuses the scripts of the limits. Use Redis 6.2 or Valkey, or newer, without a proxy."


async def store(world: World) -> list[Finding]:
    """Nothing where limits are counted in memory."""
    settings = world.config.limits
    if not settings.store.is_shared:
        return [ok("store", SUBJECT, "memory: each process counts for itself")]
    try:
        check_store(settings)
        from gateway.admission.redis.examination import examine  # noqa: PLC0415 - needs an optional package
    except ValueError as error:
        return [failed("store", SUBJECT, str(error))]
    ca = settings.tls.ca
    try:
        found = await examine(settings.store.url, None if ca is None else str(ca), secrets.token_hex(8))
    except StoreError as error:
        return [failed("store", SUBJECT, _FAILURES.get(error.kind, _UNREACHABLE))]
    if found.refused:
        findings = [failed("store", SUBJECT, _REFUSALS.get(found.refused, _REFUSED))]
    else:
        findings = [ok("store", SUBJECT, f"{found.version} answers, and lets the gateway write")]
    return [*findings, *_policy(found.info), *compare(SUBJECT, world.now(), found.time)]


def _policy(info: Mapping[str, str]) -> list[Finding]:
    policy, most = info.get("maxmemory_policy"), info.get("maxmemory")
    if policy is None:
        sentence = (
            "The user of limits.store may not read INFO, so version and maxmemory-policy are not known."
        )
        return [warning("store_memory", SUBJECT, f"{sentence} Give it +info.")]
    if policy != "noeviction" and most != "0":
        what = f"With maxmemory-policy {policy} a full store forgets limits and locks."
        return [warning("store_memory", SUBJECT, f"{what} Set maxmemory-policy noeviction.")]
    return [ok("store_memory", SUBJECT, f"maxmemory {most}, maxmemory-policy {policy}")]
