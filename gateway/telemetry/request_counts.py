"""Requests and first tokens by route, from the samples of their metrics (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

Series = tuple[str, str]  # route and outcome
Sampled = tuple[str, Mapping[str, str], float]  # the name of a sample, its labels, its value


class Counts(NamedTuple):
    """Totals since the start.

    Attributes:
        requests: by route and outcome.
        first_tokens: of each route, for each upper bound in seconds the number of first tokens up to it.
    """

    requests: Mapping[Series, float]
    first_tokens: Mapping[str, Mapping[float, float]]


def counted(samples: Iterable[Sampled]) -> Counts:
    """The totals, from samples of `requests` and `time_to_first_token`."""
    requests: dict[Series, float] = {}
    first_tokens: dict[str, dict[float, float]] = {}
    for name, labels, value in samples:
        route = labels["route"]
        if name.endswith("_total"):
            series = route, labels["outcome"]
            requests[series] = requests.get(series, 0.0) + value
        elif name.endswith("_bucket"):
            first_tokens.setdefault(route, {})[float(labels["le"])] = value
    return Counts(requests, first_tokens)
