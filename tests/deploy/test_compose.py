"""The compose files follow the specification, and what they say fits together and to the gateway."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema.validators import validator_for

from gateway.config import load_environment
from gateway.config.environment import VARIABLES
from tests.harness import bounds, monitoring
from tests.harness.image import STATE, instructions
from tests.harness.manifests import COMPOSE, DEPLOY, compose, example_env, filled_env, variables
from tests.harness.processes import ROOT

WHOLE, MINIMAL = COMPOSE
SCHEMA = get_builtin_schema("vendor.compose-spec")
each = pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)


@pytest.fixture
def whole():
    return compose(WHOLE, filled_env())["services"]


def gateway_environ(path):
    """What the gateway of a compose file has in its environment, with that of its image."""
    image = " ".join(said for name, said in instructions() if name == "ENV")
    of_image = dict(re.findall(r"(GATEWAY_\w+)=(\S+)", image))
    return of_image | {
        name: str(value)
        for name, value in compose(path, filled_env())["services"]["gateway"]["environment"].items()
    }


def configured(path):
    """The configuration that the gateway reads from it; the folder of the keys file is the image's."""
    return load_environment(gateway_environ(path) | {"GATEWAY_KEYS_FILE": "keys.yaml"})


@each
def test_it_follows_the_compose_specification(path):
    validator = validator_for(SCHEMA)(SCHEMA)
    assert [error.message for error in validator.iter_errors(compose(path, filled_env()))] == []
    broken = compose(path, filled_env())
    broken["services"]["gateway"]["read_onyl"] = True
    assert list(validator.iter_errors(broken))


@each
def test_every_variable_is_in_the_example_and_no_other(path):
    read = variables(path.read_text())
    assert set(read) <= set(example_env())
    if path == WHOLE:
        assert set(read) == set(example_env())
    for name, rest in read.items():
        if rest.startswith("-") and (example := example_env()[name]):
            assert rest == f"-{example}"


@each
def test_it_refuses_to_start_without_its_secrets(path):
    needed = {name for name, rest in variables(path.read_text()).items() if rest.startswith("?")}
    assert needed == (
        {"GATEWAY_SECRET", "GATEWAY_ADMIN_TOKEN", "GRAFANA_PASSWORD"} if path == WHOLE else set()
    )


@each
def test_the_gateway_accepts_its_environment(path):
    environ = gateway_environ(path)
    assert set(environ) <= {variable.name for variable in VARIABLES}
    assert environ["GATEWAY_KEYS_FILE"].startswith(f"{STATE}/")
    assert [route.name for route in configured(path).routes] == ["support"]


