"""What a caller's traceparent means, which requests are sampled, and what Flowise gets."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from gateway.http.trace_context import LONGEST_STATE, PARENT, TraceSampling, begun

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BITS = int("1" * 32 + "2" * 16 + "3" * 16, 16)
ALL, NONE = (
    TraceSampling.of(1, continues=True, propagates=True),
    TraceSampling.of(0, continues=True, propagates=True),
)


def trace(parent="", states=(), sampling=ALL):
    return begun(sampling, PARENT.fullmatch(parent), states, BITS)


@pytest.mark.parametrize(
    ("flags", "is_sampled"), [("00", False), ("01", True), ("03", True), ("02", False), ("ff", True)]
)
@pytest.mark.parametrize("sampling", [ALL, NONE])
def test_a_valid_parent_is_continued_and_decides(flags, is_sampled, sampling):
    found = trace(f"00-{TRACE}-{SPAN}-{flags}", ["a=1", "b=2"], sampling)
    assert (found.trace_id, found.parent_id, found.is_sampled) == (TRACE, SPAN, is_sampled)
    assert (found.span_id, found.child_id) == ("2" * 16, "3" * 16)
    sent = "01" if is_sampled else "00"
    assert found.fields() == {"traceparent": f"00-{TRACE}-{'3' * 16}-{sent}", "tracestate": "a=1,b=2"}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01 ",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE}-{SPAN}-01\n",
        "<script>",
        "0" * 16000,
    ],
)
def test_with_any_other_parent_a_trace_begins(parent):
    found = trace(parent, ["a=1"])
    assert (found.trace_id, found.parent_id, found.state, found.linked) == ("1" * 32, "", "", None)


@pytest.mark.parametrize("parent", [f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-the-future-brings"])
def test_a_later_version_may_have_more(parent):
    assert trace(parent).trace_id == TRACE


@pytest.mark.parametrize(
    ("states", "passed"),
    [
        (["a=1"], "a=1"),
        (["a=1", "b=2"], "a=1,b=2"),
        (["a=" + "x" * (LONGEST_STATE - 2)], "a=" + "x" * (LONGEST_STATE - 2)),
        (["a=" + "x" * (LONGEST_STATE - 1)], ""),
        (["x" * 10_000], ""),
        (["a=\x00"], ""),
        (["a=ü"], ""),
        ([], ""),
    ],
)
def test_a_state_passes_if_it_is_short_and_printable(states, passed):
    assert trace(f"00-{TRACE}-{SPAN}-01", states).state == passed


def test_a_caller_that_is_not_continued_is_linked():
    found = trace(f"00-{TRACE}-{SPAN}-01", ["a=1"], TraceSampling.of(0, continues=False, propagates=True))
    assert (found.trace_id, found.parent_id, found.linked) == ("1" * 32, "", (TRACE, SPAN))
    assert (found.is_sampled, found.state) == (False, "")


def test_nothing_goes_to_flowise_where_that_is_switched_off():
    for parent in ("", f"00-{TRACE}-{SPAN}-01"):
        sampling = TraceSampling.of(1, continues=True, propagates=False)
        assert trace(parent, ["a=1"], sampling).fields() == {}


@given(st.integers(min_value=1, max_value=2**256 - 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.999, 1.0]))
@example((2**64 - 1) << 192, 0.5)
@example((2**64 - 1) << 128, 0.5)
def test_the_ratio_keeps_the_traces_that_every_sdk_keeps(bits, ratio):
    found = begun(TraceSampling.of(ratio, continues=True, propagates=True), None, (), bits)
    kept = TraceIdRatioBased(ratio).should_sample(None, int(found.trace_id, 16), "").decision.is_sampled()
    assert found.is_sampled is kept
