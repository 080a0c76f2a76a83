from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from gateway.config import types
from gateway.config.tree import Scalar, ScalarKind, plain_scalar, quoted_scalar


@pytest.fixture
def read():
    def read(kind, written):
        model: type[BaseModel] = create_model(
            "Model", __config__=ConfigDict(hide_input_in_errors=True), value=(kind, ...)
        )
        try:
            return model.model_validate({"value": written}).value
        except ValidationError as refused:
            (error,) = refused.errors()
            return str(error["ctx"]["error"])

    return read


def expanded(text: str) -> Scalar:
    return Scalar(text, ScalarKind.EXPANDED, "${NAME}")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (types.Whole, "12", 12),
        (types.WholeOrZero, "0", 0),
        (types.OptionalWhole, "12", 12),
        (types.Switch, "True", True),
        (types.Duration, "2m", 120.0),
        (types.Size, "1KiB", 1024),
    ],
)
def test_numbers_and_switches_are_read_from_yaml_and_from_placeholders(read, kind, text, value):
    assert read(kind, plain_scalar(text)) == value
    assert read(kind, expanded(text)) == value


@pytest.mark.parametrize(
    ("kind", "written", "message"),
    [
        (
            types.Whole,
            quoted_scalar("2"),
            '"2" is text: write a whole number from 1 to 999999999, without quotes',
        ),
        (types.Whole, plain_scalar("0"), '"0" is not valid: write a whole number'),
        (
            types.Whole,
            plain_scalar("1000000000"),
            '"1000000000" is not valid: write a whole number',
        ),
        (types.Whole, plain_scalar("0x10"), '"0x10" is not valid: write a whole number'),
        (types.Whole, plain_scalar(""), "is empty: write a whole number"),
        (types.Whole, plain_scalar("null"), "is null: write a whole number"),
        (types.Whole, {}, "is a mapping: write a whole number"),
        (types.Whole, [], "is a list: write a whole number"),
        (
            types.Whole,
            expanded("secret"),
            'the value of "${NAME}" is not valid: write a whole number',
        ),
        (types.Switch, quoted_scalar("true"), '"true" is text: write true or false, without quotes'),
        (types.Switch, plain_scalar("on"), '"on" is not a boolean: write true or false'),
        (
            types.Text,
            plain_scalar("no"),
            '"no" without quotes is true or false to YAML: write "no" in quotes',
        ),
        (
            types.Text,
            plain_scalar("12"),
            '"12" without quotes is a number to YAML: write "12" in quotes',
        ),
        (types.Text, plain_scalar("1:30"), '"1:30" without quotes is a number to YAML'),
        (types.Text, plain_scalar("2026-01-01"), '"2026-01-01" without quotes is a date to YAML'),
        (types.Text, quoted_scalar("a\nb"), '"a\\nb" is not one line of text'),
        (types.Text, quoted_scalar(""), '"" is not one line of text'),
        (types.Name, quoted_scalar("a/b"), '"a/b" is not a valid name: write 1 to 64 characters of'),
        (types.Name, quoted_scalar("x" * 65), "is not a valid name"),
        (types.ChatflowId, quoted_scalar("x"), '"x" is not a chatflow id: write the UUID of your chatflow'),
        (
            types.HeaderSecret,
            plain_scalar("12345"),
            "the value without quotes is a number to YAML: put it in",
        ),
        (types.HeaderSecret, expanded("a b"), "the value is not valid in a header: write visible ASCII"),
        (types.HeaderSecret, expanded("a\nb"), "the value is not valid in a header"),
        (types.SigningSecret, expanded("x" * 31), "the value is too short: write 32 bytes or more"),
        (types.AuthorityFile, quoted_scalar("missing.pem"), '"missing.pem" is not a readable file'),
        (
            types.EventName,
            quoted_scalar("tokn"),
            '"tokn" is not an event of Flowise: did you mean token?',
        ),
        (
            types.EventName,
            quoted_scalar("custom:token"),
            "is an event that Flowise defines: write it without",
        ),
        (types.EventName, quoted_scalar("custom:"), "is not one line of text"),
        (types.OverrideName, quoted_scalar("*"), '"*" is not the name of an override'),
        (types.OverrideName, quoted_scalar("vars"), '"vars" is not the name of an override'),
        (
            types.VariableText,
            quoted_scalar("{calle}"),
            "has an unknown name in braces: write {caller}",
        ),
        (types.AuthMethod, plain_scalar("apikey"), '"apikey" is unknown: did you mean api_key?'),
        (
            types.AuthMethod,
            plain_scalar("no"),
            '"no" is unknown: write anonymous',
        ),
        (types.JwtAlgorithm, plain_scalar("none"), '"none" is unknown: write RS256 or what'),
        (types.JwtAlgorithm, plain_scalar("HS256"), '"HS256" is unknown'),
        (types.WebAddress, plain_scalar("id.example.com"), "is not an http or https URL"),
    ],
)
def test_a_wrong_value_is_refused_with_what_would_be_right(read, kind, written, message):
    assert message in read(kind, written)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (
            types.ChatflowId,
            "2C5E8D0A-1111-4222-8333-44445555666F",
            "2c5e8d0a-1111-4222-8333-44445555666f",
        ),
        (types.EventName, "custom:mine", "mine"),
        (types.EventName, "token", "token"),
        (types.OverrideName, "vars.*", "vars.*"),
        (types.OverrideName, "vars.user.id", "vars.user.id"),
        (types.OverrideName, "systemMessage", "systemMessage"),
        (
            types.VariableText,
            'user {user} of {caller} {"json": 1}',
            'user {user} of {caller} {"json": 1}',
        ),
        (types.OptionalText, "", ""),
        (types.WebAddress, "https://id/jwks?x=1", "https://id/jwks?x=1"),
        (types.KeysFile, "", None),
    ],
)
def test_text_is_read(read, kind, text, value):
    assert read(kind, quoted_scalar(text)) == value


def test_a_secret_is_counted_in_bytes_and_shown_nowhere(read):
    secret = read(types.SigningSecret, quoted_scalar("ü" * 16))
    assert secret.get_secret_value() == "ü" * 16
    assert "ü" not in repr(secret)
