"""Runs the simulator alone: `python -m gateway.simulator --port 3999`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import uvloop

from gateway.simulator.flows import DEFAULT_FLOWS
from gateway.simulator.server import Simulator


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    uvloop.run(_serve(_arguments()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.simulator", description="A scripted Flowise 3.1.4."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3999)
    parser.add_argument("--api-key", default="", help="API key of the protected chatflow")
    parser.add_argument("--heartbeat", type=float, default=30.0, help="seconds between heartbeats")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    stop_requested = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop_requested.set)
    simulator = Simulator(api_key=arguments.api_key, heartbeat=arguments.heartbeat)
    await simulator.start(arguments.host, arguments.port)
    sys.stdout.write(f"Simulated Flowise on {simulator.url}\n")
    for flow in DEFAULT_FLOWS:
        sys.stdout.write(f"  {flow.id}  {flow.name}\n")
    sys.stdout.flush()
    await stop_requested.wait()
    await simulator.stop()


if __name__ == "__main__":
    main()
