"""A sample passes from one process to another as it is, and its texts are cut."""

from __future__ import annotations

import msgspec

from gateway.page.sample import LONGEST_TEXT, CallerUse, LimitLeft, Line, Run, Sample, ServerState, cut


def test_a_sample_is_the_same_in_the_other_process():
    run = Run(
        "1.5", "id", "chat", "ann", "10.0.0.1", "agent", "flowise:3000", "streaming", 1.5, None, 3, True
    )
    limit = LimitLeft("at-once", "concurrent", 3, 2, None)
    sample = Sample(
        open_runs=1,
        is_store_up=False,
        last_line=7,
        runs=[run],
        callers=[CallerUse("chat", "ann", 1, 0, 2, 3, 1.5, [limit])],
        servers=[ServerState("main", "flowise:3000", "", True, "", 1)],
        lines=[Line(7, 1.5, {"route": None, "dropped": ["a"]})],
    )
    assert msgspec.json.decode(msgspec.json.encode(sample), type=Sample) == sample


def test_a_long_text_is_cut_and_says_so():
    assert cut("a" * LONGEST_TEXT) == "a" * LONGEST_TEXT
    assert cut("a" * (LONGEST_TEXT + 2)) == "a" * LONGEST_TEXT + " … (2 more characters)"
