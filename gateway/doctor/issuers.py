"""Each issuer of JSON Web Tokens: whether its keys can be fetched and used."""

from __future__ import annotations

from gateway.auth.jwks import JwksFetch
from gateway.auth.key_set import JwksError, KeySet
from gateway.config import JwtSettings
from gateway.doctor.report import Finding, failed, ok
from gateway.doctor.world import World


async def issuers(world: World) -> list[Finding]:
    """One line for each issuer."""
    fetch = JwksFetch(world.config.auth.proxies)
    await fetch.start()
    try:
        return [await _issuer(settings, fetch) for settings in world.config.auth.jwt]
    finally:
        await fetch.close()


async def _issuer(settings: JwtSettings, fetch: JwksFetch) -> Finding:
    url = settings.jwks_url.partition("?")[0]
    algorithms = ", ".join(settings.algorithms)
    try:
        keys = KeySet.read(await fetch(settings.jwks_url), settings.algorithms)
    except JwksError as error:
        advice = "Write the jwks_uri that the issuer names in its /.well-known/openid-configuration."
        return failed("jwks", settings.issuer, f"{url} gives no key set: {error}. {advice}")
    if not len(keys):
        advice = "Write the algorithms that the issuer uses into auth.jwt."
        return failed("jwks", settings.issuer, f"{url} has no key for {algorithms}. {advice}")
    count = f"{len(keys)} key{'s' * (len(keys) != 1)}"
    return ok("jwks", settings.issuer, f"{url} has {count} for {algorithms}")
