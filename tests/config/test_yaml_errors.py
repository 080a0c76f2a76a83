"""What is said of a text that is not YAML: the line of the mistake, the key, and what would be right."""

from __future__ import annotations

import pytest
import yaml

from gateway.config.problems import Mistakes
from gateway.config.yaml_errors import explain, look_alike
from gateway.config.yaml_reader import read_tree

NOT_CLOSED = "is not closed: write {} after its last entry"
NO_SPACE = "there is no space after the colon: write `b: …`"
IN_QUOTES = "a value that begins with {} needs quotes: write quotes around it"
COMMENT = "begins no comment in YAML: begin comments with #"
CONFLICT = "this line marks a conflict of a Git merge: keep one version, and remove the lines with <<<<<<<, "


@pytest.fixture
def said(tmp_path):
    """What is said of a text: one line for each mistake, without the name of the file."""

    def said(text):
        path = tmp_path / "g"
        path.write_bytes(text.encode())
        mistakes = Mistakes("g")
        read_tree(path, {}, mistakes)
        return [str(mistake).removeprefix("g:") for mistake in mistakes.in_order]

    return said


@pytest.mark.parametrize(
    ("text", "line"),
    [
        # quotes
        (
            'a:\n  b: "x\n  c: 1\n',
            '2: a.b: the quote that begins here is never closed: write " at the end of the',
        ),
        (
            "a:\n  b: 'x\n  c: 1\n",
            "2: a.b: the quote that begins here is never closed: write ' at the end of the",
        ),
        ('a: "x\n---\nb: 1\n', '1: a: the quote that begins here is never closed: write " at the end of the'),
        ('"a: 1\nb: 2\n', '1: the quote that begins here is never closed: write " at the end of the value'),
        (
            'a:\n  b: "x\n  c: 1\nd: "y"\n',
            '2: a.b: the quote that begins here ends only in line 4: write " at the end of the value, in this line',
        ),
        ('a: ["x]\nb: "c"\n', "1: a: the quote that begins here ends only in line 2"),
        ("a: {b: 'c', d: 'e}\nf: 'g'\n", "1: a.d: the quote that begins here ends only in line 2"),
        (
            "a: 'it's fine'\n",
            "1: a: text follows the quote that closes in column 7: close each quote where its value ends, and",
        ),
        ('a: ["b", "c, "d"]\n', "1: a: text follows the quote that closes in column 14: close each quote"),
        ('a: "b" c\nd: 1\n', "1: a: text follows the quote that closes in column 6: close each quote"),
        ('a: "C:\\keys"\n', "1: a: \\ inside \"…\" begins an escape: write \\\\ for a backslash, or use '…'"),
        # signs of YAML
        ("a: [*]\n", '1: a: a value that begins with * needs quotes: write a: ["*"]'),
        ("a: [*, b]\n", '1: a: a value that begins with * needs quotes: write "*"'),
        ("a:\n  - *\n", '2: a[0]: a value that begins with * needs quotes: write "*"'),
        ("a: [*.x]\n", '1: a: a value that begins with * needs quotes: write a: ["*.x"]'),
        ("a: &\nb: 1\n", '1: a: a value that begins with & needs quotes: write a: "&"'),
        ("a: %x\n", f"1: a: {IN_QUOTES.format('%')}"),
        ("a: @x\n", f"1: a: {IN_QUOTES.format('@')}"),
        ("a: ? b\n", f"1: a: {IN_QUOTES.format('?')}"),
        ("a: >x\n", f"1: a: {IN_QUOTES.format('| or >')}"),
        ("a: !foo!x 1\n", "1: a: tags (!name) are not supported"),
        ("a: [${X}]\n", '1: a: ${X} needs quotes inside [ ]: write "${X}"'),
        ("a: {b: ${X}}\n", '1: a.b: ${X} needs quotes inside { }: write "${X}"'),
        ("a: {b: ${X:-y}}\n", '1: a.b: ${X:-…} needs quotes inside { }: write " before and after it'),
        (
            "a: [x${X}]\n",
            '1: a: text with ${X} needs quotes inside [ ]: write " before and after the whole text',
        ),
        ("a: b: c\n", "1: a: a value with a colon and a space needs quotes: write quotes around it"),
        ("a:\n  - b: c: d\n", "2: a[0].b: a value with a colon and a space needs quotes"),
        ("a: {b: c: d}\n", "1: a.b: text with : { or [ needs quotes inside { }: write quotes around it"),
        # brackets and commas
        ("a: [x\nb: 1\nc: 2\n", f"1: a: the [ in this line {NOT_CLOSED.format(']')}"),
        ("a: [x\n", f"1: a: the [ in this line {NOT_CLOSED.format(']')}"),
        ("a: [\n", f"1: a: the [ in this line {NOT_CLOSED.format(']')}"),
        ("a: {b: [x]\nc: 2\n", f"1: a.b: the {{ in this line {NOT_CLOSED.format('}')}"),
        ("a:\n  - {b: c\n  - {b: d}\n", f"2: a[0].b: the {{ in this line {NOT_CLOSED.format('}')}"),
        ('{"a": {"b": 1,\n "c": 2}\n', f"1: a.b: the {{ in this line {NOT_CLOSED.format('}')}"),
        ("a: [{b: x]\nc: 1\n", "1: a[0].b: ] closes a {: write } before it"),
        ("a: [x]]\nb: 1\n", "1: a: this ] closes nothing: remove it, or write what opens it"),
        ("a: [x],\n", "1: a: there is a comma at the end of a value: remove it, lines need none"),
        ('a:\n  "b": "c",\n  "d": 1\n', "2: a.b: there is a comma at the end of a value"),
        ("a: [x,,y]\n", "1: a: there is nothing before this comma: remove it"),
        (
            '{"a": {"b": 1}\n "c": 2}\n',
            "2: c: there is no comma between this entry and the one before it: write , at the end of line 1",
        ),
        ('a: {"b": "c" "d": 1}\n', "1: a.b: there is no comma between two entries: write one"),
        # keys
        ("a: 1\nb:c\nd: 1\n", f"2: b: {NO_SPACE}"),
        ("a:\n  - b:c\n    d: 1\n", f"2: a[0].b: {NO_SPACE}"),
        ("b:1\nc: 2\n", f"1: b: {NO_SPACE}"),
        ("a: 1\nb = c\nd: 1\n", "2: b: there is = in place of a colon: write `b: …`"),
        ("a: 1\nb\nc: 2\n", '2: "b" is neither a key nor a value: write a colon and a space after a key'),
        ("<html>\n<body>x: y</body>\n", '1: "<html>" is neither a key nor a value'),
        ("a:\n  : b\n", "2: a: there is no key before this colon: write one"),
        # indentation
        ("a:\n\tb: 1\n", "2: a.b: there is a tab here: indent with spaces, by more than line 1"),
        (
            "a:\n  b: 1\n  \tc: 2\n",
            "3: a.c: there is a tab here: indent by 2 spaces, like line 2, without a tab",
        ),
        (
            "a:\n  b: 1\n   c: 2\n",
            "3: a.c: this line is indented below line 2, which has a value: indent it by 2 spaces, like line 2",
        ),
        (
            "r:\n  - n: a\n    u: b\n   v: c\n",
            "4: r[0].v: the indentation of 3 fits no line before it: indent it by 4 spaces, like line 3",
        ),
        (
            "a:\n  - b\n - c\n",
            "3: a[1]: the indentation of 1 fits no line before it: indent it by 2 spaces, like line 2",
        ),
        (
            "a:\n  b: 1\n  - c\n",
            "3: a: this list entry is beside keys: indent it deeper than the key of its list",
        ),
        # letters that look like those of YAML
        (
            "a:\u00a0b\nc: 1\n",
            "1: a: there is a no-break space (U+00A0) in column 3, after `a:`: write a plain space",
        ),
        ("a\uff1ab\nc: 1\n", "1: a: there is a wide colon (U+FF1A) in column 2: write a colon and a space"),
        (
            "a: {b: c} \u201cx\u201d\n",
            "1: a.b: there is a typographic quote (U+201C) in column 11: write straight quotes",
        ),
        # other languages
        ("```yaml\na: 1\n```\n", "1: this line is Markdown, not YAML: remove the lines with ```"),
        ("// x\na: 1\n", f"1: // {COMMENT}"),
        ("a: 1\n; x\nb: 2\n", f"2: ; {COMMENT}"),
        ('[server]\na = "b"\n', "1: this looks like TOML or INI: write YAML, each key as `name: value`"),
        ("<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> x\n", f"1: {CONFLICT}"),
        ("a: 1\n=======\nb: 2\n", f"2: {CONFLICT}"),
        ("%YAML 3.0\na: 1\n", "1: a line that begins with % is an instruction to the parser: remove it"),
    ],
)
def test_a_text_that_is_not_yaml_is_explained_by_one_mistake(said, text, line):
    (only,) = said(text)
    assert only.startswith(line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "a:\n\u00a0\u00a0b: 1\n",
            '2: the key "\\xa0\\xa0b" has a no-break space (U+00A0): write a plain',
        ),
        (
            "a:\n  \u2013 b: 1\n    c: 2\n",
            '2: a: the key "\u2013 b" has a dash that is no hyphen (U+2013): write -',
        ),
        (
            "\u201ca\u201d: b\n",
            '1: the key "\u201ca\u201d" has a typographic quote (U+201C): write straight quotes',
        ),
        ("a: {b: \u201cx\u201d}\n", "1: a.b: begins with a typographic quote, \u201c: write straight quotes"),
    ],
)
def test_a_letter_that_looks_like_one_of_yaml_is_named_although_the_text_is_yaml(said, text, line):
    (only,) = said(text)
    assert only.startswith(line)


def test_a_letter_in_straight_quotes_or_within_a_text_is_right(said):
    assert said("a: '\u201cx\u201d'\nb: caf\u00e9 \u2013 x\n'\u201cc': 1\n") == []


def test_a_quote_that_swallows_lines_is_a_warning(said):
    assert said('a:\n  b: "x\n  c: 1\nd: "\n') == [
        "2: a.b: warning: the value is in quotes up to line 4: close it in this line, or write the text with |"
    ]


def test_what_no_rule_explains_has_the_words_of_the_parser(said):
    (only,) = said('a: 1\nb: "\\UFFFFFFFF"\n')
    assert only.startswith("2: b: this is not YAML (a number is out of range): write keys as `name: value`")


def test_a_failure_without_a_place_is_in_the_first_line():
    line, message = explain("", yaml.MarkedYAMLError())
    assert (line, message[:34]) == (1, "this is not YAML (it ends too earl")


def test_plain_text_has_no_look_alike():
    assert look_alike("a: 'b' \"c\" - d, e") == ""
