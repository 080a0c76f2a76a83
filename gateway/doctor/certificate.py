"""The certificate of the public port: whether clients will accept it, and for how long."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.config.certificates import gaps, lapses, read_chain, read_file
from gateway.doctor.report import Finding, failed, ok, warning
from gateway.doctor.world import World

SOON = timedelta(days=14)  # certificates are usually renewed a month before their end
_MOST_NAMES = 5


async def certificate(world: World) -> list[Finding]:
    """Nothing where the port has no TLS."""
    path = world.config.server.tls.certificate
    if path is None:
        return []
    return await asyncio.to_thread(_certificate, path, datetime.fromtimestamp(world.now(), UTC))


def _certificate(path: Path, now: datetime) -> list[Finding]:
    try:
        chain = read_chain(read_file(path))
    except ValueError as error:
        return [failed("certificate", str(path), f"{error}.")]
    found = [failed("certificate", path.name, _sentence(lapse)) for lapse in lapses(chain, now)]
    found += [warning("certificate", path.name, _sentence(gap)) for gap in gaps(chain)]
    until = f"{chain.expires:%Y-%m-%d}"
    if not found and chain.expires - now < SOON:
        advice = "See why it is not renewed: certbot and cert-manager do that a month before."
        return [warning("certificate", path.name, f"Expires on {until}. {advice}")]
    names = ", ".join(chain.names[:_MOST_NAMES])
    return found or [ok("certificate", path.name, f"is valid until {until}, for {names}")]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