@each
def test_the_image_is_built_from_the_dockerfile(path):
    service = compose(path, {**filled_env()})["services"]["gateway"]
    context = (DEPLOY / service["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / service["build"]["dockerfile"]).is_file()
    assert f"docker build -f deploy/Dockerfile -t {service['image']} ." in (DEPLOY / "Dockerfile").read_text()


@each
def test_the_gateway_is_confined_and_has_time_to_drain(path):
    service = compose(path, filled_env())["services"]["gateway"]
    assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"])
    assert any(volume.endswith(f":{STATE}") for volume in service["volumes"])
    server = configured(path).server
    assert int(service["stop_grace_period"].removesuffix("s")) >= server.drain_delay + server.drain + 10


@each
def test_every_file_that_is_mounted_exists(path):
    content = compose(path, filled_env())
    for name, service in content["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
                assert volume.endswith(":ro")
            else:
                assert source in content["volumes"], f"{name}: {source}"


@each
def test_nothing_but_the_gateway_and_the_editor_reaches_flowise(path):
    services = compose(path, filled_env())["services"]
    ports = services["flowise"].get("ports", [])
    assert all(port.startswith("127.0.0.1:") for port in ports)
    if path == WHOLE:
        assert not ports
        sharing = {name for name, each in services.items() if "flowise" in each["networks"]}
        assert sharing == {"flowise", "editor", "gateway"}
        assert services["editor"]["profiles"] == ["edit"]
        assert all(port.startswith("127.0.0.1:") for port in services["editor"]["ports"])


def test_every_service_but_the_editor_has_a_health_check(whole):
    own = {name for name, service in whole.items() if "healthcheck" in service}
    assert own | {"gateway"} == set(whole) - {"editor"}  # the gateway's is in its image
    assert any(name == "HEALTHCHECK" for name, _ in instructions())
    for name, service in whole.items():
        for awaited, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, name
            assert awaited in own | {"gateway"}


def test_the_services_find_each_other(whole):
    """Each address is a service on a shared network, and its port the one on which that service listens."""
    environ = gateway_environ(WHOLE)
    listens = {
        "flowise": int(whole["flowise"]["environment"]["PORT"]),
        "valkey": 6379,
        "gateway": int(environ["GATEWAY_LISTEN"].rpartition(":")[2]),
        "gateway admin": int(environ["GATEWAY_ADMIN_LISTEN"].rpartition(":")[2]),
        "prometheus": 9090,
    }
    scraped = monitoring.parsed(monitoring.PROMETHEUS / "prometheus.yml")["scrape_configs"][0]
    (source,) = monitoring.parsed(monitoring.GRAFANA / "provisioning" / "datasources" / "prometheus.yml")[
        "datasources"
    ]
    named = {
        ("gateway", "flowise"): environ["FLOWISE_URL"].removeprefix("http://"),
        ("gateway", "valkey"): environ["GATEWAY_LIMITS_STORE"].removeprefix("redis://").removesuffix("/0"),
        ("caddy", "gateway"): whole["caddy"]["environment"]["GATEWAY"],
        ("prometheus", "gateway admin"): scraped["static_configs"][0]["targets"][0],
        ("grafana", "prometheus"): source["url"].removeprefix("http://"),
        ("editor", "flowise"): whole["editor"]["command"][-1],
    }
    for (asking, asked), address in named.items():
        name = asked.partition(" ")[0]
        assert address == f"{name}:{listens[asked]}"
        assert set(whole[asking]["networks"]) & set(whole[name]["networks"]), f"{asking} cannot reach {name}"


def test_only_caddy_is_trusted_with_addresses(whole):
    networks = compose(WHOLE, filled_env())["networks"]
    (subnet,) = networks["front"]["ipam"]["config"]
    assert gateway_environ(WHOLE)["GATEWAY_TRUSTED_PROXIES"] == subnet["subnet"]
    assert {name for name, service in whole.items() if "front" in service["networks"]} == {"caddy", "gateway"}


def test_caddy_gets_every_variable_of_its_file(whole):
    text = (DEPLOY / "caddy" / "Caddyfile").read_text()
    given = whole["caddy"]["environment"]
    read = dict(re.findall(r"\{\$(\w+):([^}]*)\}", text))
    assert set(given) <= set(read)
    assert {name: given[name] for name in given} == {name: read[name] for name in given}
    published = {port.split("/")[0] for port in whole["caddy"]["ports"]}
    assert published == {f"{read['HTTP_PORT']}:{read['HTTP_PORT']}", "443:443"}


def test_prometheus_presents_the_token_of_the_admin_port(whole):
    content = compose(WHOLE, filled_env())
    (secret,) = whole["prometheus"]["secrets"]
    assert content["secrets"][secret["source"]] == {"environment": "GATEWAY_ADMIN_TOKEN"}
    assert secret["mode"] == 0o444  # Prometheus is not root
    assert (
        "read_only" not in whole["prometheus"]
    )  # Compose copies such a secret into the root of the container
    config = next(
        volume
        for volume in whole["prometheus"]["volumes"]
        if volume.startswith("./prometheus/prometheus.yml")
    )
    folder = config.split(":")[1].rpartition("/")[0]
    scraped = monitoring.parsed(monitoring.PROMETHEUS / "prometheus.yml")["scrape_configs"][0]
    assert secret["target"] == f"{folder}/{scraped['authorization']['credentials_file']}"


def test_check_accepts_the_environment_too():
    """The command that a user runs, in a process without anything else in its environment."""
    environ = gateway_environ(WHOLE) | {"GATEWAY_KEYS_FILE": "keys.yaml"}
    words = [sys.executable, "-m", "gateway", "check"]
    done = subprocess.run(
        words, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=bounds.STEP
    )
    assert (done.returncode, done.stdout) == (0, "environment: ok, 1 route\n"), done.stderr
