"""Each server: whether it answers, with which version and clock, and whether it accepts the key."""

from __future__ import annotations

from gateway.doctor.clocks import compare, seconds_of
from gateway.doctor.report import Finding, failed, ok, warning
from gateway.doctor.world import World
from gateway.flowise.versions import OLDEST, is_too_old, missing_in, parse_version
from gateway.upstream.flowise_admin import FlowiseQueryError


async def servers(world: World) -> list[Finding]:
    """Reachable, TLS, version, clock."""
    findings = []
    for name, settings in world.config.upstreams.items():
        greeting = (await world.survey(name)).greeting
        if isinstance(greeting, FlowiseQueryError):
            check = "tls" if greeting.kind == "tls" else "server"
            findings.append(failed(check, name, str(greeting)))
            continue
        url = settings.servers[0].url
        findings.append(ok("server", name, f"{url} answers in {greeting.seconds * 1000:.0f} ms"))
        findings.append(_version(name, greeting.version))
        findings += compare(name, world.now(), seconds_of(greeting.date))
    return findings


def _version(subject: str, text: str) -> Finding:
    version = parse_version(text)
    if version is None:
        return warning("version", subject, f'Flowise reports the version "{text[:40]}", which is not known.')
    if is_too_old(version):
        oldest = ".".join(map(str, OLDEST))
        what = f"Flowise {text} does not stream server-sent events."
        return failed("version", subject, f"{what} Update it to {oldest} or newer.")
    if missing := missing_in(version):
        return warning("version", subject, f"Flowise {text} lacks {'; '.join(missing)}. Update it.")
    return ok("version", subject, f"Flowise {text}")


async def api_keys(world: World) -> list[Finding]:
    """Whether each server accepts the key of its upstream, and lets it list chatflows; predictions may need neither."""
    findings = []
    for name in world.config.upstreams:
        survey = await world.survey(name)
        if isinstance(survey.greeting, FlowiseQueryError):
            continue  # reported by `servers`
        if isinstance(survey.chatflows, FlowiseQueryError):
            is_refused = survey.chatflows.kind not in ("no_key", "no_permission")
            findings.append((failed if is_refused else warning)("api_key", name, str(survey.chatflows)))
        else:
            count = len(survey.chatflows)
            findings.append(
                ok("api_key", name, f"is accepted, and sees {count} chatflow{'s' * (count != 1)}")
            )
    return findings
