from __future__ import annotations

from itertools import chain, pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.frames import END, StampReader, token_chunk

_BODY = b"".join(token_chunk(number, 10**15 + number) for number in range(5)) + END
_STAMPS = [(number, 10**15 + number) for number in range(5)]


@given(st.lists(st.integers(0, len(_BODY)), max_size=12))
def test_every_stamp_is_read_once_however_the_body_is_cut(cuts):
    edges = [0, *sorted(cuts), len(_BODY)]
    reader = StampReader()
    read = [reader.feed(_BODY[begin:end]) for begin, end in pairwise(edges)]
    assert list(chain(*read)) == _STAMPS


def test_every_stamp_is_read_once_byte_by_byte():
    reader = StampReader()
    assert [stamp for byte in _BODY for stamp in reader.feed(bytes([byte]))] == _STAMPS


def test_token_chunks_have_one_length_and_a_correct_frame():
    first, last = token_chunk(0, 0), token_chunk(99_999_999, 9 * 10**18)
    size, _, rest = last.partition(b"\r\n")
    assert len(first) == len(last)
    assert int(size, 16) == len(rest) - 2
    assert rest.endswith(b"\n\n\r\n")
