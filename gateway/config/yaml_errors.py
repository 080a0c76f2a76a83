"""Why a text is not YAML, in the words of its author: the line to change, and how (pure).

The parser names the place where it could not go on, which is often lines behind the mistake. Each rule looks for one
mistake around that place; the first that finds it explains it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml
from msgspec import Struct

from gateway.config import yaml_lines
from gateway.config.problems import quote

Explained = tuple[int, str]

TYPOGRAPHIC_QUOTES = frozenset("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2018\u2019\u201a\u201b")
_LOOK_ALIKES = {
    **dict.fromkeys(TYPOGRAPHIC_QUOTES, ("typographic quote", "write straight quotes, \" or '")),
    **dict.fromkeys("\u00a0\u202f", ("no-break space", "write a plain space")),
    **dict.fromkeys("\u2007\u3000", ("wide space", "write a plain space")),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ("character without width", "remove it")),
    **dict.fromkeys("\u2010\u2011\u2013\u2014\u2212", ("dash that is no hyphen", "write -")),
    **dict.fromkeys("\uff1a\ufe55", ("wide colon", "write a colon and a space")),
    **dict.fromkeys("\uff0c\u3001", ("wide comma", "write a comma")),
}
_FALLBACK = (
    "write keys as `name: value`, list entries after a dash, and text with special characters in quotes"
)
_BLOCK_ENTRY = re.compile(r"[ ]*(?:-[ ]+)*[\w.\"'-]+[ ]*:(?:[ ]|$)")
_KEY_WITHOUT_SPACE = re.compile(r"[ ]*(?:-[ ]+)*([A-Za-z_][\w-]*):(?!//)[^\s:]")
_KEY_WITH_EQUALS = re.compile(r"[ ]*(?:-[ ]+)*([A-Za-z_][\w.-]*)[ ]*=")
_PLACEHOLDER = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?P<default>:-[^{}]*)?\}")
_IN_BRACKETS = {"while parsing a flow sequence": "[", "while parsing a flow mapping": "{"}
_CLOSING = {"[": "]", "{": "}"}


class _Failure(Struct, frozen=True):
    """What the parser reports; lines and columns count from 0.

    Attributes:
        lines: the text.
        problem: the parser's words.
        at: line and column where it stopped.
        within: what it was reading then, like `while parsing a flow sequence`.
        since: line and column where that began.
        quoted: the last text in quotes before that place.
        open_brackets: line and column of each bracket that is not closed before that place, and the bracket.
    """

    lines: list[str]
    problem: str
    at: tuple[int, int]
    within: str
    since: tuple[int, int]
    quoted: yaml.ScalarToken | None
    open_brackets: list[tuple[int, int, str]]

    @property
    def is_nested_value(self) -> bool:
        """Whether a colon comes where a value has begun already."""
        return self.problem.startswith("mapping values are not allowed")

    @property
    def is_word(self) -> bool:
        """Whether a line that should be a key has no colon."""
        return self.problem.startswith("could not find expected ':'")

    @property
    def line(self) -> str:
        return self.line_at(self.at[0])

    def line_at(self, number: int) -> str:
        return self.lines[number] if 0 <= number < len(self.lines) else ""

    @property
    def line_before(self) -> int:
        """The number of the last line with content before the one where the parser stopped."""
        return yaml_lines.last_content(self.lines, self.at[0]) or 0

    @property
    def near(self) -> list[int]:
        """Where a mistake that stops the parser here may be, the most likely line first."""
        return list(dict.fromkeys((self.since[0], self.line_before, self.at[0])))


def explain(text: str, error: yaml.MarkedYAMLError) -> Explained:
    """The line of the mistake, counted from 1, and the message."""
    failure = _failure(text, error)
    for rule in _RULES:
        if explained := rule(failure):
            return explained[0] + 1, explained[1]
    return failure.at[0] + 1, f"this is not YAML ({failure.problem}): {_FALLBACK}"


def look_alike(text: str) -> str:
    """The name of the first letter that looks like a sign of YAML, and what to write; empty if there is none."""
    for letter in text:
        if letter in _LOOK_ALIKES:
            return ": ".join(_name_and_remedy(letter))
    return ""


def _name_and_remedy(letter: str) -> tuple[str, str]:
    name, remedy = _LOOK_ALIKES[letter]
    return f"{name} (U+{ord(letter):04X})", remedy


def _failure(text: str, error: yaml.MarkedYAMLError) -> _Failure:
    mark = error.problem_mark or error.context_mark
    at = (mark.line, mark.column) if mark else (0, 0)
    context = error.context_mark
    since = (context.line, context.column) if context else at
    problem = error.problem or "it ends too early"
    quoted, brackets = _tokens(text, at)
    return _Failure(text.splitlines(), problem, at, error.context or "", since, quoted, brackets)


def _tokens(text: str, before: tuple[int, int]) -> tuple[yaml.ScalarToken | None, list[tuple[int, int, str]]]:
    """The last text in quotes and the open brackets before a place."""
    quoted, brackets = None, []
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            line, column = token.start_mark.line, token.start_mark.column
            if (line, column) >= before:
                break
            if isinstance(token, yaml.ScalarToken) and token.style in ("'", '"'):
                quoted = token
            elif isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken):
                brackets.append((line, column, token.id))
            elif isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken):
                brackets = brackets[:-1]
    except (yaml.YAMLError, ValueError, OverflowError):
        pass  # this is the error that is being explained
    return quoted, brackets


def _conflict(failure: _Failure) -> Explained | None:
    for number in failure.near:
        if re.match(r"<{7} |={7}$|>{7} ", failure.line_at(number)):
            lines = "the lines with <<<<<<<, ======= and >>>>>>>"
            return number, f"this line marks a conflict of a Git merge: keep one version, and remove {lines}"
    return None


def _other_language(failure: _Failure) -> Explained | None:
    for number in failure.near:
        line = failure.line_at(number)
        if line.startswith("```"):
            return number, "this line is Markdown, not YAML: remove the lines with ```"
        if start := re.match(r"\s*(//|/\*|;|--(?!-))", line):
            return number, f"{start[1]} begins no comment in YAML: begin comments with #"
        if re.match(r"\s*\[[^]]*\]\s*$", line) and failure.problem.startswith("expected '<document start>'"):
            return number, "this looks like TOML or INI: write YAML, each key as `name: value`"
        if line.startswith("%"):
            return number, "a line that begins with % is an instruction to the parser: remove it"
    return None


def _open_quote(failure: _Failure) -> Explained | None:
    """A quote that is closed by the end of the file, or by the quote of a later value."""
    if failure.within == "while scanning a quoted scalar":
        mark = failure.line_at(failure.since[0])[failure.since[1]]
        message = f"the quote that begins here is never closed: write {mark} at the end of the value"
        return failure.since[0], message
    token = failure.quoted
    if token is None or token.start_mark.line == token.end_mark.line or failure.at[0] != token.end_mark.line:
        return None
    ending = f"ends only in line {token.end_mark.line + 1}"
    message = (
        f"the quote that begins here {ending}: write {token.style} at the end of the value, in this line"
    )
    return token.start_mark.line, message


def _text_after_quote(failure: _Failure) -> Explained | None:
    token = failure.quoted
    if token is None or token.end_mark.line != failure.at[0] or not failure.problem.endswith("'<scalar>'"):
        return None
    if failure.line[token.end_mark.column : failure.at[1]].strip():
        return None
    if failure.within in _IN_BRACKETS and failure.line[failure.at[1]] in "'\"":
        return failure.at[0], "there is no comma between two entries: write one"
    inside = "''" if token.style == "'" else '\\"'
    where = f"text follows the quote that closes in column {token.end_mark.column}"
    return failure.at[0], (
        f"{where}: close each quote where its value ends, and write {inside} for a {token.style} inside"
    )


def _look_alike(failure: _Failure) -> Explained | None:
    for number in failure.near:
        line = failure.line_at(number)
        if not look_alike(yaml_lines.content(line)):
            continue
        column = next(at for at, letter in enumerate(line) if letter in _LOOK_ALIKES)
        name, remedy = _name_and_remedy(line[column])
        key = re.search(r"[\w.-]+:$", line[:column])
        return (
            number,
            f"there is a {name} in column {column + 1}{f', after `{key[0]}`' if key else ''}: {remedy}",
        )
    return None


def _unclosed_bracket(failure: _Failure) -> Explained | None:
    if not failure.open_brackets:
        return None
    line, column, opening = failure.open_brackets[-1]
    is_last = failure.problem.endswith("'<stream end>'")
    if is_last or (failure.at[0] > line and _is_in_block(failure.line_at(line)[:column])):
        return (
            line,
            f"the {opening} in this line is not closed: write {_CLOSING[opening]} after its last entry",
        )
    return None


def _is_in_block(before: str) -> bool:
    """Whether a bracket behind this is the value of a key or an entry behind a dash, and not inside JSON."""
    return bool(_BLOCK_ENTRY.match(before) or re.match(r"[ ]*-[ ]", before))


def _within_brackets(failure: _Failure) -> Explained | None:
    if failure.within not in _IN_BRACKETS:
        return None
    opening = failure.open_brackets[-1][2] if failure.open_brackets else _IN_BRACKETS[failure.within]
    closing = _CLOSING[opening]
    here = failure.at[0]
    if failure.problem.endswith("'{'") and (found := _PLACEHOLDER.match(failure.line, failure.at[1] - 1)):
        return here, _quotes_around(found, f"{opening} {closing}")
    if failure.problem.endswith(("':'", "'{'", "'['")):
        return here, f"text with : {{ or [ needs quotes inside {opening} {closing}: write quotes around it"
    if found := re.search(r"but got '([]}])'$", failure.problem):
        return here, f"{found[1]} closes a {opening}: write {closing} before it"
    return here, _no_comma(failure)


def _quotes_around(placeholder: re.Match[str], brackets: str) -> str:
    """What to write in place of a value with a placeholder; the default in it may be a secret."""
    line, default = placeholder.string, ":-…" if placeholder["default"] else ""
    shown = f"${{{placeholder['name']}{default}}}"
    is_whole = re.search(r"(?:[\[{,]|: )[ ]*$", line[: placeholder.start()])
    if not is_whole or not re.match(r"[ ]*(?:[\]},]|$)", line[placeholder.end() :]):
        return f'text with {shown} needs quotes inside {brackets}: write " before and after the whole text'
    remedy = '" before and after it' if default else f'"{shown}"'
    return f"{shown} needs quotes inside {brackets}: write {remedy}"


def _no_comma(failure: _Failure) -> str:
    """What to write between an entry and the one before it."""
    column = failure.at[1]
    if failure.line[:column].strip():
        return f"there is no comma before column {column + 1}: write one"
    end = f"at the end of line {failure.line_before + 1}"
    return f"there is no comma between this entry and the one before it: write , {end}"


def _sign(failure: _Failure) -> Explained | None:
    """A value that begins with a sign that means something to YAML."""
    if failure.within in ("while scanning an alias", "while scanning an anchor"):
        return failure.since[0], _quoted_sign(failure)
    sign = ""
    if found := re.fullmatch(r"found character '(.+)' that cannot start any token", failure.problem):
        sign = found[1]
    elif failure.within == "while scanning a block scalar":
        sign = "| or >"
    elif failure.problem.startswith("mapping keys are not allowed"):
        sign = "?"
    if sign == "\\t":
        return failure.at[0], _tab(failure)
    message = f"a value that begins with {sign} needs quotes: write quotes around it"
    return (failure.at[0], message) if sign else None


def _quoted_sign(failure: _Failure) -> str:
    """What to write in place of a value that begins with * or &, with the brackets around it."""
    line, column = failure.line_at(failure.since[0]), failure.since[1]
    found = re.match(r"[^\s,\[\]{}]+", line[column:])
    word = found[0] if found else "*"
    shown = quote(word)
    with_key = re.search(rf"[\w-]+: *(\[ *)?{re.escape(word)}(?(1) *\])", line)
    right = with_key[0].replace(word, shown) if with_key else shown
    return f"a value that begins with {shown[1]} needs quotes: write {right}"


def _tab(failure: _Failure) -> str:
    if failure.line[: failure.at[1]].strip():
        return "there is a tab here: write a space in its place"
    before = failure.line_before
    if yaml_lines.opens_block(failure.line_at(before)):
        return f"there is a tab here: indent with spaces, by more than line {before + 1}"
    spaces = yaml_lines.key_column(failure.line_at(before))
    return f"there is a tab here: indent by {spaces} spaces, like line {before + 1}, without a tab"


def _tag(failure: _Failure) -> Explained | None:
    if not failure.problem.startswith("found undefined tag"):
        return None
    return failure.at[0], "tags (!name) are not supported: leave the tag out, and put text in quotes"


def _escape(failure: _Failure) -> Explained | None:
    if not failure.problem.startswith("found unknown escape character"):
        return None
    return failure.at[0], "\\ inside \"…\" begins an escape: write \\\\ for a backslash, or use '…'"


def _surplus(failure: _Failure) -> Explained | None:
    found = re.search(r"but found '([],}:])'$", failure.problem)
    if found is None:
        return None
    if found[1] == ":":
        return failure.at[0], "there is no key before this colon: write one"
    if found[1] != ",":
        return failure.at[0], f"this {found[1]} closes nothing: remove it, or write what opens it"
    if failure.within == "while parsing a flow node":
        return failure.at[0], "there is nothing before this comma: remove it"
    return failure.at[0], "there is a comma at the end of a value: remove it, lines need none"


def _colon(failure: _Failure) -> Explained | None:
    """A colon that is one too many, or a key without one."""
    if failure.is_nested_value or failure.is_word:
        for number in failure.near:
            if found := _KEY_WITHOUT_SPACE.match(failure.line_at(number)):
                return number, f"there is no space after the colon: write `{found[1]}: …`"
    for number in failure.near:
        if found := _KEY_WITH_EQUALS.match(failure.line_at(number)):
            return number, f"there is = in place of a colon: write `{found[1]}: …`"
    first = re.search(r":(?= |$)", failure.line)
    if failure.is_nested_value and first and failure.at[1] > first.start():
        return failure.at[0], "a value with a colon and a space needs quotes: write quotes around it"
    return None


def _word(failure: _Failure) -> Explained | None:
    """A line that is neither a key nor a value."""
    number = failure.since[0]
    if failure.is_nested_value and not _BLOCK_ENTRY.match(failure.line_at(failure.line_before)):
        number = failure.line_before
    elif not failure.is_word:
        return None
    word = quote(yaml_lines.content(failure.line_at(number)))
    return number, f"{word} is neither a key nor a value: write a colon and a space after a key"


def _indentation(failure: _Failure) -> Explained | None:
    if failure.problem.endswith("but found '-'"):
        message = (
            "this list entry is beside keys: indent it deeper than the key of its list, or remove the dash"
        )
        return failure.at[0], message
    if not failure.is_nested_value and not failure.problem.startswith("expected <block end>"):
        return None
    message = f"the indentation of {yaml_lines.indent(failure.line)} fits no line before it"
    if failure.is_nested_value:
        message = f"this line is indented below line {failure.line_before + 1}, which has a value"
    nearest = yaml_lines.nearest_indentations(failure.lines, failure.at[0])
    fits = [f"indent it by {spaces} spaces, like line {line + 1}" for spaces, line in nearest]
    return failure.at[0], f"{message}: {', or '.join(fits) or 'indent it like the lines around it'}"


_RULES: tuple[Callable[[_Failure], Explained | None], ...] = (
    *(_conflict, _other_language, _open_quote, _text_after_quote, _look_alike),
    *(_unclosed_bracket, _within_brackets, _sign, _tag, _escape, _surplus),
    *(_colon, _word, _indentation),
)
