from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.flowise.multipart import closing, content_type, field_part, file_head, read_disposition


@pytest.mark.parametrize(
    ("header", "name", "file_name"),
    [
        ('form-data; name="question"', "question", None),
        ("FORM-DATA;name=question", "question", None),
        ('form-data; name="files"; filename="a b.txt"', "files", "a b.txt"),
        ('form-data; filename="é;x=\\"1\\".txt" ; NAME="files"', "files", 'é;x="1".txt'),
        ('form-data; name="files"; filename=""', "files", ""),
        ('form-data; name="files"; filename="C:\\dir\\a.txt"', "files", "C:\\dir\\a.txt"),
        ('form-data; name="files"; filename="e.txt"; filename*=UTF-8\'\'%C3%A9%20x.txt', "files", "é x.txt"),
    ],
)
def test_name_and_file_name_are_read(header, name, file_name):
    assert read_disposition(header) == (name, file_name)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "needs the header"),
        ("", "needs the header"),
        ('attachment; name="a"', "needs the header"),
        ("form-data", "no name"),
        ('form-data; name="a\udcff"', "not UTF-8"),
        ('form-data; name="a"; filename="\udcff"', "not UTF-8"),
        ('form-data; filename="a"', "no name"),
        ('form-data; name="a"; name="b"', "parameter twice"),
        ('form-data; name="a"; Name="b"', "parameter twice"),
        ('form-data; name="a', "malformed"),
        ('form-data; name="a" x', "malformed"),
        ('form-data; name="a\\"', "malformed"),
        ("form-data; name=\"a\"; filename*=latin-1''x", "filename"),
        ("form-data; name=\"a\"; filename*=UTF-8''%ff", "filename"),
        ("form-data; name=\"a\"; filename*=UTF-8''%f", "filename"),
    ],
)
def test_any_other_header_is_refused(header, message):
    with pytest.raises(BadRequest, match=message):
        read_disposition(header)


def test_written_parts_look_like_this():
    assert content_type("b") == "multipart/form-data; boundary=b"
    assert (
        field_part("b", "question", "é\r\n")
        == '--b\r\nContent-Disposition: form-data; name="question"\r\n\r\né\r\n\r\n'.encode()
    )
    head = '--b\r\nContent-Disposition: form-data; name="files"; filename="q%22 é.txt"\r\n'
    head += "Content-Type: text/plain\r\n\r\n"
    assert file_head("b", "files", 'q" é.txt', "text/plain") == head.encode()
    assert closing("b") == b"--b--\r\n"


@pytest.mark.parametrize("media_type", [None, "", "text", "a/b\r\nX: y", "a/b; \x01", "é/x", "a/b, c/d"])
def test_a_media_type_that_is_none_becomes_octet_stream(media_type):
    assert b"Content-Type: application/octet-stream\r\n\r\n" in file_head("b", "files", "a", media_type)


@given(st.text(), st.text())
def test_no_name_breaks_out_of_its_header(name, text):
    name = name.encode("utf-8", "ignore").decode()
    head, _, body = field_part("b", name, text).partition(b"\r\n\r\n")
    assert head.count(b"\r") == head.count(b"\n") == 1
    assert head.count(b'"') == 2
    assert body == text.encode() + b"\r\n"


@given(st.text("form-data; name=\"\\*'%=filename\r\n", max_size=80))
def test_garbage_is_read_or_refused(text):
    for header in (text, "form-data; " + text):
        with suppress(BadRequest):
            read_disposition(header)


def test_the_worst_header_takes_no_time_that_grows_with_its_square():
    for header in (
        'form-data; name="' + '\\"' * 200_000,
        "form-data" + "; a=b" * 1,
        "form-data;" + " " * 200_000 + "x",
    ):
        with pytest.raises(BadRequest):
            read_disposition(header)
