"""The mistakes of a configuration file: collected one by one, reported together (pure)."""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Sequence

from msgspec import Struct, field

from gateway.printable import printable

LONGEST_QUOTE = 60
MOST_MISTAKES = 1000  # of one file
EXAMPLE_CHATFLOW = "2c5e8d0a-1111-4222-8333-444455556666"  # in the examples; no real chatflow has it
INIT = "`flowise-gateway init --flowise URL`"
_ABBREVIATION = 3  # least characters of a word that stands for a longer one
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Kind(enum.IntEnum):
    """How much a mistake matters."""

    WRONG = 0
    ABSENT = 1  # a placeholder that is right, and has no value on this machine
    FUTILE = 2  # the configuration is complete, and cannot work
    LAPSED = 3  # it was right until a date; `check` fails, and `serve` goes on, as clients may accept it
    WARNING = 4  # the configuration can be used all the same


class Mistake(Struct, frozen=True, order=True):
    """What is wrong in one place of a file, and what would be right.

    Attributes:
        file: the file as the user named it, or an environment variable.
        line: counted from 1; 0: of no file.
        key: the key's path, like `routes[0].limits[1].per`; empty when the whole file is meant.
        message: one line, never a value that came from the environment or a file.
        kind: how much it matters.
    """

    file: str
    line: int
    key: str
    message: str
    kind: Kind = Kind.WRONG

    def __str__(self) -> str:
        place = f":{self.line}" if self.line else ""
        key = f" {self.key}:" if self.key else ""
        return f"{self.file}{place}:{key}{' warning:' if self.kind is Kind.WARNING else ''} {self.message}"

    @property
    def is_warning(self) -> bool:
        """Whether `serve` uses the configuration all the same."""
        return self.kind in (Kind.LAPSED, Kind.WARNING)


class ConfigError(Exception):
    """The configuration cannot be used; `mistakes` has every reason, in the order of the file."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = list(mistakes)


class Mistakes(Struct):
    """Collects the mistakes of one file; the same mistake found twice counts once.

    Behind the first `MOST_MISTAKES` that are found, one says that there are more; warnings beyond are dropped.
    """

    file: str
    _found: set[Mistake] = field(default_factory=set)
    _has_more: bool = False

    def add(self, line: int, key: str, message: str, kind: Kind = Kind.WRONG) -> None:
        self.note(Mistake(self.file, line, key, message, kind))

    def warn(self, line: int, key: str, message: str) -> None:
        """Note what is allowed and yet hardly meant."""
        self.add(line, key, message, Kind.WARNING)

    def note(self, mistake: Mistake) -> None:
        if len(self._found) < MOST_MISTAKES:
            self._found.add(mistake)
        elif not mistake.is_warning and mistake not in self._found:
            self._has_more = True

    def add_all(self, others: Mistakes) -> None:
        for mistake in others._found:
            self.note(mistake)
        self._has_more |= others._has_more

    @property
    def in_order(self) -> list[Mistake]:
        """All of them in the order of the file, with the warnings."""
        return sorted(self._found)

    def raise_if_any(self) -> None:
        """End the loading.

        Raises:
            ConfigError: with every mistake, in the order of the file; not if there are only warnings.
        """
        wrong = [mistake for mistake in self.in_order if not mistake.is_warning]
        if self._has_more:
            wrong.append(
                Mistake(self.file, 0, "", f"has more mistakes than {MOST_MISTAKES}: mend these first")
            )
        if wrong:
            raise ConfigError(wrong)


def join_path(path: str, key: str) -> str:
    """The path of a key inside the mapping at `path`."""
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{quote(key)}]"
    return f"{path}.{key}" if path else key


def quote(text: str) -> str:
    """The text in double quotes on one line: unprintable characters are escaped, a long text is cut."""
    if len(text) > LONGEST_QUOTE:
        text = text[: LONGEST_QUOTE - 1] + "…"
    return f'"{printable(text)}"'


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A suggestion: the known word that is closest, else all of them."""
    found = closest(word, known)
    return f"did you mean {found}?" if found else f"write one of {', '.join(sorted(known))}"


def closest(word: str, known: Collection[str]) -> str:
    """The only known word that begins with this one, else the one that is spelt most like it; empty if none is."""
    by_fold = {name.casefold(): name for name in known}
    longer = [fold for fold in by_fold if len(word) >= _ABBREVIATION and fold.startswith(word.casefold())]
    if len(longer) == 1:
        return by_fold[longer[0]]
    import difflib  # noqa: PLC0415 - for mistakes alone

    close = difflib.get_close_matches(word.casefold(), by_fold, n=1)
    return by_fold[close[0]] if close else ""
