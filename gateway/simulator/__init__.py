"""A scripted Flowise 3.1.4, upstream of the `demo` command and of the tests; it does not know the gateway."""

from gateway.simulator.bodies import File, Received
from gateway.simulator.flows import (
    AGENTFLOW_ID,
    CHAIN_ID,
    DEFAULT_FLOWS,
    NOT_STREAMABLE_ID,
    ORIGINS_ID,
    PROTECTED_ID,
    RATE_LIMITED_ID,
    Flow,
    RateLimit,
)
from gateway.simulator.requests import ReceivedRequest
from gateway.simulator.runs import Run
from gateway.simulator.server import Simulator
from gateway.simulator.steps import (
    Close,
    Delay,
    Event,
    Fail,
    Hang,
    Heartbeat,
    Raw,
    Step,
    Steps,
    Token,
    Wait,
    frame,
)

__all__ = [
    "AGENTFLOW_ID",
    "CHAIN_ID",
    "DEFAULT_FLOWS",
    "NOT_STREAMABLE_ID",
    "ORIGINS_ID",
    "PROTECTED_ID",
    "RATE_LIMITED_ID",
    "Close",
    "Delay",
    "Event",
    "Fail",
    "File",
    "Flow",
    "Hang",
    "Heartbeat",
    "RateLimit",
    "Raw",
    "Received",
    "ReceivedRequest",
    "Run",
    "Simulator",
    "Step",
    "Steps",
    "Token",
    "Wait",
    "frame",
]
