"""The Kubernetes objects are valid, and what they say fits together and to the gateway."""

from __future__ import annotations

import base64
import re

import kubernetes_validate
import pytest
import yaml

from gateway.config import load
from gateway.server.admin import PROBES
from tests.deploy.prometheus_rule import FILE, rule_text
from tests.harness import monitoring
from tests.harness.api_keys import key_of
from tests.harness.image import STATE
from tests.harness.manifests import FILLED, KUBERNETES, example_env, kustomized
from tests.harness.surface import answering

OF_THE_OPERATOR = {"ServiceMonitor", "PrometheusRule"}
VERSIONS = ("1.27", "1.37")  # with horizontal autoscaling by pods, and today's
MEBI = {"Mi": 1, "Gi": 1024}


class Objects:
    def __init__(self, all_of_them):
        self.all = all_of_them

    def one(self, kind, name="flowise-gateway"):
        (found,) = [
            each for each in self.all if each["kind"] == kind and each["metadata"]["name"].startswith(name)
        ]
        return found

    @property
    def pod(self):
        return self.one("Deployment")["spec"]["template"]["spec"]

    @property
    def container(self):
        (container,) = self.pod["containers"]
        return container


@pytest.fixture(scope="module", params=["base", "production"])
def objects(request, tmp_path_factory):
    return Objects(kustomized(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    return Objects(kustomized(tmp_path_factory.mktemp("overlay"), "production"))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """What the gateway of the pods reads."""
    folder = tmp_path_factory.mktemp("config")
    text = (KUBERNETES / "base" / "gateway.yaml").read_text()
    path = folder / "gateway.yaml"
    path.write_text(
        text.replace("2c5e8d0a-1111-4222-8333-444455556666", "2c5e8d0a-1111-4222-8333-444455556667")
    )
    return load(
        path, {name: FILLED[name] for name in example_env(KUBERNETES / "base" / "secret.example.env")}
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(objects, version):
    for each in objects.all:
        if each["kind"] not in OF_THE_OPERATOR:
            kubernetes_validate.validate(each, version, strict=True)


def test_a_mistake_in_an_object_is_seen(objects):
    broken = {**objects.one("Service"), "specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_every_file_is_used():
    for folder in ("base", "production"):
        text = (KUBERNETES / folder / "kustomization.yaml").read_text()
        made = {path.name for path in (KUBERNETES / folder).glob("*.yaml")} - {"kustomization.yaml"}
        assert all(name in text for name in made)
        assert set(re.findall(r"[\w.]+\.yaml", text)) - made <= {"kustomization.yaml", "keys.yaml"}


def test_the_probes_ask_the_admin_port(objects, config):
    ports = {port["name"]: port["containerPort"] for port in objects.container["ports"]}
    assert ports == {"http": config.server.listen[0].port, "admin": config.admin.listen.port}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = objects.container[probe]["httpGet"]
        assert asked["port"] == "admin"
        assert asked["path"] in PROBES
    assert objects.container["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_the_service_leads_to_the_pods(objects):
    spec, ports = objects.one("Service")["spec"], {port["name"] for port in objects.container["ports"]}
    labels = objects.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert spec["selector"].items() <= labels.items()
    assert {port["targetPort"] for port in spec["ports"]} == ports
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        chosen = objects.one(kind)["spec"]
        chosen = chosen.get("selector", chosen.get("podSelector"))
        assert chosen["matchLabels"].items() <= labels.items()


def test_a_pod_has_time_to_drain(objects, config):
    before = int(objects.container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = config.server.drain_delay + config.server.drain
    assert objects.pod["terminationGracePeriodSeconds"] >= before + drain + 10


def test_a_pod_has_the_memory_that_the_gateway_may_use(objects, config):
    limit = objects.container["resources"]["limits"]["memory"]
    wanted = (config.server.buffered_bodies + config.server.kept_replies) / 2**20 + 256
    assert int(limit[:-2]) * MEBI[limit[-2:]] >= wanted


def test_a_pod_is_confined(objects):
    for name in ("flowise-gateway", "valkey"):
        for deployment in [
            each for each in objects.all if each["kind"] == "Deployment" and each["metadata"]["name"] == name
        ]:
            pod = deployment["spec"]["template"]["spec"]
            assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["containers"][0]["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
    assert objects.pod["securityContext"]["runAsUser"] == objects.pod["securityContext"]["fsGroup"] == 10001


def test_the_gateway_reads_what_is_mounted(objects):
    mounts = {mount["name"]: mount["mountPath"] for mount in objects.container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in objects.pod["volumes"]}
    made = {(each["kind"], each["metadata"]["name"]) for each in objects.all}
    assert ("ConfigMap", volumes["config"]["configMap"]["name"]) in made
    assert ("Secret", volumes["keys"]["secret"]["secretName"]) in made
    assert ("Secret", objects.container["envFrom"][0]["secretRef"]["name"]) in made
    command, option, file = objects.container["args"]
    assert (command, option, file) == ("serve", "--config", mounts["config"] + "/gateway.yaml")
    environ = {each["name"]: each["value"] for each in objects.container["env"]}
    assert environ["KEYS_FILE"] == mounts["keys"] + "/keys.yaml"
    assert mounts["keys"] == STATE
    assert volumes["keys"]["secret"]["defaultMode"] == 0o440  # the group of fsGroup may read them


async def test_keys_of_a_changed_secret_are_loaded(start, tmp_path):
    """The kubelet replaces the link `..data` to a folder with all files of the Secret."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        await key_of(tmp_path / name, name)
    folder = tmp_path / "mounted"
    folder.mkdir()
    (folder / "..data").symlink_to("../first")
    (folder / "keys.yaml").symlink_to("..data/keys.yaml")
    auth = {"keys_file": str(folder / "keys.yaml")}
    async with answering() as upstream, start(upstream.url, auth=auth) as gateway:
        await gateway.lines.until("keys_loaded")
        (folder / "..new").symlink_to("../second")
        (folder / "..new").rename(folder / "..data")
        (*_, loaded) = await gateway.lines.until("keys_loaded", 2)
    assert loaded["count"] == 1
    assert not gateway.lines.of("keys_file_broken")


def test_every_placeholder_of_the_configuration_has_its_value(production):
    text = production.one("ConfigMap")["data"]["gateway.yaml"]
    given = {each["name"] for each in production.container["env"]}
    reference = production.container["envFrom"][0]["secretRef"]["name"]
    given |= set(production.one("Secret", reference)["data"])
    assert set(re.findall(r"\$\{(\w+)", text)) == given


def test_only_the_gateway_reaches_flowise_and_only_monitoring_the_admin_port(objects, config):
    flowise = next(
        each
        for each in objects.all
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "flowise"
    )
    (rule,) = flowise["spec"]["ingress"]
    labels = objects.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert rule["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": labels["app.kubernetes.io/name"]}}}
    ]
    assert str(rule["ports"][0]["port"]) == str(config.upstreams["main"].servers[0].url).rpartition(":")[2]
    public, admin = objects.one("NetworkPolicy", "flowise-gateway")["spec"]["ingress"]
    assert public == {"ports": [{"protocol": "TCP", "port": config.server.listen[0].port}]}
    assert admin["ports"] == [{"protocol": "TCP", "port": config.admin.listen.port}]
    assert list(admin["from"][0]) == ["namespaceSelector"]


def test_several_gateways_share_their_limits(production):
    scaled = production.one("HorizontalPodAutoscaler")["spec"]
    assert scaled["minReplicas"] > 1
    assert "replicas" not in production.one("Deployment")["spec"]
    environ = {each["name"]: each["value"] for each in production.container["env"]}
    (port,) = production.one("Service", "valkey")["spec"]["ports"]
    assert environ["LIMITS_STORE"] == f"redis://valkey:{port['port']}/0"


def test_the_autoscaler_asks_for_a_metric_that_exists(production):
    (metric,) = production.one("HorizontalPodAutoscaler")["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in monitoring.real_series()
    text = (KUBERNETES / "production" / "horizontalpodautoscaler.yaml").read_text()
    assert f"seriesQuery: {name}" in text


def test_the_operator_scrapes_with_the_token(production):
    monitor, service = production.one("ServiceMonitor")["spec"], production.one("Service")
    (endpoint,) = monitor["endpoints"]
    scraped = monitoring.parsed(monitoring.PROMETHEUS / "prometheus.yml")["scrape_configs"][0]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] == scraped["metrics_path"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    credentials = endpoint["authorization"]["credentials"]
    secret = production.one("Secret", credentials["name"])["data"]
    assert base64.b64decode(secret[credentials["key"]]).decode() == FILLED["ADMIN_TOKEN"]
    assert service["metadata"]["name"] == scraped["job_name"]  # the operator's name for the job
    relabelled = [
        {key.replace("L", "_l"): value for key, value in rule.items()}
        for rule in endpoint["metricRelabelings"]
    ]
    assert relabelled == scraped["metric_relabel_configs"]


def test_the_operators_rules_are_the_shipped_ones(production, promtool, tmp_path):
    assert FILE.read_text() == rule_text(), "run: python -m tests.deploy.prometheus_rule"
    groups = yaml.safe_load(FILE.read_text())["spec"]["groups"]
    paths = sorted((monitoring.PROMETHEUS / "rules").glob("*.yml"))
    assert groups == [group for path in paths for group in monitoring.parsed(path)["groups"]]
    assert production.one("PrometheusRule")["spec"]["groups"] == groups
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": groups}))
    assert "SUCCESS" in promtool("check", "rules", rules)
