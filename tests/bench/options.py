"""The benchmark's command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import targets

PARTS = ("streams", "requests", "short", "first", "growth", "memory", "slow", "micro", "calls")
FIGURES = "bench.json"


@dataclass(frozen=True)
class Options:
    """What to measure, how often and for how long. `seconds` is the length of one measured window."""

    parts: list[str]
    targets: list[str]
    streams: int
    rate: float
    seconds: float
    rounds: int
    requests: int
    levels: list[int]
    growth: list[int]
    gateway: str
    pin: bool
    tls: bool
    strict: bool
    json: Path


def read(arguments: list[str] | None = None) -> Options:
    """Read the command line. `--quick` only changes defaults."""
    given = vars(_parser().parse_args(arguments))
    quick = given.pop("quick")
    defaults = {
        "seconds": 1.5 if quick else 5.0,
        "rounds": 2 if quick else 5,
        "requests": 500 if quick else 2000,
        "levels": [200] if quick else [500, 1000],
        "growth": [10, 500] if quick else [10, 1000, 5000],
    }
    return Options(**given | {name: value for name, value in defaults.items() if given[name] is None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m tests.bench", description="Measures the gateway beside nginx, Envoy and LiteLLM."
    )
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="a smoke run of under a minute: two short rounds, fewer streams in memory",
    )
    add("--parts", type=_among(PARTS), default=list(PARTS), help=f"comma list of {' '.join(PARTS)}")
    add(
        "--targets",
        type=_among(targets.ALL),
        default=list(targets.ALL),
        help=f"comma list of {' '.join(targets.ALL)}",
    )
    add("--streams", type=int, default=100, help="streams open at once (100)")
    add("--rate", type=float, default=50, help="events per second on each stream (50)")
    add("--seconds", type=float, help="length of a measured window (5; quick 1.5)")
    add("--rounds", type=int, help="rounds over all targets (5; quick 2)")
    add("--requests", type=int, help="short requests in a round (2000; quick 500)")
    add("--levels", type=_numbers, help="open streams at which memory is read (500,1000; quick 200)")
    add(
        "--growth",
        type=_numbers,
        help="open streams at which CPU per event is read (10,1000,5000; quick 10,500)",
    )
    add(
        "--gateway",
        default=targets.default_gateway(),
        metavar="CMD",
        help="command of the gateway, without `serve`",
    )
    add("--pin", action="store_true", help="the proxy on one core, load generator and upstream on another")
    add(
        "--tls",
        action="store_true",
        help="TLS 1.3 between the clients and each proxy, with a certificate of P-256; `direct` has none",
    )
    add("--strict", action="store_true", help="exit 1 when a target of the project is missed")
    add(
        "--json",
        type=Path,
        metavar="FILE",
        default=Path(FIGURES),
        help=f"all figures, round by round ({FIGURES})",
    )
    return parser


def _among(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        asked = text.split(",")
        if unknown := set(asked) - set(known):
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}"
            )
        return asked

    return names


def _numbers(text: str) -> list[int]:
    return sorted(int(number) for number in text.split(","))
