"""`doctor` as a user types it: the table, its marks, and the exit status."""

from __future__ import annotations

import asyncio

import pytest
import yaml

from gateway.config import load
from gateway.doctor.checks import run_checks
from gateway.doctor.report import ok
from gateway.doctor.world import World
from gateway.simulator import CHAIN_ID, Simulator
from tests.harness.gateway import configuration
from tests.harness.processes import gateway, run

KEY = "the-workspace-key"


@pytest.fixture
async def written(tmp_path):
    async with Simulator(api_key=KEY) as flowise:
        path = tmp_path / "gateway.yaml"
        sections = {"route": {"chatflow": CHAIN_ID}, "upstreams": {"main": {"api_key": KEY}}}
        path.write_text(yaml.safe_dump(configuration(flowise.url, **sections)))
        yield path


@pytest.mark.parametrize(("encoding", "marks"), [("utf-8", "✓!"), ("ascii", "ok !")])
async def test_the_table_has_a_mark_and_a_sentence_for_each_check(written, encoding, marks):
    before = f"export PYTHONIOENCODING={encoding}"
    async with gateway("doctor", "--config", str(written), before=before) as child:
        assert await child.ended() == (0, "")
    heads = {line.split("  ")[0].strip() for line in child.output}
    assert heads == ({"✓", "!"} if encoding == "utf-8" else {"ok", "!"})
    (line,) = [line for line in child.output if " auth.secret " in line]
    assert line.split(maxsplit=3)[3].startswith("is not set, so conversations")


async def test_a_wrong_configuration_ends_with_2_and_its_mistakes(written):
    written.write_text(written.read_text().replace("anonymous", "nobody"))
    status, out, err = await run("doctor", "--config", str(written))
    assert (status, out) == (2, "")
    assert f"{written}:" in err


async def test_checks_run_at_the_same_time_and_one_that_hangs_is_reported(written):
    config = await asyncio.to_thread(load, written, {})
    world = await asyncio.to_thread(World, config, {}, lambda: 0.0)
    met = asyncio.Barrier(2)

    async def meets(_):
        await met.wait()
        return [ok("meets", "", "")]

    async def hangs(_):
        await asyncio.Event().wait()

    findings = await run_checks(world, {"a": meets, "hangs": hangs, "b": meets}, deadline=0.5)
    assert [(finding.level, finding.check) for finding in findings] == [
        *(("ok", "meets"), ("failed", "hangs"), ("ok", "meets"))
    ]
    assert findings[1].sentence.startswith("did not finish within 0.5 s.")


async def test_a_bug_in_a_check_is_not_hidden(written):
    config = await asyncio.to_thread(load, written, {})
    world = await asyncio.to_thread(World, config, {}, lambda: 0.0)

    async def breaks(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_checks(world, {"breaks": breaks}, deadline=0.5)
