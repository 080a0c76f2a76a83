"""The house rules that a machine can hold: who may import whom, how long things are, what is banned where.

They only ever tighten. Who breaks one changes the code, or says in CONTRIBUTING.md why the rule was wrong.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE_LINES, FUNCTION_LINES = 300, 40

# The arrows of the house, from the front door inwards. A file belongs to the longest name it begins with,
# and may import what its line names, and its own room.
PURE_FLOWISE = ("endpoints", "outcome", "prediction", "usage")
PURE_IDENTITY = (
    *("base64url", "conversation_ids", "derivation", "jwks_keys", "jwt_text", "key_format", "session_tokens"),
)
FACTS = ("gateway.config", "gateway.errors", "gateway.exchange")
LAW: dict[str, tuple[str, ...]] = {
    "gateway.__main__": ("gateway.cli",),
    "gateway.cli": (
        *("gateway", "gateway.config", "gateway.demo", "gateway.errors", "gateway.server.process"),
        *("gateway.telemetry", "gateway.server.supervisor"),
        *("gateway.keys_cli", "gateway.auth.keys_file", "gateway.auth.keys_edit"),
    ),
    "gateway.keys_cli": ("gateway.config", "gateway.identity"),
    "gateway.demo": ("gateway.config", "gateway.server.process", "gateway.simulator", "gateway.telemetry"),
    "gateway.server.worker": (
        *("gateway.config", "gateway.errors", "gateway.server.process", "gateway.aio", "gateway.telemetry"),
        "gateway.server.ipc",
    ),
    "gateway.workers": (
        *(
            "gateway.server.admin",
            "gateway.config",
            "gateway.errors",
            "gateway.identity",
            "gateway.server.sockets",
        ),
        *("gateway.aio", "gateway.telemetry", "gateway.aio"),
    ),
    "gateway.server.process": (
        *(
            "gateway.server.admin",
            "gateway.app",
            "gateway.config",
            "gateway.server.listener",
            "gateway.server.sockets",
        ),
        *("gateway.auth.keys_model", "gateway.telemetry"),
    ),
    "gateway.server.admin": (
        *("gateway.config", "gateway.server.admin", "gateway.server.listener", "gateway.server.sockets"),
        "gateway.telemetry",
    ),
    "gateway.server.sockets": ("gateway.config", "gateway.errors"),
    "gateway.server.listener": (*FACTS, "gateway.http.forwarded", "gateway.telemetry", "gateway.flowise"),
    "gateway.app": (
        *FACTS,
        *("gateway.policies", "gateway.handlers", "gateway.identity", "gateway.revocation"),
        *(
            "gateway.limiting",
            "gateway.upstream",
            "gateway.streaming",
            "gateway.flowise",
            "gateway.telemetry",
        ),
        *("gateway.aio", "gateway.aio", "gateway.pipeline"),
    ),
    "gateway.pipeline": (*FACTS, "gateway.pipeline", "gateway.telemetry"),
    "gateway.policies": (
        *FACTS,
        "gateway.identity",
        "gateway.limiting",
        "gateway.flowise",
        "gateway.telemetry",
    ),
    "gateway.handlers": (
        *FACTS,
        *(
            "gateway.identity",
            "gateway.limiting",
            "gateway.upstream",
            "gateway.streaming",
            "gateway.flowise",
            "gateway.telemetry",
        ),
        "gateway.aio",
    ),
    "gateway.upstream.flowise_api": (
        *FACTS,
        *("gateway.flowise", "gateway.telemetry", "gateway.upstream"),
    ),
    "gateway.flowise": ("gateway.errors", "gateway.http.sse"),
    "gateway.upstream": ("gateway.config", "gateway.errors", "gateway.aio", "gateway.streaming"),
    "gateway.streaming": ("gateway.flowise.events", "gateway.flowise.events"),
    "gateway.identity": ("gateway.config", "gateway.errors", "gateway.aio", "gateway.telemetry"),
    "gateway.limiting": ("gateway.config", "gateway.errors"),
    "gateway.telemetry": ("gateway", *FACTS, "gateway.flowise.outcome", "gateway.flowise.observer"),
    "gateway.exchange": (
        *("gateway.config", "gateway.errors", "gateway.auth.caller", "gateway.limiting"),
        *(f"gateway.flowise.{name}" for name in PURE_FLOWISE),
    ),
    "gateway.config": ("gateway.flowise.events",),
    "gateway.simulator": (),
    "gateway.revocation": (*FACTS, "gateway.relay.registry", "gateway.identity", "gateway.pipeline"),
    "gateway.aio": (),
    "gateway.aio": (),
    "gateway.aio": (),
    "gateway.errors": (),
    "gateway": (),
}

# Rooms and handlers do not import each other; what two of them need stands in a file of its own.
ROOMS = {
    f"gateway.policies.{name}"
    for name in ("context", "logs", "metrics", "cors", "routing", "auth", "body", "conversations", "limits")
}

# Files whose first sentence says (pure): their law is the strictest.
MUST_BE_PURE = {
    *(
        "gateway.http.sse",
        "gateway.flowise.event_filter",
        "gateway.admission.gcra",
        "gateway.admission.redis.pipeline",
    ),
    *(
        f"gateway.identity.{name}"
        for name in ("conversation_ids", "derivation", "key_format", "session_tokens")
    ),
    *(f"gateway.flowise.{name}" for name in ("events", "event_names", "outcome", "usage", "refusals")),
    *("gateway.http.forwarded", "gateway.upstream.headers", "gateway.relay.deadlines"),
    "gateway.server.worker_process",
}
IMPURE_LIBRARIES = {
    *("aiohttp", "asyncio", "datetime", "logging", "os", "random", "secrets", "socket", "structlog", "time"),
    "uvloop",
}

# Files without a test file of their own name: what is seen of them from outside is tested there. The longest
# name counts.
TESTED_IN: dict[str, str] = {
    "gateway.server.admin": "process/test_admin.py",
    "gateway.app": "relay/test_lifecycle.py",
    "gateway.cli": "process/test_commands.py",
    "gateway.config": "config/test_shipped_files.py",
    "gateway.demo": "process/test_demo.py",
    "gateway.errors": "test_documentation.py",
    "gateway.exchange": "relay/test_lifecycle.py",
    "gateway.upstream.flowise_api": "relay/test_lifecycle.py",
    "gateway.flowise.events": "flowise/test_events.py",
    "gateway.flowise.events": "flowise/test_events.py",
    "gateway.flowise.observer": "flowise/test_observer.py",
    "gateway.flowise.error_responses": "surface",
    "gateway.handlers": "relay",
    "gateway.server.admin": "process/test_admin.py",
    "gateway.auth.authenticator": "surface/test_credentials.py",
    "gateway.auth.caller": "surface/test_credentials.py",
    "gateway.auth.caller": "surface/test_credentials.py",
    "gateway.auth.service": "surface/test_credentials.py",
    "gateway.admission.quotas": "surface/test_limits.py",
    "gateway.keys_cli": "process/test_keys_command.py",
    "gateway.server.listener": "surface",
    "gateway.aio": "relay/test_lifecycle.py",
    "gateway.policies": "surface",
    "gateway.revocation": "relay/test_revocation.py",
    "gateway.server.process": "process/test_sigterm.py",
    "gateway.simulator": "simulator/test_matches_captures.py",
    "gateway.streaming": "relay",
    "gateway.telemetry.metrics": "process/test_admin.py",
    "gateway.aio": "relay/test_lifecycle.py",
    "gateway.upstream": "upstream",
    "gateway.workers": "process/test_workers.py",
    "gateway.pipeline": "relay/test_lifecycle.py",
}


@cache
def sources() -> tuple[Path, ...]:
    return tuple(sorted((ROOT / "gateway").rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, `from package import module` resolved."""
    modules = {name_of(source) for source in sources()}
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            below = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= below or {str(node.module)}
    return found


