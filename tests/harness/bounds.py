"""Time bounds of the tests: all derive from `TEST`, which grows on a slow or busy machine.

`TEST_SECONDS` in the environment: seconds for one test on an idle machine, 20 by default; CI sets it higher.
"""

from __future__ import annotations

import os
from time import perf_counter

LOOPS = 4_000_000
SECONDS_WHEN_IDLE = 0.1  # for these loops, on the 2 cores for which the default was chosen


def _slowness() -> float:
    """Wall time of a fixed amount of CPU work over its usual time; at least 1.

    Measured once in each process of the session. The workers of pytest-xdist measure at the same time, so the result
    includes the load of the session itself.
    """
    began = perf_counter()
    for _ in range(LOOPS):
        pass
    return max(1.0, (perf_counter() - began) / SECONDS_WHEN_IDLE)


SLOWNESS = _slowness()
TEST = float(os.environ.get("TEST_SECONDS", "20")) * SLOWNESS
SHARE = 0.9  # of a test's bound, for one step of it: the step fails first, and the test can clean up
STEP = SHARE * TEST
