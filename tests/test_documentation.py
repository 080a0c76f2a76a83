"""The documents agree with the code: what is there is written down, and what is written down is there."""

from __future__ import annotations

import ast
import itertools
import os
import re
import tomllib
from pathlib import Path

import pytest
from prometheus_client import Counter

from gateway import __version__, errors
from gateway.cli import main
from gateway.config.log_fields import OTHER_FIELDS, REQUEST_FIELDS
from gateway.exchange import Exchange, Timings
from gateway.flowise import error_texts
from gateway.flowise.endpoints import ENDPOINTS
from gateway.flowise.outcome import Outcome
from gateway.flowise.prediction import read_json
from gateway.flowise.usage import Usage
from gateway.policies.access_log import request_line
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.processes import values_of
from tests.harness.body_rules import body_rules

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for folder in (".", "config", "deploy", "gateway", "gateway/flowise", "tests", "tests/bench")
    for path in sorted((ROOT / folder).glob("*.md"))
}
SECTIONS = {
    "Working on it": "README.md",
    "Layers": "gateway/README.md",
    "Glossary": "gateway/README.md",
    "HTTP surface": "gateway/README.md",
    "Errors": "gateway/README.md",
    "Commands": "deploy/README.md",
    "Metrics": "deploy/README.md",
    "Outcomes": "deploy/README.md",
    "The log": "deploy/README.md",
    "The log in a file": "deploy/README.md",
    "Dependencies": "CONTRIBUTING.md",
    "Environment variables": "tests/README.md",
    "Suites": "tests/README.md",
}


def section(title, document=None):
    """The text below a heading, up to the next one of its depth."""
    document = document or SECTIONS[title]
    pattern = rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)"
    found = re.search(pattern, DOCUMENTS[document], re.MULTILINE | re.DOTALL)
    assert found, f"{document} has no section {title!r}"
    return found[1]


