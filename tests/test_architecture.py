"""The rules of the architecture that a machine can hold: purity, sizes, and what is allowed in one place only.

Which layer may import which is held by the import-linter contracts in `pyproject.toml`. The rules only tighten. To break
one, change the code, or explain in CONTRIBUTING.md why the rule was wrong.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE_LINES, FUNCTION_LINES = 400, 40

IMPURE_LIBRARIES = {
    *("aiohttp", "asyncio", "datetime", "logging", "os", "random", "secrets", "socket", "structlog", "time"),
    "uvloop",
}


@cache
def sources() -> tuple[Path, ...]:
    return tuple(sorted((ROOT / "gateway").rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


@cache
def name_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


@cache
def modules() -> frozenset[str]:
    return frozenset(name_of(source) for source in sources())


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports, `from package import module` resolved."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            below = {f"{node.module}.{alias.name}" for alias in node.names} & modules()
            found |= below or {str(node.module)}
    return frozenset(found)


def own(path: Path) -> set[str]:
    return {module for module in imports(path) if module.partition(".")[0] == "gateway"}


def of_gateway(*, simulator: bool = False) -> list[Path]:
    return [path for path in sources() if simulator or "simulator" not in path.parts]


each_source = pytest.mark.parametrize("path", sources(), ids=name_of)


@cache
def is_pure(path: Path) -> bool:
    return bool(re.search(r"\bpure\b", ast.get_docstring(tree(path)) or "")) and "simulator" not in path.parts


@pytest.mark.parametrize("path", [path for path in sources() if is_pure(path)], ids=name_of)
def test_a_pure_file_knows_no_clock_no_socket_and_nothing_impure_of_ours(path):
    pure = {name_of(other) for other in sources() if is_pure(other)} | {"gateway.errors"}
    beside = {
        name_of(other) for other in sources() if other.parent == path.parent and not waits(other)
    }  # plain functions of the same package
    assert own(path) <= pure | beside
    assert not {module.partition(".")[0] for module in imports(path)} & IMPURE_LIBRARIES
    assert not waits(path)


@cache
def waits(path: Path) -> bool:
    awaiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
    return any(isinstance(node, awaiting) for node in nodes(path))


@each_source
def test_a_file_is_short_and_has_a_summary(path):
    assert len(path.read_text().splitlines()) <= FILE_LINES
    docstring = ast.get_docstring(tree(path))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", "?", "`", ":", ","))


@each_source
def test_no_function_is_too_long(path):
    functions = (node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert not {name: length for name, length in lengths.items() if length > FUNCTION_LINES}


@each_source
def test_nothing_happens_on_import(path):
    declarations = (
        *(ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign),
        *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    )
    statements = [ast.unparse(node) for node in tree(path).body[1:] if not isinstance(node, declarations)]
    allowed = ("if __name__ == '__main__'", "if TYPE_CHECKING")
    assert not [statement for statement in statements if not statement.startswith(allowed)]
    assert not [node for node in nodes(path) if isinstance(node, ast.Global)]


@cache
def calls(path: Path) -> frozenset[str]:
    """The names of all functions that are called, without what they are called on."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Call):
            function = node.func
            found.add(function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", ""))
    return frozenset(found)


def files_where(test) -> set[str]:
    return {name_of(path) for path in of_gateway() if test(path)}


def test_background_tasks_begin_in_one_place():
    starters = {"create_task", "ensure_future", "run_coroutine_threadsafe", "TaskGroup"}
    assert files_where(lambda path: calls(path) & starters) == {"gateway.aio"}


def test_only_one_place_catches_everything():
    def catches_everything(path):
        return any(
            isinstance(node, ast.ExceptHandler)
            and (node.type is None or re.search(r"\b(Base)?Exception\b", ast.unparse(node.type)))
            for node in nodes(path)
        )

    assert files_where(catches_everything) == {"gateway.pipeline"}


def test_only_commands_print():
    assert files_where(lambda path: "print" in calls(path)) == {"gateway.cli", "gateway.__main__"}
    assert files_where(lambda path: re.search(r"sys\.std(out|err)\.write", path.read_text())) == set()


def test_only_the_streamability_probe_a_lock_without_timeout_and_what_gives_way_sleep():
    assert files_where(lambda path: "sleep" in calls(path)) <= {
        *("gateway.aio", "gateway.app", "gateway.server.listener", "gateway.telemetry.line_lock")
    }


def test_metric_names_are_in_one_file():
    assert files_where(lambda path: "flowise_gateway_" in path.read_text()) == {"gateway.telemetry.metrics"}
    assert files_where(lambda path: any(m.startswith("prometheus_client") for m in imports(path))) == {
        *("gateway.telemetry.metrics", "gateway.telemetry.multiprocess", "gateway.telemetry.values")
    }


def test_what_an_extra_brings_is_known_to_one_file():
    assert files_where(lambda path: any(m.startswith("opentelemetry") for m in imports(path))) == {
        "gateway.telemetry.otlp"
    }
    assert files_where(lambda path: "gateway.telemetry.otlp" in imports(path)) == {
        "gateway.telemetry.trace_export"
    }


def test_settings_are_read_in_one_place():
    assert files_where(lambda path: re.search(r"\bos\.(environ|getenv)\b", path.read_text())) == {
        *("gateway.cli", "gateway.__main__")
    }


def test_no_class_is_a_manager_helper_or_util():
    empty = re.compile(r"(Manager|Helper|Util|Utils)$")
    wrong = {
        f"{name_of(path)}.{node.name}"
        for path in of_gateway(simulator=True)
        for node in nodes(path)
        if isinstance(node, ast.ClassDef) and empty.search(node.name)
    }
    assert not wrong


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_no_note_is_left_for_later(word):
    assert not [name_of(path) for path in of_gateway(simulator=True) if word in path.read_text()]


def test_a_lint_exception_is_justified():
    exception = re.compile(
        r"# noqa(?!: [A-Z]+[0-9]+(?:, [A-Z]+[0-9]+)* - \w+)|# type: ignore(?!\[[a-z-]+\] +# \w+)"
    )
    paths = [*sources(), *(ROOT / "tests").rglob("*.py")]
    assert not [str(path) for path in paths if path != Path(__file__) and exception.search(path.read_text())]


@each_source
def test_every_source_file_has_its_tests(path):
    """A pure file has test files of its own name; for any other, its folder has tests."""
    if path.name in ("__init__.py", "__main__.py"):
        return
    folder = ROOT / "tests" / path.relative_to(ROOT / "gateway").parent
    if is_pure(path):
        assert [*folder.glob(f"test_{path.stem}.py"), *folder.glob(f"test_{path.stem}_*.py")]
    else:
        assert [*folder.glob("test_*.py")]


def test_no_test_sleeps():
    sleeping = re.compile(r"(?<!def )\bsleep\((?!0\))")
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if not {"bench", "e2e"} & set(path.parts)]
    assert not [str(path) for path in tests if path != Path(__file__) and sleeping.search(path.read_text())]


def test_time_limits_of_tests_derive_from_one_number():
    limit = re.compile(r"\bmark\.timeout\((?!.*\bbounds\.)|\b(?:communicate|subprocess\.run)\(.*\btimeout=\d")
    tests = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tests").rglob("conftest.py")]
    assert not [str(path) for path in tests if path != Path(__file__) and limit.search(path.read_text())]


def test_only_the_harness_reads_the_private_state_of_a_running_gateway():
    private = re.compile(r"\bprocess\.(gateway\.)?_\w")
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    assert not [str(path) for path in tests if private.search(path.read_text())]
