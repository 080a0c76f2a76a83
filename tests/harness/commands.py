"""A command in the process of the tests, for what does not depend on the process itself: a tenth of its time."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal

from gateway.cli import main


def typed(*arguments: str) -> tuple[int, str, str]:
    """Exit status, output without the last line break, errors. Of `serve`, what ends before it serves."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # `serve` adds SIGHUP
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return status, out.getvalue().removesuffix("\n"), err.getvalue()


async def typed_aside(*arguments: str) -> tuple[int, str, str]:
    """The same from a test with a loop, in a thread."""
    return await asyncio.to_thread(typed, *arguments)
