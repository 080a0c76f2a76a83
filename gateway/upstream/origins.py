"""What conversations belong to: all upstreams that share a server have one origin, so that they share locks (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Origins:
    """Upstreams that have met stay together, because an answer of before may still run."""

    def __init__(self, configured: Mapping[str, Iterable[str]]) -> None:
        """`configured`: of each upstream the origins of its servers, like `flowise:3000/path`."""
        self._names = {upstream: sorted(origins) for upstream, origins in configured.items()}
        self._group: dict[str, frozenset[str]] = {name: frozenset({name}) for name in self._names}
        self._at: dict[str, str] = {}  # an upstream for each place where one was met
        self._origin: dict[str, str] = {}
        for upstream in self._names:
            self.met(upstream, self._names[upstream])
        self._rename()

    def __getitem__(self, upstream: str) -> str:
        """The same text for upstreams that share a server, in every process with the same configuration."""
        return self._origin[upstream]

    def met(self, upstream: str, places: Iterable[str]) -> None:
        """Servers of this upstream are at these places."""
        for place in places:
            other = self._at.setdefault(place, upstream)
            if other not in self._group[upstream]:
                joined = self._group[upstream] | self._group[other]
                self._group |= dict.fromkeys(joined, joined)
                self._rename()

    def _rename(self) -> None:
        """By the configuration alone: addresses differ between processes for a while."""
        for upstream, group in self._group.items():
            self._origin[upstream] = min(self._names[name][0] for name in group)
