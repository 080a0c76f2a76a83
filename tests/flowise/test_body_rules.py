from __future__ import annotations

import pytest

from gateway.flowise.body_rules import FIELDS, LEGACY, allows_override, allows_var
from tests.harness.body_rules import body_rules


def test_the_legacy_fields_are_those_of_the_contract():
    assert sorted(LEGACY) == ["analytics", "evaluation", "evaluationRunId", "history", "stopNodeId"]


def test_every_field_with_text_of_the_user_is_counted():
    assert [name for name, rule in FIELDS.items() if rule.counted] == [
        "question",
        "form",
        "humanInput",
        "history",
    ]


@pytest.mark.parametrize(
    ("allowed", "name", "expected"),
    [
        ({"vars.*"}, "a", True),
        ({"vars.a"}, "a", True),
        ({"vars.a"}, "b", False),
        ({"a", "vars"}, "a", False),
        (set(), "*", False),
    ],
)
def test_vars_pass_by_name_or_all_at_once(allowed, name, expected):
    assert allows_var(body_rules(overrides=allowed), name) is expected


def test_overrides_pass_by_name_and_analytics_by_either_list():
    rules = body_rules(legacy=("analytics", "history"))
    assert [name for name in ("sessionId", "analytics", "history", "x") if allows_override(rules, name)] == [
        "sessionId",
        "analytics",
    ]
