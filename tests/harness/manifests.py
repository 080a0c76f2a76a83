"""The compose files and the Kubernetes objects of deploy/, as their tools read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.harness import bounds
from tests.harness.processes import ROOT
from tests.harness.programs import program

DEPLOY = ROOT / "deploy"
COMPOSE = (DEPLOY / "compose.yaml", DEPLOY / "compose.minimal.yaml")
KUBERNETES = DEPLOY / "kubernetes"
EXAMPLE_ENV = DEPLOY / "env.example"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
ROUTES = "support=2c5e8d0a-1111-4222-8333-444455556667"
FILLED = {"GATEWAY_ROUTES": ROUTES, "GATEWAY_SECRET": "s" * 64, "GATEWAY_ADMIN_TOKEN": "t" * 64}
FILLED |= {"GRAFANA_PASSWORD": "p", "ADMIN_TOKEN": "t" * 64, "FLOWISE_API_KEY": "k"}


def variables(text: str) -> dict[str, str]:
    """The names that a compose file reads from the environment, each with what is behind it: `-default`, `?message`."""
    return {
        found["name"]: (found["kind"] or "") + (found["rest"] or "") for found in _VARIABLE.finditer(text)
    }


def example_env(path: Path = EXAMPLE_ENV) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def compose(path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """A compose file with its variables replaced, as Compose does it."""

    def value(found: re.Match[str]) -> str:
        given = environ.get(found["name"], "")
        if found["kind"] == "?":
            assert given, f"{found['name']} is not set: {found['rest']}"
        return given or (found["rest"] or "" if found["kind"] == "-" else "")

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(below) for key, below in node.items()}
        if isinstance(node, list):
            return [filled(below) for below in node]
        return _VARIABLE.sub(value, node) if isinstance(node, str) else node

    return filled(yaml.safe_load(path.read_text()))


def filled_env() -> dict[str, str]:
    """The example, filled in as it says."""
    return example_env() | {name: value for name, value in FILLED.items() if name in example_env()}


def kustomized(folder: Path, overlay: str) -> list[dict[str, Any]]:
    """The objects of a base or an overlay, with the files that each user makes; needs kubectl."""
    kubectl = program("kubectl")
    copy = folder / "kubernetes"
    shutil.copytree(KUBERNETES, copy, dirs_exist_ok=True)
    secret = example_env(copy / "base" / "secret.example.env")
    lines = [f"{name}={FILLED[name]}\n" for name in secret]
    (copy / "base" / "secret.env").write_text("".join(lines))
    (copy / "base" / "keys.yaml").write_text("keys: []\n")
    words = [kubectl, "kustomize", str(copy / overlay)]
    built = subprocess.run(words, capture_output=True, text=True, check=False, timeout=bounds.STEP)
    assert (built.returncode, built.stderr) == (0, "")
    return list(yaml.safe_load_all(built.stdout))
