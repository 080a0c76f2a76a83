"""Chatflows are chosen by name, id or number; a wrong choice says what would be right."""

from __future__ import annotations

import pytest

from gateway.flowise.chatflows import Chatflow
from gateway.init.choice import by_name, by_number

A, B, C = (Chatflow(f"0000000{n}-0000-4000-8000-000000000000", name) for n, name in enumerate("ABC"))
TWIN = Chatflow("00000009-0000-4000-8000-000000000000", "C")
HOOK = Chatflow("00000008-0000-4000-8000-000000000000", "Hook", "agentflow", "webhook")


def test_names_and_ids_choose_in_their_order_and_once():
    assert by_name([A, B, C], ["B", A.id.upper(), "B"]) == [B, A]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("b", '--flow: there is no chatflow "b": did you mean B?'),
        ("C", f'--flow: "C" is the name of several chatflows: write the id, {C.id} or {TWIN.id}'),
        ("Hook", '--flow: "Hook" is started by a webhook and answers no predictions: leave it out'),
    ],
)
def test_a_wrong_name_is_answered(name, sentence):
    with pytest.raises(ValueError) as refused:
        by_name([A, B, C, TWIN, HOOK], [name])
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [("1", [A]), ("3,1", [A, C]), ("2-3", [B, C]), (" 1 - ", None), ("all", [A, B, C]), ("1 2-2", [A, B])],
)
def test_numbers_choose(answer, chosen):
    if chosen is None:
        with pytest.raises(ValueError, match="write numbers from 1 to 3"):
            by_number([A, B, C], answer)
    else:
        assert by_number([A, B, C], answer) == chosen


@pytest.mark.parametrize("answer", ["0", "4", "2-1", "1-9", "x", "", " , "])
def test_other_answers_say_what_would_be_right(answer):
    with pytest.raises(ValueError, match="write numbers"):
        by_number([A, B, C], answer)
