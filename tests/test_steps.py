"""The steps between which a thread can give way: work on long texts has them."""

from __future__ import annotations

import pytest

from gateway.flowise.checks import holds_storage_reference
from gateway.flowise.json_text import STEP, read_text, string_parts
from gateway.steps import call_between_steps

LONG = b'"' + 20 * STEP * "é".encode() + b'"'


@pytest.mark.parametrize(
    ("work", "least"),
    [
        (lambda: read_text(b"[" + LONG + b"]", "it"), 40),
        (lambda: read_text(b'["' + b"a" * (20 * STEP) + b'"]', "it"), 4),
        (lambda: sum(map(len, string_parts(LONG, 0, len(LONG)))), 4),
        (lambda: holds_storage_reference(LONG), 39),
    ],
    ids=["UTF-8", "structure", "text", "references"],
)
def test_the_work_on_a_long_text_has_steps(work, least):
    steps = []
    call_between_steps(lambda: steps.append(1))
    try:
        work()
    finally:
        call_between_steps(lambda: None)
    assert len(steps) >= least
