"""`flowise-gateway`, which `python -m gateway` is too.

`health` runs from here: `gateway.cli` takes ten times as long to load.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
from collections.abc import Sequence

READY, NOT_READY, WRONG = 0, 1, 2
_HELP = {"-h", "--help"}
# Of the garbage collector: it looks at what is new, and never at everything. What is loaded stays, and to go through it
# again and again took a tenth of the start. Without any look a process would keep 0.3 MB more.
_LOADING = (20_000, 2, 1000)


def main() -> int:
    """Run the command of `sys.argv`; returns the exit status."""
    given = sys.argv[1:]
    if given[:1] == ["health"] and not _HELP.intersection(given):
        return _health(given[1:])
    # for lists of aiohttp that no request uses: in C they need the library of C++, 0.9 MB
    os.environ.setdefault("FROZENLIST_NO_EXTENSIONS", "1")
    gc.set_threshold(*_LOADING)
    from gateway.cli import main as any_command  # noqa: PLC0415 - for other commands alone

    return any_command()


def _health(arguments: Sequence[str]) -> int:
    """As `gateway.cli.main` with the command `health`."""
    from gateway.config.problems import ConfigError  # noqa: PLC0415 - for this command alone
    from gateway.health import NotReadyError, add_health_options, health  # noqa: PLC0415 - as above
    from gateway.options import STDIN  # noqa: PLC0415 - as above
    from gateway.server.standard_streams import (  # noqa: PLC0415 - as above
        abandon_unwritable_streams,
        open_missing_streams,
    )

    closed = open_missing_streams()
    parser = argparse.ArgumentParser(prog="flowise-gateway health")
    add_health_options(parser)
    given = parser.parse_args(arguments)
    stream = sys.stdin.buffer if given.config is STDIN and "stdin" not in closed else None
    try:
        status, sentence, output = READY, health(given, os.environ, stream), sys.stdout
    except NotReadyError as error:
        status, sentence, output = NOT_READY, f"flowise-gateway: {error}", sys.stderr
    except ConfigError as error:
        status, sentence, output = WRONG, str(error), sys.stderr
    with contextlib.suppress(OSError):
        print(sentence, file=output)  # if it does not take it, the exit status says the same
    abandon_unwritable_streams()
    return status


if __name__ == "__main__":
    sys.exit(main())
