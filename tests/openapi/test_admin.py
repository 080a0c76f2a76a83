"""The description of the admin port is valid, and has the paths that there are."""

from __future__ import annotations

import aiohttp
import openapi_spec_validator

from gateway import __version__
from gateway.openapi import admin_document
from gateway.server.page import FILES

DOCUMENT = admin_document(__version__)


def test_it_is_an_openapi_3_1_document():
    openapi_spec_validator.validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == __version__


async def test_it_has_the_paths_of_the_port_and_no_other_and_says_which_need_the_token(start):
    async with start("http://127.0.0.1:1", admin={"token": "a-token"}) as gateway:
        async with aiohttp.ClientSession() as session:
            bearer = {"Authorization": "Bearer a-token"}
            async with session.get(f"{gateway.admin}/openapi-admin.json", headers=bearer) as answer:
                assert await answer.json() == DOCUMENT
            async with session.get(f"{gateway.admin}/none", headers=bearer) as answer:
                named = (
                    (await answer.text()).removeprefix("The paths here are ").removesuffix(".\n").split(", ")
                )
            assert {path for path in DOCUMENT["paths"] if not path.startswith("/page/")} == set(named)
            for path, item in DOCUMENT["paths"].items():
                real = path.replace("{file}", "main.js").replace("{run}", ":1")
                for method, operation in item.items():
                    if method == "parameters":
                        continue
                    async with session.request(method, gateway.admin + real) as answer:
                        needs_token = {"bearer": []} in operation["security"]
                        assert (answer.status == 401) is needs_token, path
                        assert str(answer.status) in operation["responses"]
    assert "/page/main.js" in FILES
