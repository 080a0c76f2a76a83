"""A reserved port is shared by our processes only, and free again at once."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from gateway.config import Address
from gateway.server.sockets import CannotListenError, Port, Reservation
from gateway.web import Server


def bound(port=0, *options):
    sock = socket.socket()
    for option in (socket.SO_REUSEADDR, *options):
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def port_of(sock):
    return sock.getsockname()[1]


@pytest.fixture
def reserve():
    open_now = []

    async def open_one(port=0, host="127.0.0.1"):
        reservation = Reservation([Address(host, port)])
        open_now.append(reservation)
        await reservation.open()
        return reservation.addresses[0]

    yield open_one
    for reservation in open_now:
        reservation.close()


async def test_port_0_becomes_one_port_that_workers_may_listen_on(reserve):
    address = await reserve()
    assert address.host == "127.0.0.1"
    for _ in range(2):
        with bound(address.port, socket.SO_REUSEPORT) as worker:
            worker.listen()


async def test_a_reserved_port_takes_no_connection(reserve):
    address = await reserve()
    with socket.socket() as client:
        assert client.connect_ex((address.host, address.port)) != 0


@pytest.mark.parametrize("options", [[], [socket.SO_REUSEPORT]])
async def test_a_taken_port_is_refused_even_if_it_could_be_shared(reserve, options):
    with bound(0, *options) as taken:
        taken.listen()
        with pytest.raises(CannotListenError) as refused:
            await reserve(port_of(taken))
        assert str(refused.value).startswith(
            f"Cannot listen on 127.0.0.1:{port_of(taken)}: Address already in use."
        )


@pytest.mark.parametrize("options", [[], [socket.SO_REUSEPORT]])
async def test_a_port_is_free_at_once_while_closed_connections_are_still_known_to_the_system(
    reserve, options
):
    with bound(0, *options) as before, socket.socket() as client:
        before.listen()
        client.connect(("127.0.0.1", port := port_of(before)))
        accepted, _ = before.accept()
        accepted.close()  # first, so that the system waits on this side
        assert client.recv(1) == b""
    assert (await reserve(port)).port == port


async def test_an_address_that_is_not_local_is_refused_with_a_message(reserve):
    with pytest.raises(CannotListenError, match=r"Cannot listen on 192\.0\.2\.1:0: "):
        await reserve(host="192.0.2.1")


async def test_an_unknown_name_is_refused_with_a_message(reserve):
    with pytest.raises(CannotListenError, match=r"Cannot listen on no\.such\.host\.invalid:0: "):
        await reserve(host="no.such.host.invalid")


IPV6 = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))]
IPV4 = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


@pytest.fixture
def reserve_name(monkeypatch):
    """Reserves a name with these addresses, on a loop that resolves with the standard library."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this system has no IPv6")

    def reserve_all(found, port=0):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        reservation = Reservation([Address("name", port)])
        with asyncio.Runner() as runner:
            runner.run(reservation.open())
        return reservation

    return reserve_all


def test_all_addresses_of_a_name_get_the_same_port(reserve_name):
    reservation = reserve_name([*IPV6, *IPV4])
    ports = {bound.getsockname()[1] for bound in reservation._sockets}
    assert (len(reservation._sockets), ports) == (2, {reservation.addresses[0].port})
    reservation.close()


def test_if_one_address_of_a_name_is_taken_none_is_held(reserve_name):
    with bound() as taken:
        taken.listen()
        port = port_of(taken)
        with pytest.raises(CannotListenError, match=rf"name:{port}: Address already in use"):
            reserve_name([*IPV6, *IPV4], port)
    reserve_name(IPV6, port).close()


def test_all_of_ipv6_is_nothing_of_ipv4(reserve_name):
    everything = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::", 0, 0, 0))]
    with bound() as beside:
        beside.listen()
        reserve_name(everything, port_of(beside)).close()


def test_who_comes_second_is_refused_by_the_loop_of_production():
    """Both may bind with SO_REUSEADDR, and only one may listen; uvloop itself would not say so."""

    async def both():
        listener = Server(lambda _: None)
        first, second = Port([Address("127.0.0.1", 0)]), Port([Address("127.0.0.1", 0)])
        await first.open()
        second.sockets = [bound(first.addresses[0].port)]
        try:
            await first.serve(listener)
            with pytest.raises(CannotListenError, match="in use"):
                await second.serve(listener)
        finally:
            await first.stop()
            await second.stop()

    uvloop.run(both())
