"""LiteLLM as a target: its pass-through in front of the same upstream.

It needs an environment of its own, because it pins versions of what the gateway uses: `make .venv-litellm` creates one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import yaml

ENVIRONMENT = Path(__file__).parents[2] / ".venv-litellm"
MISSING = "LiteLLM is not installed (make .venv-litellm)"
_PATH = "/api/v1/prediction"


def program() -> str:
    """The command, of `make .venv-litellm` or on PATH; empty if there is none."""
    return shutil.which("litellm", path=f"{ENVIRONMENT}/bin:{os.environ.get('PATH', '')}") or ""


def command(folder: Path, port: int, upstream_port: int) -> list[str]:
    """One worker that asks for nothing and logs to its standard output."""
    endpoint = {
        "path": _PATH,
        "target": f"http://127.0.0.1:{upstream_port}{_PATH}",
        "include_subpath": True,
        "auth": False,
    }
    config = folder / "litellm.yaml"
    config.write_text(yaml.safe_dump({"general_settings": {"pass_through_endpoints": [endpoint]}}))
    settings = [
        "LITELLM_LOCAL_MODEL_COST_MAP=True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true",
    ]
    options = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return ["env", *settings, program(), *options]