def is_in(module: str, place: str) -> bool:
    if place == "gateway":
        return module == place
    return module == place or module.startswith(place + ".")


def place_of(module: str) -> str:
    return max((place for place in LAW if place == "gateway" or is_in(module, place)), key=len)


def own(path: Path) -> set[str]:
    return {module for module in imports(path) if module.partition(".")[0] == "gateway"}


def of_gateway(*, simulator: bool = False) -> list[Path]:
    return [path for path in sources() if simulator or "simulator" not in path.parts]


each_source = pytest.mark.parametrize("path", sources(), ids=name_of)


@each_source
def test_imports_follow_the_arrows(path):
    place = place_of(name_of(path))
    allowed = (*LAW[place], *([] if place == "gateway" else [place]))
    wrong = {module for module in own(path) if not any(is_in(module, other) for other in allowed)}
    assert not wrong, f"{name_of(path)} belongs to {place}, which may not import these"


def test_the_law_names_what_exists():
    modules = {name_of(path) for path in sources()}
    named = {*LAW, *(other for line in LAW.values() for other in line), *ROOMS, *MUST_BE_PURE}
    assert named <= modules


def test_rooms_do_not_import_each_other():
    wrong = {
        name_of(path): others
        for path in sources()
        if name_of(path) in ROOMS
        if (others := own(path) & ROOMS - {name_of(path)})
    }
    assert not wrong


def is_pure(path: Path) -> bool:
    return bool(re.search(r"\bpure\b", ast.get_docstring(tree(path)) or "")) and "simulator" not in path.parts


def test_what_must_be_pure_says_so():
    assert {name_of(path) for path in sources() if is_pure(path)} >= MUST_BE_PURE


