"""A gateway in front of the real Flowise that `tests/e2e/run` has started; a real process, as users have it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "process"))

from children import serving


@pytest.fixture(scope="session")
def flowise():
    """What seed.py wrote: `url`, `flows`, and where the fake model logs."""
    path = os.environ.get("FLOWISE_SEED")
    if not path:
        pytest.fail("FLOWISE_SEED is not set; `make e2e` starts a Flowise and sets it")
    seed = json.loads(Path(path).read_text())
    seed["model_log"] = os.environ.get("FLOWISE_MODEL_LOG", seed.get("model_log"))
    return seed


@pytest.fixture
async def gateway(flowise, tmp_path):
    """The gateway with a route for each chatflow, by name."""
    routes = [
        {
            "name": name,
            "chatflow": flow,
            "upstream": "main",
            "auth": ["anonymous"],
            "cors": {"origins": ["*"]},
        }
        for name, flow in flowise["flows"].items()
    ]
    timeouts = {"idle": "3s"}
    async with serving(
        tmp_path, flowise["url"], patience=None, routes=routes, upstreams={"main": {"timeouts": timeouts}}
    ) as child:
        child.url = f"http://{child.host}:{child.port}"
        yield child


@pytest.fixture
def model(flowise):
    """The fake model's own word on how an answer ended."""
    return ModelLog(flowise["model_log"])


class ModelLog:
    def __init__(self, path: str | None) -> None:
        if path is None:
            pytest.fail("where does the fake model log? set FLOWISE_MODEL_LOG")
        self._path = Path(path)

    def ends(self, question: str) -> list[dict]:
        """The last lines of all answers to this question."""
        lines = [json.loads(line) for line in self._path.read_text().splitlines()]
        # Numbers begin anew with each start of the model: an end belongs to the last begin before it.
        numbers: dict[int, str] = {}
        found = []
        for line in lines:
            if line["event"] == "begin":
                numbers[line["n"]] = line["last"]
            elif numbers.get(line["n"]) == question:
                found.append(line)
        return found
