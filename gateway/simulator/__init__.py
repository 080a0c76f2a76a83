"""A scripted Flowise 3.1.4 for the `demo` command and the tests; it imports nothing else of the gateway."""

from gateway.simulator.bodies import File, RawBody
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
from gateway.simulator.runs import SimulatedRun
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
    "RawBody",
    "ReceivedRequest",
    "SimulatedRun",
    "Simulator",
    "Step",
    "Steps",
    "Token",
    "Wait",
    "frame",
]