@pytest.mark.parametrize("path", [path for path in sources() if is_pure(path)], ids=name_of)
def test_a_pure_file_knows_no_clock_no_socket_and_nothing_impure_of_ours(path):
    pure = {name_of(other) for other in sources() if is_pure(other)} | {"gateway.errors"}
    beside = {
        name_of(other) for other in sources() if other.parent == path.parent and not waits(other)
    }  # plain functions of the same package
    assert own(path) <= pure | beside
    assert not {module.partition(".")[0] for module in imports(path)} & IMPURE_LIBRARIES
    assert not waits(path)


def waits(path: Path) -> bool:
    awaiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
    return any(isinstance(node, awaiting) for node in ast.walk(tree(path)))


@each_source
def test_a_file_is_short_enough_and_says_what_it_is_for(path):
    assert len(path.read_text().splitlines()) <= FILE_LINES
    docstring = ast.get_docstring(tree(path))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", "?", "`", ":", ","))


@each_source
def test_no_function_is_too_long(path):
    functions = (
        node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert not {name: length for name, length in lengths.items() if length > FUNCTION_LINES}


@each_source
def test_nothing_happens_on_import(path):
    quiet = (
        *(ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign),
        *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    )
    statements = [ast.unparse(node) for node in tree(path).body[1:] if not isinstance(node, quiet)]
    loud = [
        said for said in statements if not said.startswith(("if __name__ == '__main__'", "if TYPE_CHECKING"))
    ]
    assert not loud
    assert not [node for node in ast.walk(tree(path)) if isinstance(node, ast.Global)]


def calls(path: Path) -> set[str]:
    """The names of all functions that are called, without what they are called on."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            function = node.func
            found.add(function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", ""))
    return found


def where(test) -> set[str]:
    return {name_of(path) for path in of_gateway() if test(path)}


def test_background_tasks_begin_in_one_place():
    starters = {"create_task", "ensure_future", "run_coroutine_threadsafe", "TaskGroup"}
    assert where(lambda path: calls(path) & starters) == {"gateway.aio"}


def test_only_one_place_catches_everything():
    def catches_everything(path):
        return any(
            isinstance(node, ast.ExceptHandler)
            and (node.type is None or re.search(r"\b(Base)?Exception\b", ast.unparse(node.type)))
            for node in ast.walk(tree(path))
        )

    assert where(catches_everything) == {"gateway.pipeline"}


def test_only_commands_print():
    assert where(lambda path: "print" in calls(path)) == {"gateway.cli"}
    assert where(lambda path: "sys.stdout.write" in path.read_text()) == {"gateway.cli", "gateway.demo"}


def test_nobody_sleeps_but_the_one_that_asks_once_a_minute():
    assert where(lambda path: "sleep" in calls(path)) <= {"gateway.app"}


def test_metric_names_stand_in_one_file():
    assert where(lambda path: "flowise_gateway_" in path.read_text()) == {"gateway.telemetry.metrics"}
    assert where(lambda path: any(m.startswith("prometheus_client") for m in imports(path))) == {
        *("gateway.telemetry.metrics", "gateway.telemetry.multiprocess")
    }


def test_settings_are_read_in_one_place():
    assert where(lambda path: re.search(r"\bos\.(environ|getenv)\b", path.read_text())) == {"gateway.cli"}


def test_no_name_says_nothing():
    empty = re.compile(r"(Manager|Helper|Util|Utils)$")
    wrong = {
        f"{name_of(path)}.{node.name}"
        for path in of_gateway(simulator=True)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and empty.search(node.name)
    }
    assert not wrong


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_for_later(word):
    assert not [name_of(path) for path in of_gateway(simulator=True) if word in path.read_text()]


def test_a_lint_exception_is_justified():
    exception = re.compile(
        r"# noqa(?!: [A-Z]+[0-9]+(?:, [A-Z]+[0-9]+)* - \w+)|# type: ignore(?!\[[a-z-]+\] +# \w+)"
    )
    paths = [*sources(), *(ROOT / "tests").rglob("*.py")]
    assert not [str(path) for path in paths if path != Path(__file__) and exception.search(path.read_text())]


@each_source
def test_every_source_file_has_its_tests(path):
    if path.name in ("__init__.py", "__main__.py"):
        return
    module, tests = name_of(path), ROOT / "tests"
    own_file = tests / path.relative_to(ROOT / "gateway").parent / f"test_{path.stem}.py"
    named = max((name for name in TESTED_IN if is_in(module, name)), key=len, default=None)
    assert own_file.exists() or (named is not None and (tests / TESTED_IN[named]).exists())


def test_no_test_sleeps():
    sleeping = re.compile(r"(?<!def )\bsleep\((?!0\))")
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if not {"bench", "e2e"} & set(path.parts)]
    assert not [str(path) for path in tests if path != Path(__file__) and sleeping.search(path.read_text())]
