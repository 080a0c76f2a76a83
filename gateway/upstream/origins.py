"""What conversations belong to: all upstreams that share a server have one origin, so that they share locks (pure).

An origin is the name of an upstream, not of a server: servers come and go by a reload, while answers are running.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Origins:
    """Upstreams that have met stay together, because an answer of before may still run."""

    def __init__(self, configured: Mapping[str, Iterable[str]]) -> None:
        """`configured`: of each upstream the origins of its servers, like `flowise:3000/path`."""
        self._group: dict[str, frozenset[str]] = {name: frozenset({name}) for name in configured}
        self._at: dict[str, str] = {}  # an upstream for each place where one was met
        self._origin = {name: name for name in configured}
        for upstream, places in configured.items():
            self.met(upstream, places)

    def __getitem__(self, upstream: str) -> str:
        """The same text for upstreams that share a server, in every process with the same configuration.

        One that is configured no more, of a run that has not ended, shares nothing.
        """
        return self._origin.get(upstream, upstream)

    def met(self, upstream: str, places: Iterable[str]) -> None:
        """Servers of this upstream are at these places."""
        for place in places:
            other = self._at.setdefault(place, upstream)
            if other not in self._group[upstream]:
                joined = self._group[upstream] | self._group[other]
                self._group |= dict.fromkeys(joined, joined)
                self._origin |= dict.fromkeys(joined, min(joined))
