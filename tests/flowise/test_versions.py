"""Versions of Flowise: their order, and what each lacks."""

from __future__ import annotations

import pytest

from gateway.flowise.versions import is_too_old, missing_in, parse_version


@pytest.mark.parametrize(
    ("text", "version"),
    [("3.1.4", (3, 1, 4)), ("v2.2.10-rc.1", (2, 2, 10)), ("", None), ("3.1", None), ("latest", None)],
)
def test_a_version_is_read(text, version):
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("version", "lacks", "too_old"),
    [
        ((1, 8, 4), 3, True),
        ((2, 1, 0), 3, False),
        ((3, 0, 13), 2, False),
        ((3, 1, 1), 1, False),
        ((3, 1, 2), 0, False),
        ((10, 0, 0), 0, False),
    ],
)
def test_an_older_version_lacks_more(version, lacks, too_old):
    assert (len(missing_in(version)), is_too_old(version)) == (lacks, too_old)
