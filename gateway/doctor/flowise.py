"""Each server: whether it answers, with which version and clock, and whether it accepts the key."""

from __future__ import annotations

from gateway.causes import cause_of
from gateway.config import Url
from gateway.connecting import look_up
from gateway.doctor.clocks import compare, seconds_of
from gateway.doctor.report import Finding, failed, ok, warning
from gateway.doctor.world import World
from gateway.flowise.versions import OLDEST, is_too_old, missing_in, parse_version
from gateway.upstream.flowise_admin import FlowiseQueryError


async def servers(world: World) -> list[Finding]:
    """Of each server: reachable, TLS, version, clock; and the addresses of a name that is looked up."""
    findings = []
    for upstream, settings in world.config.upstreams.items():
        for place in world.servers(upstream):
            if settings.discover == "dns":
                findings.append(await _addresses(world.subject(place), place[1]))
            findings += await _server(world, place)
    return findings


async def _server(world: World, place: tuple[str, Url]) -> list[Finding]:
    name, greeting = world.subject(place), (await world.survey_of(place)).greeting
    if isinstance(greeting, FlowiseQueryError):
        return [failed("tls" if greeting.kind == "tls" else "server", name, str(greeting))]
    return [
        ok("server", name, f"{place[1]} answers in {greeting.seconds * 1000:.0f} ms"),
        _version(name, greeting.version),
        *compare(name, world.now(), seconds_of(greeting.date)),
    ]


async def _addresses(name: str, url: Url) -> Finding:
    try:
        infos = await look_up(url.host, url.port)
    except (OSError, UnicodeError) as error:
        advice = "Write the name as the name server has it; of Kubernetes that of a headless service."
        return failed("discover", name, f"{url.host}: {cause_of(error).words}. {advice}")
    count = len({info[4][0] for info in infos})
    if count == 1:
        advice = "Of Kubernetes write a headless service, or leave out discover: dns."
        return warning("discover", name, f"{url.host} stands for one address only. {advice}")
    return ok("discover", name, f"{url.host} stands for {count} addresses")


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
    """Whether each server accepts the key of its upstream, and lets it list chatflows; predictions may need neither.

    A key that is missing has one line for all servers, and none where `routes` says that a chatflow wants it.
    """
    findings = []
    missing: set[str] = set()
    for place in [place for name in world.config.upstreams for place in world.servers(name)]:
        name, survey = world.subject(place), await world.survey_of(place)
        if isinstance(survey.greeting, FlowiseQueryError):
            continue  # reported by `servers`
        if isinstance(survey.chatflows, FlowiseQueryError) and survey.chatflows.kind == "no_key":
            upstream, _ = place
            if upstream not in missing and not await world.without_their_key(upstream):
                findings.append(warning("api_key", upstream, str(survey.chatflows)))
            missing.add(upstream)
        elif isinstance(survey.chatflows, FlowiseQueryError):
            is_refused = survey.chatflows.kind != "no_permission"
            findings.append((failed if is_refused else warning)("api_key", name, str(survey.chatflows)))
        else:
            count = len(survey.chatflows)
            findings.append(
                ok("api_key", name, f"is accepted, and sees {count} chatflow{'s' * (count != 1)}")
            )
    return findings
