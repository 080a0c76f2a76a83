from __future__ import annotations

import pytest

from gateway.config.addresses import Address
from gateway.config.listeners import UnixAddress, format_mode, meet, parse_listener, parse_mode


@pytest.mark.parametrize(
    "text", ["127.0.0.1:80", "[::]:80", "localhost:1", "unix:/run/a.sock", "unix:/a b/ü"]
)
def test_what_is_read_is_written_the_same(text):
    assert str(parse_listener(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unix:", "is not the absolute path"),
        ("unix:a", "is not the absolute path"),
        ("unix:@abstract", "is not the absolute path"),
        ("unix://run/a", "is not the absolute path"),
        ("unix:/run/", "has no name of a file"),
        ("unix:/run/..", "has no name of a file"),
        ("unix:/a\nb", "has no name of a file"),
        (f"unix:/{'ü' * 54}", "is too long for a socket"),
        ("/run/a.sock", "is not an address with a port"),
        (
            "[::ffff:127.0.0.1]:80",
            "is an IPv4 address in the form of IPv6, which takes no connection: write 127.0.0.1:80",
        ),
        ("[::ffff:0:0]:80", "write 0.0.0.0:80"),
    ],
)
def test_another_text_is_refused_with_what_would_be_right(text, message):
    with pytest.raises(ValueError, match=r"^(is|has) ") as refused:
        parse_listener(text)
    assert message in str(refused.value)


def test_the_longest_path_is_that_of_the_system():
    assert parse_listener(f"unix:/{'x' * 106}") == UnixAddress(f"/{'x' * 106}")


def test_only_what_is_of_one_kind_can_meet():
    assert meet(UnixAddress("/a"), UnixAddress("/a"))
    assert not meet(UnixAddress("/a"), UnixAddress("/b"))
    assert not meet(UnixAddress("/a"), Address("0.0.0.0", 1))
    assert meet(Address("127.0.0.1", 1), Address("0.0.0.0", 1))


@pytest.mark.parametrize(("text", "mode"), [("0660", 0o660), ("666", 0o666), ("0222", 0o222)])
def test_a_mode_is_octal(text, mode):
    assert parse_mode(text) == mode
    assert parse_mode(format_mode(mode)) == mode


@pytest.mark.parametrize("text", ["0o660", "888", "66", "06600", "rw-rw----", "0555", "0444"])
def test_a_mode_that_is_none_or_keeps_everybody_out_is_refused(text):
    with pytest.raises(ValueError, match=r"^(are not|let no)"):
        parse_mode(text)