def tables(title, document=None):
    """The tables of a section: for each its rows, as lists of cells."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", section(title, document), re.MULTILINE):
        lines = block.splitlines()
        found.append([[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]])
    return found


def rows(title, document=None):
    """The rows of the first table of a section."""
    return tables(title, document)[0]


def words(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_every_metric_is_documented_with_its_type_and_labels_and_no_other():
    documented = {words(name)[0]: (kind, set(words(labels))) for name, kind, labels in rows("Metrics")}
    real = {}
    for metric in vars(Metrics()).values():
        names = getattr(metric, "_labelnames", None)
        if names is not None:
            suffix = "_total" if isinstance(metric, Counter) else ""
            name = metric._name.removeprefix("flowise_gateway_") + suffix
            real[name] = (type(metric).__name__.lower(), set(names))
    real["build_info"] = ("gauge", {"version"})
    assert documented == real


def test_the_exposition_has_no_metric_that_is_not_documented():
    text = Metrics().exposition("")[0].decode()
    exposed = re.findall(r"^# TYPE (?:flowise_gateway_)?(\w+)", text, re.MULTILINE)
    documented = {words(row[0])[0] for row in rows("Metrics")}
    assert {name for name in exposed if not name.endswith("_created")} == documented


def test_every_metric_of_a_process_is_documented_and_no_other():
    documented = {(words(row[0])[0], row[1]) for row in tables("Metrics")[1]}
    real = {
        (value.name + ("_total" if value.kind == "counter" else ""), value.kind)
        for value in values_of(os.getpid())
    }
    assert documented == real


def gateway_errors():
    found, left = set(), [errors.GatewayError]
    while left:
        left += (below := left.pop().__subclasses__())
        found |= {(error.code, error.status) for error in below}
    return found


def test_every_error_is_documented_with_its_status_and_no_other():
    documented = {(words(row[0])[0], int(row[1])) for row in rows("Errors")}
    assert documented == gateway_errors()


def test_every_error_says_its_title_and_has_a_code_of_its_own():
    every = errors.GatewayError.__subclasses__()
    assert len({error.code for error in every}) == len(every)
    assert all(error.title for error in every)


def test_every_outcome_is_documented_and_no_other():
    assert {words(row[0])[0] for row in rows("Outcomes")} == {outcome.value for outcome in Outcome}


def test_every_log_field_is_documented_and_no_other():
    exchange = Exchange(request=None, request_id="r", client="c", timings=Timings(received=0.0), error="e")
    exchange.cors, exchange.has_ignored_credential = "cors_not_configured", True
    exchange.tts_seconds, exchange.client_certificate = 1.0, "commonName=c"
    exchange.uncounted, exchange.usage = "trace_too_large", Usage(1, 1, "reported", implausible_input=1)
    exchange.prediction = read_json(b'{"question":"q","analytics":"x"}', body_rules())
    assert exchange.prediction.dropped
    real = {"time", "level", "event", "worker", "sample", *request_line(exchange, with_prompt=True)}
    documented = [word for row in rows("The log") for word in words(row[0])]
    assert len(documented) == len(set(documented))
    assert set(documented) == real == REQUEST_FIELDS


SPREAD = {
    "chatflow",
    "file",
    "line",
    "key",
    "reason",
    "count",
    "task",
    "where",
    "exception",
}  # as ** of a mapping


def test_every_field_of_other_lines_is_documented_and_no_other():
    written = set()
    for path in (ROOT / "gateway").rglob("*.py"):
        if "simulator" not in path.parts:
            written |= {
                keyword.arg
                for call in ast.walk(ast.parse(path.read_text()))
                if isinstance(call, ast.Call) and writes_a_line(call)
                for keyword in call.keywords
                if keyword.arg not in (None, "exc_info")
            }
    listed = re.findall(
        r"`(\w+)`", section("The log in a file").partition("only other lines have:")[2].partition("\n\n")[0]
    )
    assert sorted(listed) == sorted(OTHER_FIELDS) == sorted((written | SPREAD) - REQUEST_FIELDS)


def writes_a_line(call):
    """Whether it calls a method of a logger with an event."""
    is_event = bool(call.args) and isinstance(call.args[0], ast.Constant)
    return is_event and bool(re.search(r"logger\b|\blog\b|_log\b", ast.unparse(call.func)))


def test_every_event_of_the_log_is_documented_and_no_other():
    said = re.compile(r'(?:logger|log|\._log)(?:\.(?:debug|info|warning|error))?\(\s*"([a-z_]+)"')
    real = {"request", "library", "log_lines_lost"}
    for path in (ROOT / "gateway").rglob("*.py"):
        if "simulator" not in path.parts:
            real |= set(said.findall(path.read_text()))
    listed = section("The log").partition("other lines, by their `event`:")[2]
    assert set(words(listed)) | {"request"} == real


def test_every_kind_of_an_error_of_flowise_is_documented_and_no_other():
    listed = section("The log").partition("Kinds of errors of Flowise:")[2].partition("\n\n")[0]
    open_ended = {"model_400", "model_599", "status_400", "status_599"}
    assert set(words(listed)) - open_ended == {*error_texts.KINDS}


def test_every_path_is_documented_with_its_methods_and_endpoint_and_no_other():
    documented = {
        words(row[2])[0]: (tuple(words(row[0])), tuple(row[1].split(", "))) for row in rows("HTTP surface")
    }
    assert documented == {endpoint.name: (endpoint.paths, endpoint.methods) for endpoint in ENDPOINTS}


@pytest.fixture
def usage(capsys):
    def of(*arguments):
        with pytest.raises(SystemExit):
            main([*arguments, "--help"])
        return capsys.readouterr().out

    return of


def test_every_command_is_documented_with_its_options_and_no_other(usage):
    documented = {}
    for row in rows("Commands"):
        _, *said = words(row[0])[0].replace("[", "").replace("]", "").split()
        command = tuple(itertools.takewhile(lambda word: re.fullmatch("[a-z]+", word), said))
        documented[command] = {word for word in said if word.startswith("--")}
    real = set(commands(usage))
    assert set(documented) == real
    for command, options in documented.items():
        assert options == set(re.findall(r"--[a-z][a-z-]+", usage(*command))) - {"--help"}


def commands(usage, *above):
    """Every command that has none below it."""
    below = re.findall(r"^    (\w+)(?: |$)", usage(*above), re.MULTILINE)
    for name in below:
        yield from commands(usage, *above, name)
    if not below:
        yield above


def test_every_make_verb_is_documented_and_no_other():
    makefile = (ROOT / "Makefile").read_text()
    real = set(re.findall(r"^([a-z0-9]+):.*##", makefile, re.MULTILINE)) - {"help"}
    documented = {words(row[0])[0].removeprefix("make ") for row in rows("Working on it")}
    assert documented == real
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert set(phony.split()) == real | {"help"}
    named = {
        verb for text in DOCUMENTS.values() for verb in re.findall(r"\bmake ([a-z0-9]+)\b(?= *#|`|\n)", text)
    }
    assert named <= real


def test_every_dependency_has_its_reason():
    names = {re.split(r"[>=<\[]", dependency)[0] for dependency in PROJECT["dependencies"]}
    assert {words(row[0])[0] for row in rows("Dependencies")} == names
    extras = {
        re.split(r"[>=<\[]", name)[0] for names in PROJECT["optional-dependencies"].values() for name in names
    }
    assert extras <= set(words(section("Dependencies")))
    for table in tables("Dependencies")[1:]:
        assert {word for row in table for word in words(row[0])} <= extras


def test_the_layers_are_those_of_the_code_and_of_the_contract_in_their_order():
    modules = {path.stem for path in (ROOT / "gateway").glob("*.py")} - {"__init__", "__main__"}
    folders = {path.name for path in (ROOT / "gateway").iterdir() if (path / "__init__.py").exists()}
    documented = [[word.rstrip("/") for word in words(row[0])] for row in rows("Layers")]
    assert {word for layer in documented for word in layer} == modules | folders
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    contracted = [set(re.split(r" [:|] ", layer)) for layer in layers]
    assert [set(layer) for layer in documented] == [layer for layer in contracted if layer != {"__main__"}]


def test_every_contract_of_the_layers_is_explained():
    names = {contract["name"] for contract in PYPROJECT["tool"]["importlinter"]["contracts"]}
    assert {row[0] for row in rows("Layers", "CONTRIBUTING.md")} == names


def test_every_policy_stands_in_the_life_of_a_request():
    chart = section("Life of a request", "gateway/README.md")
    policies = {path.stem for path in (ROOT / "gateway" / "policies").glob("*.py")} - {"__init__"}
    drawn = set(re.findall(r"^ +├ (\w+)", chart, re.MULTILINE))
    assert drawn <= policies
    helpers = {policy for policy in policies if any(policy.startswith(f"{name}_") for name in drawn)}
    assert policies - helpers == drawn


def test_the_glossary_is_short():
    assert len(rows("Glossary")) <= 15


def test_the_first_page_is_one():
    assert len(DOCUMENTS["README.md"].splitlines()) <= 130


def test_every_test_folder_and_variable_is_documented():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"__pycache__"}
    mirrored = {path.name for path in (ROOT / "gateway").iterdir() if path.is_dir()}
    assert {words(row[0])[0].rstrip("/") for row in rows("Suites")} == folders - mirrored
    read = set(re.findall(r"^(\w+) \?= ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    read |= set(re.findall(r"\$\{([A-Z_]+):-", (ROOT / "tests" / "e2e" / "run").read_text()))
    for path in (ROOT / "tests").rglob("*.py"):
        read |= set(re.findall(r'os\.environ(?:\.get\(|\[)"([A-Z_]+)"', path.read_text()))
    documented = {word for row in rows("Environment variables") for word in words(row[0])}
    assert documented == read - {"PATH", "XDG_CACHE_HOME"}


def test_the_small_configuration_in_the_readme_is_one(tmp_path, capsys):
    (yaml,) = re.findall(r"```yaml\n(.*?)```", DOCUMENTS["README.md"], re.DOTALL)
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml)
    assert main(["check", "--config", str(path)]) == 0
    capsys.readouterr()


def test_configuration_keys_that_are_named_exist():
    files = ("gateway.full.yaml", "keys.example.yaml")
    full = "\n".join((ROOT / "config" / name).read_text() for name in files)
    text = "\n".join(text for name, text in DOCUMENTS.items() if name != "gateway/flowise/README.md")
    named = re.findall(r"`(server|admin|logs|limits|timeouts|metrics|defaults|cors)\.(\w+)", text)
    named += [("", key) for key in re.findall(r"`([a-z_]+): [^`]+`", text)]
    assert len(named) > 5
    for _, key in named:
        assert re.search(rf"^[#\s]*(- )?{key}:|[{{,] *{key}:", full, re.MULTILINE), key


def test_the_changelog_begins_with_what_comes_next():
    headings = re.findall(r"^## (.*)$", DOCUMENTS["CHANGELOG.md"], re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert __version__ in DOCUMENTS["CHANGELOG.md"]


def test_no_document_is_left_with_a_line_that_is_too_long():
    for name, text in DOCUMENTS.items():
        prose = [line for line in text.splitlines() if not line.startswith("|")]
        assert not [line for line in prose if len(line) > 125], name
