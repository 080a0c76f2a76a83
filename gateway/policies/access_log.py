"""Logs one line for each request, once it has ended and its run is settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

from gateway.config import LogSettings
from gateway.exchange import Exchange
from gateway.flowise.outcome import Outcome
from gateway.telemetry.logs import Logger

Keep = Callable[[Exchange, Mapping[str, Any]], None]


def access_log(logger: Logger, settings: LogSettings, keep: Keep | None = None) -> Callable[[Exchange], None]:
    """The policy. `keep`: gets each line, also of what is not in the sample, for the live page."""
    logger = logger.bind()  # else the first of its methods that is called does so, for each line

    def write(exchange: Exchange) -> None:
        line = request_line(exchange, with_prompt=settings.prompts)
        if keep is not None:
            keep(exchange, line)
        (logger.error if exchange.outcome is Outcome.FAILED else logger.info)("request", **line)

    def write_sampled(exchange: Exchange) -> None:
        if exchange.outcome is not Outcome.OK:
            write(exchange)
            return
        is_logged = is_in_sample(exchange.request_id, settings.sample)
        if not is_logged and keep is None:
            return
        line = request_line(exchange, with_prompt=settings.prompts)
        if keep is not None:
            keep(exchange, line)
        if is_logged:
            logger.info("request", **line, sample=settings.sample)

    on_complete = write if settings.sample >= 1 else write_sampled

    def policy(exchange: Exchange) -> None:
        exchange.on_complete(on_complete)

    return policy


def is_in_sample(request_id: str, share: float) -> bool:
    """Whether this share of all requests includes this one: the same in every process and for every gateway."""
    return crc32(request_id.encode()) < share * 2**32


def request_line(exchange: Exchange, *, with_prompt: bool) -> dict[str, Any]:
    """The fields of a request's log line; times in seconds."""
    timings, usage = exchange.timings, exchange.usage
    line: dict[str, Any] = {
        "request_id": exchange.request_id,
        "route": exchange.route.name if exchange.route else None,
        "endpoint": exchange.endpoint,
        "caller": exchange.caller.name or None,
        "auth": exchange.auth or None,
        "status": exchange.status,
        "outcome": exchange.outcome or Outcome.FAILED,
        "streaming": exchange.is_streaming,
        "client": exchange.client,
        "upstream": exchange.upstream or None,
        "server": exchange.server or None,
        "duration_s": None if timings.ended is None else round(timings.ended - timings.received, 6),
        "ttft_s": _seconds(timings.time_to_first_token),
        "overhead_s": _seconds(timings.overhead),
        "waited_s": _seconds(timings.waited) if timings.waited else None,
        "events": sum(exchange.events.values()),
        "tokens_in": None if usage is None else usage.input,
        "tokens_out": None if usage is None else usage.output,
        "token_source": None if usage is None else usage.source,
        "bytes_out": exchange.bytes_out,
        "abort": exchange.abort or None,
        "limited_by": exchange.limited_by or None,
        "trace_id": exchange.trace_id or None,
    }
    return line | _optional_fields(exchange, with_prompt=with_prompt)


def _optional_fields(exchange: Exchange, *, with_prompt: bool) -> dict[str, Any]:
    """Fields that most lines do not have."""
    line: dict[str, Any] = {}
    usage = exchange.usage
    if exchange.uncounted:
        line["uncounted"] = exchange.uncounted
    if usage is not None and (implausible := usage.implausible_input + usage.implausible_output):
        line["tokens_implausible"] = implausible
    if exchange.tts_seconds is not None:
        line["tts_seconds"] = _seconds(exchange.tts_seconds)
        line["tts_bytes"] = exchange.bytes_in
    if error := _error(exchange, with_text=with_prompt):
        line["error"] = error
    if exchange.client_certificate:
        line["client_certificate"] = exchange.client_certificate
    if exchange.has_ignored_credential:
        line["foreign_credential"] = "ignored"
    if exchange.cors:
        line["cors"] = exchange.cors
    if exchange.prediction is not None and exchange.prediction.dropped:
        line["dropped"] = list(exchange.prediction.dropped)
    if with_prompt and exchange.prediction is not None:
        line["prompt"] = exchange.prediction.question
    return line


_OF_FLOWISE = (Outcome.ERROR_EVENT, Outcome.UPSTREAM_ERROR)


def _error(exchange: Exchange, *, with_text: bool) -> str:
    """What the gateway noted, then what Flowise said. `with_text`: a text of Flowise may hold parts of a prompt."""
    outcome, failure = exchange.outcome, exchange.failure
    if failure is None or outcome not in _OF_FLOWISE:
        return exchange.error
    said = f"{outcome.value}: {failure.described(with_text=with_text)}"
    return f"{exchange.error}; {said}" if exchange.error else said


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
