"""What conversations belong to, for upstreams with and without a server in common."""

from __future__ import annotations

from gateway.config.addresses import parse_url
from gateway.upstream.origins import Origins
from gateway.upstream.server import Identity


def test_one_server_is_its_own_origin():
    origins = Origins({"main": ["flowise:3000"], "other": ["flowise:3000/path"]})
    assert (origins["main"], origins["other"]) == ("main", "other")


def test_upstreams_of_one_server_share_it():
    origins = Origins({"main": ["b:3000", "c:3000"], "other": ["a:3000", "b:3000"]})
    assert origins["main"] == origins["other"] == "main"


def test_upstreams_share_through_others():
    origins = Origins(
        {"one": ["a:1", "b:1"], "two": ["c:1", "d:1"], "three": ["d:1", "a:1"], "four": ["e:1"]}
    )
    assert origins["one"] == origins["two"] == origins["three"] != origins["four"]


def test_an_address_that_two_names_have_joins_them_for_good():
    origins = Origins({"main": ["flowise.svc:3000"], "other": ["10.0.0.7:3000"], "third": ["x:3000"]})
    assert origins["main"] != origins["other"]
    origins.met("main", ["10.0.0.6:3000", "10.0.0.7:3000"])
    assert origins["main"] == origins["other"] != origins["third"]
    origins.met("main", ["10.0.0.6:3000"])
    assert origins["main"] == origins["other"]


def test_two_names_that_are_looked_up_meet_at_an_address():
    origins = Origins({"main": ["a.svc:3000"], "other": ["b.svc:3000"]})
    origins.met("main", ["10.0.0.7:3000"])
    origins.met("other", ["10.0.0.7:3000"])
    assert origins["main"] == origins["other"] == "main"


def test_the_origin_names_no_address_that_is_not_configured():
    """It is part of the lock's key in a shared store, and other processes may not have looked up the same yet."""
    origins = Origins({"main": ["z.svc:3000"], "blue": ["y.svc:3000"]})
    for upstream in ("main", "blue"):
        origins.met(upstream, ["10.0.0.7:3000"])
    assert origins["main"] == "blue"


def test_an_origin_stays_when_servers_come_and_go():
    """Answers that run keep their lock by it."""
    few, many = Origins({"main": ["b:3000"]}), Origins({"main": ["a:3000", "b:3000", "c:3000"]})
    assert few["main"] == many["main"]


def test_an_upstream_that_is_configured_no_more_has_an_origin_of_its_own():
    assert Origins({"main": ["a:3000"]})["gone"] == "gone"


def test_the_case_of_a_host_name_makes_no_other_server():
    one, two, other = (
        Identity(parse_url(f"http://{host}:3000/Path")) for host in ("Flowise", "flowise", "x")
    )
    assert one.origin == two.origin != other.origin
    assert one.origin.endswith("/Path")
