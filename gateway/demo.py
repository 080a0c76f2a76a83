"""The demo: the gateway on the built-in Flowise simulator, and a `curl` command to try it with."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

from gateway.config import Address, load
from gateway.server.process import Process, serve
from gateway.server.reload import FIXED
from gateway.simulator import CHAIN_ID, Simulator
from gateway.telemetry.log_writer import DescriptorLines, LogWriter
from gateway.telemetry.logs import LogOutput

ROUTE = "demo"
_CONFIG = """\
server: {{listen: "{listen}"}}
admin: {{listen: "127.0.0.1:0"}}
auth: {{secret: "{secret}", keys_file: ""}}
upstreams:
  simulator: {{servers: [{{url: "{url}"}}]}}
routes:
  - name: {route}
    chatflow: {flow}
    upstream: simulator
    auth: [anonymous]
    cors: {{origins: ["*"]}}
"""
_TRY = """\
The gateway runs in front of a simulated Flowise. Try it in another terminal:

curl -N http://{listen}/api/v1/prediction/{route} -H 'Content-Type: application/json' \
-d '{{"question": "Tell me about gateways", "streaming": true}}'

The page with open runs, the last hour and the last requests is at http://{admin}/ and asks for no token.
Metrics are at http://{admin}/metrics. Log lines follow, one per request. Ctrl-C stops the demo.
"""


async def demo(listen: Address, write: Callable[[str], None], *, has_colors: bool) -> None:
    """Run until a signal. `write`: to standard output. `has_colors`: whether a terminal may get colours."""

    def announce(process: Process) -> None:
        (public,) = process.addresses[:1]
        write(_TRY.format(listen=public, admin=process.admin_address, route=ROUTE))

    async with Simulator() as simulator:
        secret = secrets.token_hex()
        text = _CONFIG.format(listen=listen, url=simulator.url, route=ROUTE, flow=CHAIN_ID, secret=secret)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "demo.yaml"
            path.write_text(text)
            config = load(path, {})
        with LogWriter(DescriptorLines()) as lines:
            output = LogOutput(config.logs, lines, has_colors=has_colors)
            await serve(config, output.logger(), output, FIXED, announce=announce)
