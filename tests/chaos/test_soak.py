"""Everything hostile at once, again and again, beside a hundred well-behaved streams.

`CHAOS_SECONDS`: how long, 600 by default. The figures are printed (`-s`).
"""

from __future__ import annotations

import os

import pytest

from tests.harness import bounds
from tests.hostile.onslaught import Plan, onslaught
from tests.hostile.report import hold

SECONDS = float(os.environ.get("CHAOS_SECONDS", "600"))

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(SECONDS + 60 * bounds.TEST)]


async def test_no_well_behaved_stream_is_cut_late_or_miscounted(tmp_path):
    report = await onslaught(tmp_path, Plan(SECONDS))
    print(report.figures)
    hold(report)
