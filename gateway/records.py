"""Records that hold what no log may show (pure).

Records are structs of msgspec. One is made without a call of a Python function: a frozen dataclass of nine fields takes
eight times as long. Their class takes 2.5 KB: that of such a dataclass 14, which was 1 MB of each process.
"""

from __future__ import annotations

import msgspec


class DiscreetRecord(msgspec.Struct, frozen=True):
    """A record that never changes, and whose `repr` names its class and none of its fields."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
