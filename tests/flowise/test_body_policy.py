from __future__ import annotations

import pytest

from gateway.flowise.body_policy import FIELDS, LEGACY, BodyPolicy


def test_the_legacy_fields_are_those_of_the_contract():
    assert sorted(LEGACY) == ["analytics", "evaluation", "evaluationRunId", "history", "stopNodeId"]


def test_all_that_holds_the_words_of_a_user_is_counted():
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
    assert BodyPolicy(1, 1, frozenset(allowed)).allows_var(name) is expected


def test_overrides_pass_by_name_and_analytics_by_either_list():
    policy = BodyPolicy(1, 1, frozenset({"sessionId"}), frozenset({"analytics", "history"}))
    assert [name for name in ("sessionId", "analytics", "history", "x") if policy.allows_override(name)] == [
        "sessionId",
        "analytics",
    ]
