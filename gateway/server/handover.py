"""The handover of listening sockets from a gateway to its successor on the same address (`server.handover`).

The sockets themselves are passed, over a Unix socket: a listening socket that closes resets the connections in its
queue, also if another process listens on the same port with SO_REUSEPORT. The successor asks when it is otherwise ready
to serve, accepts beside the old process, and says so; the old one then lets go of both ports and drains.

The Unix socket has an abstract name with the address of the public port, so it belongs to the same network namespace as
the port and needs no folder. Every process may connect to such a name, so both sides ask the kernel for the user of the
other, which must be the same. One message is one packet: a JSON object, with the sockets that it is about.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct, field

from gateway.command_errors import CannotRunError
from gateway.config import Address, Config, ListenAddress
from gateway.server.binding import close_all
from gateway.server.service_manager import Systemd
from gateway.telemetry.logs import Logger

WITHIN = 30.0  # seconds for the predecessor to pass its sockets; it may be busy with another successor
_PACKET, _MOST_SOCKETS = 1024, 64  # bytes and sockets of a message; of more the kernel would drop the rest
_CREDENTIALS = struct.Struct("3i")  # process, user, group
_LONGEST_NAME = 64  # characters; the name of a Unix socket has 107
_READY = b"ready"


class Passed(Struct):
    """Listening sockets that another process has passed, to be used in place of new ones.

    Attributes:
        public: groups of sockets, one for each worker of a predecessor.
        common: from which all processes accept: Unix sockets of a predecessor.
        admin: of the admin port.
        offers: the one on which successors ask; None if there is none.
        channel: to the predecessor; None if there is none.
        predecessor: its process id; None if there is none.
    """

    public: list[list[socket.socket]] = field(default_factory=list)
    common: list[socket.socket] = field(default_factory=list)
    admin: list[socket.socket] = field(default_factory=list)
    offers: socket.socket | None = None
    channel: socket.socket | None = None
    predecessor: int | None = None

    def confirm(self) -> None:
        """Tell the predecessor that this process serves. If it has died meanwhile, it does not matter."""
        if self.channel is not None:
            with contextlib.suppress(OSError):
                self.channel.send(_READY)
            self.channel.close()
            self.channel = None

    def close(self) -> None:
        for group in (*self.public, self.common, self.admin):
            close_all(group)
        close_all([one for one in (self.offers, self.channel) if one is not None])


async def take_over(addresses: Sequence[ListenAddress], admin: Address) -> Passed:
    """The sockets of the gateway that runs on one of these addresses; empty if there is none.

    Args:
        addresses: of the public port, as they are configured; a gateway is found by the first of its own.
        admin: of the admin port; sockets on another address are not taken.

    Raises:
        CannotRunError: it does not pass them, or belongs to another user.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        raise CannotRunError("server.handover needs Linux. Write `handover: false`.")
    for address in addresses:
        if isinstance(address, Address) and address.port == 0:
            continue
        passed = await asyncio.to_thread(_ask, address, admin)
        if passed.channel is not None:
            return passed
    return Passed()


def _ask(address: ListenAddress, admin: Address) -> Passed:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.settimeout(WITHIN)
    passed = Passed(channel=channel)
    try:
        channel.connect(_name(address))
        _check_user(channel, address)
        while not _receive(channel, passed, admin):
            pass
    except ConnectionError:  # nobody is there, or it has just died
        passed.close()
        return Passed()
    except OSError as error:
        passed.close()
        why = f"not within {WITHIN:g} s" if isinstance(error, TimeoutError) else error.strerror
        raise CannotRunError(
            f"The gateway on {address} does not pass its ports: {why}. Stop it, or try again."
        ) from None
    channel.settimeout(0)
    return passed


def _receive(channel: socket.socket, passed: Passed, admin: Address) -> bool:
    """Take one message; returns whether it was the last.

    Raises:
        ConnectionError: the predecessor has ended.
        TimeoutError: it sends nothing.
    """
    content, numbers, _, _ = socket.recv_fds(channel, _PACKET, _MOST_SOCKETS)
    if not content:
        raise ConnectionResetError
    for number in numbers:
        os.set_inheritable(number, False)
    sockets = [socket.socket(fileno=number) for number in numbers]
    for one in sockets:
        one.setblocking(False)
    message = json.loads(content)
    if message.get("use") == "public":
        passed.public.append(sockets)
    elif message.get("use") == "common":
        passed.common += sockets
    elif message.get("use") == "admin" and message.get("address") == str(admin):
        passed.admin += sockets
    elif message.get("use") == "offers":
        (passed.offers,) = sockets
    else:
        close_all(sockets)
    if message.get("use") != "end":
        return False
    passed.predecessor = message.get(
        "pid"
    )  # the kernel would name the first gateway that listened on this socket
    return True


