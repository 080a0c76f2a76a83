"""Everything that a file in deploy/ or a workflow names exists: variables, commands, metrics, paths, keys, ports, files."""

from __future__ import annotations

import json
import re
from functools import cache

import pytest

from gateway.arguments import command_line
from gateway.config import AdminSettings, ServerSettings
from gateway.config.environment import VARIABLES
from gateway.flowise.endpoints import ENDPOINTS
from tests.deploy.prometheus_rule import FILE as RULES  # their prose names the job
from tests.harness import monitoring
from tests.harness.manifests import DEPLOY, KUBERNETES, example_env
from tests.harness.processes import ROOT
from tests.test_references import names

FILES = [
    path
    for folder in (DEPLOY, ROOT / ".github")
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.suffix != ".lock" and "__pycache__" not in path.parts
]
COMMAND = re.compile(
    r"(?<![\w/:-])(?:\S*/)?flowise-gateway (?!flowise-gateway)((?:[a-z]+\b ?)+)([^\n`#|)\"']*)"
)
# what is made by those who use the files, and names of other programs
MADE = {"gateway.yaml", "keys.yaml", "secret.env", "cosign.key", "dependabot.yml", "docker-compose.yml"}
PORTS = {
    str(ServerSettings().listen[0].port): "the public port",
    "8443": "the public port with TLS",
    str(AdminSettings().listen.port): "the admin port, and Prometheus",
    "3000": "Flowise, and Grafana inside of its container",
    "4318": "a collector of traces",
    "3001": "Grafana on the host",
    "6379": "Valkey",
    "2019": "Caddy's own admin port",
    "9093": "Alertmanager",
    "8000": "the site of the widget's example",
}


def known_metrics():
    recorded = {part for rule in monitoring.recording_rules() for part in rule["record"].split(":")}
    return set(monitoring.real_series()) | recorded | {monitoring.PREFIX}


@cache
def keys():
    """Every key of the configuration by its path, without the names between."""
    schema = json.loads((ROOT / "config" / "gateway.schema.json").read_text())

    def below(node, path):
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        for choice in (*node.get("anyOf", ()), *node.get("allOf", ())):
            yield from below(choice, path)
        for key, value in node.get("properties", {}).items():
            yield f"{path}{key}"
            yield from below(value, f"{path}{key}.")
        if isinstance(node.get("additionalProperties"), dict):
            yield from below(node["additionalProperties"], f"{path}*.")
        if isinstance(node.get("items"), dict):
            yield from below(node["items"], path)

    return frozenset(below(schema, ""))


TABLE = {  # what a pattern finds must be known
    "variables": (
        r"(?<![$\w.-])(?:GATEWAY|FLOWISE)_[A-Z_]+[A-Z]\b(?!_)",
        lambda: {variable.name for variable in VARIABLES} | {"FLOWISE_API_KEY_SUPPORT_EU"},
    ),
    "metrics": (r"\bflowise_gateway_[a-z0-9_]*", known_metrics),
    "paths of the admin port": (
        r"(?<![\w./-])/(?:[a-z]*z|metrics|health|openapi\.json)\b(?![/-])",
        lambda: {"/livez", "/readyz", "/metrics", "/openapi.json"},
    ),
    "public paths": (
        r"/(?:api|gateway)/v1/[\w-]+",
        lambda: (
            {"/api/v1/chatflows"}
            | {"/".join(path.split("/")[:4]) for endpoint in ENDPOINTS for path in endpoint.paths}
        ),
    ),
    "keys": (
        r"(?<!-)\b(?:server|admin|limits|logs|metrics|upstreams|auth)(?:\.[*a-z_]+)+[a-z]\b(?!\()",
        keys,
    ),
    "ports": (r"(?<=:)[1-9]\d{3}\b(?![:.]\d)", lambda: set(PORTS)),
    "files": (
        r"(?<![\w/$}{*-])(?:[\w.-]+/)*[\w-][\w.-]*\.(?:ya?ml|env|cfg|conf|lock|toml)\b(?![/=:]/)",
        lambda: {*names(), *MADE},
    ),
}


def test_the_table_reads_what_it_should():
    found = {name: set() for name in TABLE}
    for path in FILES:
        for name, (pattern, _) in TABLE.items():
            found[name] |= set(re.findall(pattern, path.read_text()))
    assert {"GATEWAY_ADMIN_TOKEN", "FLOWISE_URL"} <= found["variables"]
    assert "flowise_gateway_runs_active" in found["metrics"]
    assert {"/livez", "/readyz", "/metrics"} <= found["paths of the admin port"]
    assert "/api/v1/ping" in found["public paths"]
    assert {"server.drain", "limits.store", "upstreams.*.timeouts.total"} <= found["keys"]
    assert {"8080", "9090", "6379"} <= found["ports"]
    assert {"compose.yaml", "secret.example.env"} <= found["files"]


@pytest.mark.parametrize("kind", TABLE)
def test_what_is_named_exists(kind):
    pattern, known = TABLE[kind]
    known, lost = set(known()), {}
    for path in FILES:
        folder = path.relative_to(ROOT).parent
        for name in set(re.findall(pattern, path.read_text())):
            if known.isdisjoint({name, name.lstrip("./-")}) and not any(
                (base / name).exists() for base in (ROOT, ROOT / folder)
            ):
                lost.setdefault(str(path.relative_to(ROOT)), []).append(name)
    assert not lost


def commands():
    """Every command with its options."""
    found = {}

    def read(parser, words):
        below = [
            action
            for action in parser._actions
            if hasattr(action, "choices") and isinstance(action.choices, dict)
        ]
        options = {option for action in parser._actions for option in action.option_strings}
        if not below:
            found[words] = options
        for action in below:
            for name, each in action.choices.items():
                read(each, (*words, name))

    read(command_line(), ())
    return found


def test_every_command_exists_with_its_options():
    real, seen = commands(), 0
    for path in (path for path in FILES if path != RULES and not path.is_relative_to(monitoring.PROMETHEUS)):
        text = path.read_text().replace(" \\\n", " ")
        for said, rest in COMMAND.findall(text):
            words = tuple(said.split())
            command = next((words[:length] for length in (2, 1) if words[:length] in real), None)
            assert command, f"{path}: flowise-gateway {said}"
            options = set(re.findall(r"(?<!\S)\[?(--[a-z][a-z-]*)", said + rest))
            assert options <= real[command], f"{path}: flowise-gateway {said}{rest}"
            seen += 1
    assert seen > 20


def test_the_secrets_of_the_examples_are_empty():
    for path in (DEPLOY / "env.example", KUBERNETES / "base" / "secret.example.env"):
        secret = {
            name: value
            for name, value in example_env(path).items()
            if re.search("SECRET|TOKEN|PASSWORD|KEY", name)
        }
        assert secret
        assert not any(secret.values())
