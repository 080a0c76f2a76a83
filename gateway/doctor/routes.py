"""Each route: whether its chatflow exists, streams, answers predictions, and gets what it wants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.config import Route
from gateway.doctor.report import Finding, failed, ok, warning
from gateway.doctor.world import World
from gateway.flowise.chatflows import Chatflow
from gateway.upstream.flowise_admin import FlowiseAdmin, FlowiseQueryError


async def routes(world: World) -> list[Finding]:
    """One line for each route, or one for each thing that is wrong with it."""
    findings = []
    for upstream in world.config.upstreams:
        survey = await world.survey(upstream)
        if isinstance(survey.greeting, FlowiseQueryError):
            names = ", ".join(route.name for route in world.routes_of(upstream))
            sentence = f"Not checked, because upstreams.{upstream} does not answer. Mend that first."
            findings += [warning("route", names, sentence)] if names else []
            continue
        async with world.admin(upstream) as admin:
            for route in world.routes_of(upstream):
                findings += await _route(world, route, admin)
        findings += _missing_keys(upstream, await world.without_their_key(upstream))
    return findings


def _missing_keys(upstream: str, without: list[tuple[Route, Chatflow]]) -> Iterator[Finding]:
    """One line for each key that an upstream has not, and its chatflows want."""
    routes: dict[str, list[str]] = {}
    for route, flow in without:
        routes.setdefault(flow.key_id, []).append(route.name)
    place = f"upstreams.{upstream}.api_key"
    for number, names in enumerate(routes.values()):
        is_one = len(names) == 1
        what = "Its chatflow needs an API key of its own" if is_one else "Their chatflows need one API key"
        advice = "Write that key there." if not number else "Give that key an upstream of its own."
        yield failed("chatflow_key", ", ".join(names), f"{what} in Flowise, and {place} is empty. {advice}")


async def _route(world: World, route: Route, admin: FlowiseAdmin) -> list[Finding]:
    try:
        is_streaming = await admin.is_streaming(route.chatflow)
        offered = await admin.uploads(route.chatflow)
    except FlowiseQueryError as error:
        if error.kind != "missing":
            return [failed("route", route.name, str(error))]
        what = f"Flowise has no chatflow {route.chatflow}; it may be deleted."
        return [failed("route", route.name, f"{what} `flowise-gateway flows` lists the ids that it has.")]
    listed = await world.chatflows(route.upstream)
    flow = listed.get(route.chatflow)
    wrong = [*_streaming(route, is_streaming=is_streaming), *_uploads(route, flow, offered)]
    wrong += _upsert(world, route)
    if flow is None:
        return wrong or [ok("route", route.name, f"chatflow {route.chatflow} is there, and streams")]
    wrong += [*_trigger(route, flow), *_key(world, route, flow, listed)]
    if flow.key_id and not world.has_key(route.upstream):
        return wrong  # `_missing_keys` has a line for it
    return wrong or [ok("route", route.name, f"{flow.kind} {flow.name} answers predictions, and streams")]


def _trigger(route: Route, flow: Chatflow) -> Iterator[Finding]:
    if not flow.answers_predictions:
        what = f"Its chatflow is started by a {flow.trigger} and refuses predictions."
        advice = "Write the id of another one, or start it by a chat message in Flowise."
        yield failed("route", route.name, f"{what} {advice}")


def _streaming(route: Route, *, is_streaming: bool) -> Iterator[Finding]:
    if not is_streaming:
        what = "Its chatflow does not stream, so answers come at once, at their end."
        advice = "In Flowise, let its model stream and switch post-processing off."
        yield warning("streaming", route.name, f"{what} {advice}")


def _key(world: World, route: Route, flow: Chatflow, listed: Mapping[str, Chatflow]) -> Iterator[Finding]:
    if not flow.key_id or not world.has_key(route.upstream):
        return
    place = f"upstreams.{route.upstream}.api_key"
    what = "Its chatflow needs an API key of its own in Flowise"
    for other in world.routes_of(route.upstream):
        found = listed.get(other.chatflow)
        if found is not None and found.key_id not in ("", flow.key_id):
            advice = "Give each route an upstream with its own api_key."
            sentence = f"{what}, and that of route {other.name} needs another one. {advice}"
            yield failed("chatflow_key", route.name, sentence)
            return
    if not world.question:
        advice = "Give the route an upstream with that key, and try it with --ask TEXT."
        yield warning("chatflow_key", route.name, f"{what}; {place} may be another one. {advice}")


def _uploads(route: Route, flow: Chatflow | None, offered: frozenset[str]) -> Iterator[Finding]:
    wanted = {*offered, *(["files"] if flow is not None and flow.takes_files else [])}
    if wanted and not route.uploads:
        what = f"Its chatflow takes {', '.join(sorted(wanted))}, which the route refuses."
        advice = "Write uploads: true into the route, or switch them off in Flowise."
        yield warning("uploads", route.name, f"{what} {advice}")


def _upsert(world: World, route: Route) -> Iterator[Finding]:
    key = world.config.upstreams[route.upstream].api_key.get_secret_value()
    if route.upsert and not key and not route.takes_flowise_keys:
        what = (
            "Clients may store documents (upsert: true), which Flowise does for a key of its workspace only"
        )
        advice = "Make one in Flowise and write it there, or write upsert: false."
        sentence = f"{what}, and upstreams.{route.upstream}.api_key is empty. {advice}"
        yield failed("upsert", route.name, sentence)
