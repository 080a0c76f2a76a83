from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.placeholders import LARGEST_FILE, MOST_PROBLEMS, Environment, expand


@pytest.fixture
def environment(tmp_path):
    return Environment({"NAME": "value", "EMPTY": "", "NESTED": "${NAME}"}, tmp_path)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("${NAME}", "value"),
        ("a${NAME}b${NAME}", "avaluebvalue"),
        ("${NAME:-other}", "value"),
        ("${UNSET:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${UNSET:-}", ""),
        ("${EMPTY}", ""),
        ("${UNSET:-a:b\nc}", "a:b\nc"),
        ("${NESTED}", "${NAME}"),
        ("$${NAME}", "${NAME}"),
        ("$NAME $ {NAME} 5$", "$NAME $ {NAME} 5$"),
    ],
)
def test_placeholders_are_replaced_once(environment, text, expanded):
    assert expand(text, environment).text == expanded
    assert not expand(text, environment).problems


def test_every_unset_variable_is_a_problem(environment):
    problems = expand("${ONE}:${NAME}:${TWO}", environment).problems
    assert problems == (
        "environment variable ONE is not set: set it, or write ${ONE:-} if the value may be empty",
        "environment variable TWO is not set: set it, or write ${TWO:-} if the value may be empty",
    )


@pytest.mark.parametrize(
    "text", ["${", "${}", "${NAME", "${1A}", "${NA ME}", "${NAME-x}", "${A:-${B}}", "${NAME:x}"]
)
def test_what_only_looks_like_a_placeholder_is_a_problem(environment, text):
    problem, *_ = expand(text, environment).problems
    assert "write ${NAME}, ${NAME:-DEFAULT} or ${file:PATH}" in problem


def test_a_file_is_read_relative_to_the_folder_without_its_last_line_end(environment, tmp_path):
    (tmp_path / "secret").write_text("a\nb\r\n\n")
    assert expand("<${file:secret}>", environment).text == "<a\nb>"
    assert expand(f"${{file:{tmp_path / 'secret'}}}", environment).text == "a\nb"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing", None, "cannot be read (No such file or directory): name a readable file"),
        (".", None, "cannot be read (Is a directory)"),
        ("nul\0", None, "write a name without a NUL character"),
        ("large", b"x" * (LARGEST_FILE + 1), "is larger than 64KiB"),
        ("latin", b"caf\xe9", "is not UTF-8: save it as UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_a_value_is_a_problem(environment, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (problem,) = expand(f"${{file:{name}}}", environment).problems
    assert message in problem


@pytest.mark.parametrize(
    ("text", "is_absent_only"),
    [
        ("${UNSET} ${file:missing}", True),
        ("${UNSET} ${NA ME}", False),
        ("${file:.}", True),
        ("${file:nul\0}", False),
        ("${NAME}", True),
    ],
)
def test_a_value_that_only_this_machine_lacks_is_told_from_a_mistake(environment, text, is_absent_only):
    assert expand(text, environment).is_absent_only is is_absent_only


@given(st.text())
def test_any_text_is_expanded_or_has_problems(text):
    expanded = expand(text, Environment({}, None))
    assert expanded.problems or "${" not in text or "$${" in text or ":-" in text


def test_of_very_many_problems_the_first_ones_are_reported(environment):
    assert len(expand("${UNSET}" * 1000, environment).problems) == MOST_PROBLEMS
