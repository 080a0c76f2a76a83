"""`python -m tests.harness.short_leases …`: the gateway's command with short leases, so that a test can outlast one."""

from __future__ import annotations

import sys

from gateway.admission import limiter

LEASE = 2.0  # seconds

if __name__ == "__main__":
    limiter.LEASE = LEASE
    from gateway.cli import main  # imports the modules that read it

    sys.exit(main())
