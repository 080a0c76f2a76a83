"""Two clocks are compared by seconds; an unknown one says nothing."""

from __future__ import annotations

import pytest

from gateway.doctor.clocks import compare, seconds_of


def test_a_date_field_is_read():
    assert seconds_of("Thu, 01 Jan 1970 00:01:00 GMT") == 60.0
    assert [seconds_of(text) for text in ("", "yesterday", "Thu, 99 Jan 1970 00:01:00 GMT")] == [None] * 3


@pytest.mark.parametrize(
    ("off", "level"), [(0.0, "ok"), (4.9, "ok"), (-6.0, "warning"), (30.0, "warning"), (31.0, "failed")]
)
def test_a_difference_is_judged(off, level):
    (finding,) = compare("main", 1000.0 + off, 1000.0)
    assert finding.level == level
    assert compare("main", 1000.0, None) == []
