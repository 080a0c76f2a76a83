"""Relays a new feedback, and remembers to whom its id was given before the client has it."""

from __future__ import annotations

from collections.abc import Mapping

from gateway import web
from gateway.admission.owners import Owners
from gateway.errors import UpstreamBadReply
from gateway.exchange import Exchange
from gateway.flowise.content_budget import ContentBudget
from gateway.flowise.feedback import stored_id
from gateway.policies.feedback import remember
from gateway.relay.delivery import whole_response
from gateway.relay.outgoing import choose_server, choose_upstream, deadlines_of, upstream_request
from gateway.relay.registry import InFlight
from gateway.relay.transfer import Transfer
from gateway.relay.whole_answer import WholeAnswer
from gateway.upstream.response_parser import Framing
from gateway.upstream.upstream import Upstream

LARGEST = 256 * 1024  # bytes of Flowise's answer, which repeats the feedback


class Feedback:
    """`budget`: for answers that are held."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        in_flight: InFlight,
        owners: Owners,
        budget: ContentBudget,
    ) -> None:
        self._upstreams = upstreams
        self._in_flight = in_flight
        self._owners = owners
        self._budget = budget

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        _, route = exchange.matched
        if exchange.document is None:
            raise AssertionError("policies/body refuses a feedback without a body")
        upstream = choose_upstream(exchange, self._upstreams)
        body = exchange.document.encode(route.chatflow, exchange.chat_id)
        transfer = Transfer(
            exchange, deadlines_of(upstream), choose_server(exchange, upstream), self._in_flight
        )
        answer = WholeAnswer(transfer.call, self._budget, LARGEST, _too_large())
        response: web.StreamResponse | None = None
        try:
            head = await transfer.call.send(upstream_request(exchange, upstream, body))
            content = b""
            if head.framing is not Framing.NONE:
                transfer.call.attach(answer)
                content = await answer.body()
            if head.status < 400 and (name := stored_id(content)):
                exchange.feedback_id = name
                await remember(self._owners, exchange, name)
            response = whole_response(exchange, head, content, answer.release)
        except UpstreamBadReply as error:
            transfer.close_now(error)
            raise
        finally:
            if response is None:
                answer.release()
            transfer.call.detach()
        return response


def _too_large() -> UpstreamBadReply:
    return UpstreamBadReply(f"The answer of Flowise to a feedback is larger than {LARGEST >> 10} KiB.")