async def passed_ports(config: Config, manager: Systemd) -> Passed:
    """The sockets that another process passes: the service manager, else with `server.handover` a predecessor.

    Raises:
        CannotRunError: as for `take_over`.
    """
    public, admin = list(manager.passed.public), list(manager.passed.admin)
    if public or admin:
        return Passed(common=public, admin=admin)
    if config.server.handover:
        return await take_over(config.server.listen, config.admin.listen)
    return Passed()


def may_hand_over(config: Config, manager: Systemd) -> bool:
    """Whether a successor may ask for the ports. Those of a service manager, it gets from there."""
    return config.server.handover and not (manager.passed.public or manager.passed.admin)


def shares_admin_port(config: Config, manager: Systemd) -> bool:
    """Whether a successor accepts on the same admin port, so that it must be let go with the public one."""
    return config.server.handover or bool(manager.passed.admin)


class Given(Struct, frozen=True):
    """What a gateway passes to its successor.

    Attributes:
        address: the first of the public port, as it is configured, with the bound port.
        groups: the sockets of the public port, as of `Passed.public`.
        admin_address: of the admin port, as it is configured.
        admin: its sockets.
        common: further sockets of the public port, as of `Passed.common`.
    """

    address: ListenAddress
    groups: Callable[[], Sequence[Sequence[socket.socket]]]
    admin_address: Address
    admin: Callable[[], Sequence[socket.socket]]
    common: Callable[[], Sequence[socket.socket]] = tuple


class Offer:
    """Passes the ports to a successor, from `open` to `close`."""

    def __init__(self, given: Given, on_taken: Callable[[], None], logger: Logger) -> None:
        """`on_taken`: called when the successor serves."""
        self._given = given
        self._on_taken = on_taken
        self._logger = logger
        self._listener: socket.socket | None = None
        self._successor: socket.socket | None = None
        self._pid = 0

    def open(self, passed: Passed) -> None:
        """Tell the predecessor that this process serves, and wait for a successor."""
        self._listen(passed.offers)
        if (pid := passed.predecessor) is not None:
            passed.confirm()
            self._logger.info("handover_taken", pid=pid)

    def _listen(self, listener: socket.socket | None) -> None:
        if listener is None:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            try:
                listener.bind(_name(self._given.address))
                listener.listen()
            except OSError as error:
                listener.close()
                self._failed(f"cannot wait for a successor: {error.strerror}")
                return
        self._listener = listener
        self._wait()

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for one in (self._listener, self._successor):
            if one is not None:
                loop.remove_reader(one)
                one.close()
        self._listener = self._successor = None

    def _wait(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        """Take one successor, and no other as long as it lives."""
        try:
            successor, _ = listener.accept()
        except OSError:  # it has left, or there is no descriptor: it asks again
            return
        successor.setblocking(False)
        self._pid, user, _ = _credentials(successor)
        if user != os.geteuid():
            successor.close()
            self._failed("another user asked for the ports")
            return
        try:
            self._pass_to(successor, listener)
        except OSError as error:
            successor.close()
            self._failed(f"cannot pass the ports: {error.strerror}")
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        self._successor = successor
        loop.add_reader(successor, self._answered, successor)

    def _pass_to(self, successor: socket.socket, listener: socket.socket) -> None:
        given = self._given
        for group in given.groups():  # one worker may have those of many
            for at in range(0, len(group), _MOST_SOCKETS):
                _send(successor, group[at : at + _MOST_SOCKETS], use="public")
        _send(successor, given.common(), use="common")
        _send(successor, given.admin(), use="admin", address=str(given.admin_address))
        _send(successor, [listener], use="offers")
        _send(successor, [], use="end", pid=os.getpid())

    def _answered(self, successor: socket.socket) -> None:
        try:
            message = successor.recv(_PACKET)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        asyncio.get_running_loop().remove_reader(successor)
        successor.close()
        self._successor = None
        if message == _READY:
            self._logger.info("handover_given", pid=self._pid)
            self._on_taken()
        else:
            self._failed("the successor ended before it served")
            self._wait()

    def _failed(self, reason: str) -> None:
        self._logger.warning("handover_failed", reason=reason, message="this gateway serves on as before")


def _send(successor: socket.socket, sockets: Sequence[socket.socket], **message: Any) -> None:
    socket.send_fds(successor, [json.dumps(message).encode()], [one.fileno() for one in sockets])


def _name(address: ListenAddress) -> str:
    name = str(address)
    if len(name) > _LONGEST_NAME:
        name = hashlib.sha256(name.encode()).hexdigest()
    return f"\0flowise-gateway {name}"


def _credentials(channel: socket.socket) -> tuple[int, int, int]:
    """Process, user and group of the other side, as the kernel knows them."""
    content = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, group = _CREDENTIALS.unpack(content)
    return process, user, group


def _check_user(channel: socket.socket, address: ListenAddress) -> None:
    _, user, _ = _credentials(channel)
    if user != os.geteuid():
        channel.close()
        raise CannotRunError(
            f"What offers the ports of {address} belongs to user {user}. Run both gateways as the same user."
        )
