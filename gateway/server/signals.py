"""What each signal does to a process that serves: every signal that can be caught is decided in this file.

Signals that would end a process by default do nothing here but write a log line, except for those that ask it to stop.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not loaded: `hold_reloads` is called before what takes time to load
    from gateway.telemetry.logs import Logger

RELOAD = ("SIGHUP",)
# SIGXCPU and SIGPWR announce a SIGKILL and the end of the machine.
DRAIN = ("SIGTERM", "SIGINT", "SIGXCPU", "SIGPWR")
STOP_NOW = ("SIGQUIT",)
# Without a log line: the call that caused one fails with an error, which is handled where it is made.
# Ignoring SIGTTOU lets a process in the background write to a terminal with `stty tostop`, which would suspend it.
IGNORED = ("SIGPIPE", "SIGXFSZ", "SIGTTIN", "SIGTTOU")
# As the system has it: nothing, or suspended until SIGCONT, or a fault after which no code of ours can go on.
DEFAULT = (
    *("SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH"),
    *("SIGTSTP", "SIGSTOP", "SIGKILL"),
    *("SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS", "SIGEMT"),
)


def hold_reloads() -> None:
    """Let SIGHUP wait until `handle_signals`: before, it would end the process, or be lost with what it announces."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _numbers(RELOAD))


def handle_signals(
    drain: Callable[[], None], stop_now: Callable[[], None], reload: Callable[[], None], logger: Logger
) -> None:
    """Install a handler for every signal on the running loop.

    Args:
        drain: called for each signal that asks the process to stop.
        stop_now: called for each that asks it not to wait for open streams.
        reload: called for each that asks it to read its configuration again.
        logger: of the lines for all others.
    """
    loop = asyncio.get_running_loop()
    for number in _numbers(IGNORED):
        signal.signal(number, signal.SIG_IGN)
    for number in _numbers(DRAIN):
        loop.add_signal_handler(number, drain)
    for number in _numbers(STOP_NOW):
        loop.add_signal_handler(number, stop_now)
    for number in _numbers(RELOAD):
        loop.add_signal_handler(number, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _numbers(RELOAD))
    for number in logged():
        loop.add_signal_handler(number, _log_ignored, number, logger)


def logged() -> set[int]:
    """The signals that do nothing but write a log line: all that are not listed above, the real-time ones too."""
    return set(map(int, signal.valid_signals())) - _numbers((*DRAIN, *STOP_NOW, *RELOAD, *IGNORED, *DEFAULT))


def _numbers(names: Iterable[str]) -> set[int]:
    """Those of the names that this system has."""
    return {int(signal.Signals[name]) for name in names if name in signal.Signals.__members__}


def _log_ignored(number: int, logger: Logger) -> None:
    names = {known.value: known.name for known in signal.Signals}
    logger.warning(
        "signal_ignored",
        signal=names.get(number, f"signal {number}"),
        message="This signal does nothing. SIGTERM drains and stops, SIGHUP reads the configuration again.",
    )
