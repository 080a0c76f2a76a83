from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol

from gateway.errors import BadRequest, TooLarge
from gateway.policies.body_form import FormLimits, PartStream, form_reader

LIMITS = FormLimits(max_body=10_000, max_field=1000, max_parts=4)


def parts_of(body, limits=LIMITS):
    loop = asyncio.get_running_loop()
    stream = aiohttp.StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    stream.feed_data(body)
    stream.feed_eof()
    return PartStream(form_reader("multipart/form-data; boundary=b", stream), limits)


def part(name, text="x", more="", head='name="{}"'):
    return f"--b\r\nContent-Disposition: form-data; {head.format(name)}{more}\r\n\r\n{text}\r\n"


def form(*parts):
    return ("".join(parts) + "--b--\r\n").encode()


async def read_all(parts):
    found = []
    while (one := await parts.next()) is not None:
        if one.is_file:
            found.append((one.name, one.file_name, b"".join([piece async for piece in parts.pieces(one)])))
        else:
            found.append((one.name, await parts.text(one)))
    return found


async def test_fields_and_files_come_in_their_order():
    body = form(part("a", "é\r\nb"), part("files", "\0\r\n--c", '; filename="x"'), part("c", ""))
    assert await read_all(parts_of(body)) == [("a", "é\r\nb"), ("files", "x", b"\0\r\n--c"), ("c", "")]


async def test_a_part_without_a_file_name_is_a_field_whatever_its_type():
    body = form(
        part("a", "x", "\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: 8bit")
    )
    assert await read_all(parts_of(body)) == [("a", "x")]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not the multipart form"),
        (b"hello", "not the multipart form"),
        (form(part("a"))[:-8], "not the multipart form"),
        (form(part("a")).replace(b"--b--", b"--bX"), "not the multipart form"),
        (b"--b\r\n\r\nx\r\n--b--\r\n", "needs the header"),
        (b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n", "not the multipart form"),
        (b"--b\r\nX: " + b"y" * 10_000 + b"\r\n\r\nx\r\n--b--\r\n", "not the multipart form"),
        (
            b"--b\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(200)) + b"\r\nx\r\n--b--\r\n",
            "not the multipart form",
        ),
        (form(part("a", head="x={}")), "has no name"),
        (form(part("a[b]")), "has brackets"),
        (form(part("_charset_", "latin-1")), "must be UTF-8\\. Leave the field _charset_ out"),
        (form(part("a", head='name="{}"; name="b"')), "parameter twice"),
        (form(part("a"), part("a")), "the field a twice"),
        (form(part("a", more="\r\nContent-Transfer-Encoding: base64")), "is encoded"),
        (form(part("a", more="\r\nContent-Encoding: gzip")), "is encoded"),
        (form(part("a", more="\r\nContent-Type: multipart/mixed; boundary=c")), "multipart itself"),
        (
            form(part("files", more='; filename="../x"')),
            "The file name in the part files must be a bare file name",
        ),
        (form(part("a")).replace(b"\r\nx\r\n", b"\r\n\xff\r\n"), "a must be UTF-8"),
    ],
)
async def test_a_broken_or_forbidden_part_is_refused(body, message):
    with pytest.raises(BadRequest, match=message):
        await read_all(parts_of(body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (form(part("a", "x" * 1001)), "a has more than 1000 bytes"),
        (form(*[part(f"a{n}") for n in range(5)]), "more than 4 parts"),
        (form(part("files", "x" * 10_000, '; filename="x"')), "more than 10000 bytes"),
        (
            form(*[part("files", "x", f'; filename="x"\r\nX: {"y" * 4000}') for n in range(3)]),
            "more than 10000 bytes",
        ),
    ],
)
async def test_every_bound_is_kept(body, message):
    with pytest.raises(TooLarge, match=message):
        await read_all(parts_of(body))


async def test_repr_states_parts_and_bytes():
    parts = parts_of(form(part("a", "xyz")))
    await read_all(parts)
    assert repr(parts) == "<PartStream 1 parts, 45 bytes>"


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=" + "b" * 71,
        "multipart/mixed; boundary=b",
        "text/plain",
        "",
    ],
)
async def test_a_content_type_without_a_usable_boundary_is_refused(kind):
    with pytest.raises(BadRequest, match="multipart"):
        form_reader(kind, aiohttp.StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16))
