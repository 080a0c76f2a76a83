"""What systemd, or another service manager with its protocol, passes to a process and wants to hear from it.

It passes listening sockets (`LISTEN_FDS`), and gets messages over a datagram socket (`NOTIFY_SOCKET`): that the gateway
is ready, that it stops, that its loop runs. With several workers the parent does both. See sd_listen_fds(3) and
sd_notify(3); without the variables nothing is passed and nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from itertools import repeat
from time import monotonic_ns

from msgspec import Struct

from gateway.command_errors import CannotRunError
from gateway.config import Address
from gateway.telemetry.logs import Logger

VARIABLES = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
)
PUBLIC, ADMIN = "public", "admin"  # FileDescriptorName= of a socket unit
_FIRST = 3  # descriptor that is passed
_TCP = (socket.AF_INET, socket.AF_INET6)
_FAMILIES = (*_TCP, socket.AF_UNIX)  # of the public port


class PassedSockets(Struct, frozen=True):
    """Listening sockets of the two ports; empty: none were passed."""

    public: tuple[socket.socket, ...] = ()
    admin: tuple[socket.socket, ...] = ()


class Systemd:
    """The service manager that started this process, if there is one: systemd, or one with the same protocol."""

    def __init__(self, passed: PassedSockets, notify_socket: str = "", watchdog: float | None = None) -> None:
        """`watchdog`: seconds within which it wants a sign of life; None: it does not."""
        self.passed = passed
        self._address = f"\0{notify_socket[1:]}" if notify_socket.startswith("@") else notify_socket
        self._every = None if watchdog is None else watchdog / 2
        self._next_at = 0.0
        self._unsent: deque[bytes] = deque()
        self._logger: Logger | None = None

    @classmethod
    def none(cls) -> Systemd:
        return cls(PassedSockets())

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Systemd:
        """The one that these variables are of. Those that were meant for another process do not count.

        Raises:
            CannotRunError: what it passes cannot be used.
        """
        own = str(os.getpid())
        watchdog = environ.get("WATCHDOG_USEC", "")
        is_watched = watchdog.isdecimal() and environ.get("WATCHDOG_PID", own) == own
        return cls(
            passed_sockets(environ) if environ.get("LISTEN_PID") == own else PassedSockets(),
            environ.get("NOTIFY_SOCKET", ""),
            int(watchdog) / 1e6 if is_watched else None,
        )

    def log_to(self, logger: Logger) -> None:
        """Where it is logged that a message cannot be sent."""
        self._logger = logger

    def ready(self, public: str, admin: Address) -> None:
        """`public`: the addresses of the public port."""
        self.send("READY=1", f"STATUS=Serving on {public}; the admin port is {admin}.")

    def reloading(self) -> None:
        """SIGHUP came; the manager waits for `reloaded`."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")

    def reloaded(self, status: str) -> None:
        """`status`: how the reload ended."""
        self.send("READY=1", f"STATUS={status}")

    def stopping(self, seconds: float) -> None:
        """`seconds`: the longest time until the last stream is ended."""
        self.send("STOPPING=1", f"STATUS=Draining: open streams may finish within {seconds:g} s.")

    def send(self, *assignments: str) -> None:
        """Send these in one message."""
        if self._address:
            self._unsent.append("\n".join(assignments).encode())
            self._flush()

    def tick(self, now: float) -> None:
        """For the coarse timer: a sign of life, which is missing if the loop stands still."""
        if self._every is not None and now >= self._next_at:
            self._next_at = now + self._every
            self.send("WATCHDOG=1")
        elif self._unsent:
            self._flush()

    def _flush(self) -> None:
        """Send what waits, in order; what a busy manager does not take is sent at the next tick."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
            while self._unsent:
                try:
                    channel.sendto(self._unsent[0], self._address)
                except BlockingIOError:
                    return
                except OSError as error:
                    self._lost(error)
                    return
                self._unsent.popleft()

    def _lost(self, error: OSError) -> None:
        """Nothing is sent any more."""
        self._address, self._every = "", None
        self._unsent.clear()
        if self._logger is not None:
            message = "the service manager gets no messages: NOTIFY_SOCKET must be a socket that this process may use"
            self._logger.warning("notify_failed", reason=str(error.strerror or error), message=message)


def without(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for other processes: what the service manager passes is meant for this one alone."""
    return {name: value for name, value in environ.items() if name not in VARIABLES}


def passed_sockets(environ: Mapping[str, str]) -> PassedSockets:
    """The sockets of `LISTEN_FDS`, by their names in `LISTEN_FDNAMES`; without names they are of the public port.

    Raises:
        CannotRunError: a name is unknown, or one is no listening socket of the kind that its port takes.
    """
    count = environ.get("LISTEN_FDS", "")
    if not count.isdecimal():
        return PassedSockets()
    numbers = range(_FIRST, _FIRST + int(count))
    given = environ.get("LISTEN_FDNAMES", "")
    names: Iterable[str] = given.split(":") if given else repeat(PUBLIC)
    found: dict[str, list[socket.socket]] = {PUBLIC: [], ADMIN: []}
    for number, name in zip(numbers, names, strict=False):
        if name not in found:
            raise CannotRunError(
                f'A passed socket has the name "{name}". Write FileDescriptorName=public or'
                " FileDescriptorName=admin into the socket unit."
            )
        families = _FAMILIES if name == PUBLIC else _TCP
        found[name].append(_listening(number, name, families))
    return PassedSockets(tuple(found[PUBLIC]), tuple(found[ADMIN]))


def _listening(number: int, name: str, families: Collection[int]) -> socket.socket:
    try:
        os.set_inheritable(number, False)
        passed = socket.socket(fileno=number)
        is_listening = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        is_listening = 0
    if not is_listening or passed.family not in families:
        kinds, places = ("TCP or Unix", "HOST:PORT, or a path,") if name == PUBLIC else ("TCP", "HOST:PORT")
        raise CannotRunError(
            f"Descriptor {number}, which is passed for the {name} port, is no listening {kinds} socket."
            f" Write ListenStream={places} into the socket unit."
        )
    passed.setblocking(False)
    return passed
