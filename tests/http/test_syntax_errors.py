"""Sentences for requests that cannot be parsed."""

import pytest

from gateway.http.syntax_errors import UNPARSABLE, sentence_for


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("Missing 'Host' header in request.", ": it has no Host field. Send one."),
        (
            "400, message:\n  Missing expected CR after header value:\n\n  b'Authorization: Bearer key\\nfoo'\n  ^",
            ": a header field has a line break in its value. Remove it, and end each line with CR LF.",
        ),
        ("Something new:\n\n  b'key'", "."),
        ("Something new:\n\n  b'Invalid method'", "."),
        ("", "."),
    ],
)
def test_the_sentence_has_what_the_parser_found_and_nothing_of_the_request(said, sentence):
    assert sentence_for(said) == UNPARSABLE + sentence
