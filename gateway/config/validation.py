"""From the tree to the typed `Config`; errors of pydantic become mistakes with line, key and remedy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config.model import Config
from gateway.config.problems import Mistakes, did_you_mean, join_path
from gateway.config.section import Section
from gateway.config.tree import Node, Scalar, ScalarKind

_LISTS = frozenset({"tuple_type", "list_type", "frozen_set_type", "set_type"})
_MAPPINGS = frozenset({"model_type", "model_attributes_type", "dict_type", "mapping_type"})


def validate(root: Node, folder: Path, mistakes: Mistakes) -> Config | None:
    """The typed configuration; None if a value is wrong. File names are relative to `folder`."""
    try:
        return Config.model_validate(root.plain(), context=folder)
    except ValidationError as refused:
        note_errors(refused, root, Config, mistakes)
    return None


def note_errors(
    refused: ValidationError,
    root: Node,
    model: type[Section],
    mistakes: Mistakes,
    hidden: frozenset[str] = frozenset(),
) -> None:
    """Note a mistake for each error of pydantic.

    Args:
        refused: what pydantic raised.
        root: the tree that was read.
        model: the section that it was read as.
        mistakes: where the errors are noted.
        hidden: keys of the model that are never suggested.
    """
    for error in refused.errors(include_url=False, include_input=False):
        node = root.nearest(error["loc"])
        if node.is_broken or (error["type"] == "too_short" and node.items):
            continue  # noted already: a mistake in the value itself, or in an entry of the list
        if error["type"] == "missing":
            key = str(error["loc"][-1])
            mistakes.add(node.line, join_path(node.path, key), _missing(error, model))
        else:
            mistakes.add(node.line, node.path, _message(error, node, model, hidden))


def _missing(error: ErrorDetails, model: type[Section]) -> str:
    *above, key = error["loc"]
    field = _section_at(model, above).model_fields[str(key)]
    example = json.dumps((field.examples or [""])[0], ensure_ascii=False)
    return f"is missing: write for example {key}: {example}"


def _message(error: ErrorDetails, node: Node, model: type[Section], hidden: frozenset[str]) -> str:
    kind = error["type"]
    *above, key = error["loc"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "extra_forbidden":
        known = _section_at(model, above).model_fields.keys() - hidden
        return f"is not a key here: {did_you_mean(str(key), known)}"
    if kind in _LISTS:
        return f"is {_shape(node)}: write a list, like [one, two], or one entry per line after a dash"
    if kind in _MAPPINGS:
        return f"is {_shape(node)}: write keys with values below it, or leave it out"
    is_required = _section_at(model, above).model_fields[str(key)].is_required()  # kind is too_short
    return f"is empty: write at least one entry{'' if is_required else ', or leave it out'}"


def _shape(node: Node) -> str:
    if isinstance(node.value, Scalar):
        is_nothing = node.value.kind in (ScalarKind.EMPTY, ScalarKind.NULL)
        return node.value.kind.name.lower() if is_nothing else "a single value"
    return "a mapping" if isinstance(node.value, dict) else "a list"


def _section_at(model: type[Section], loc: Iterable[int | str]) -> type[Section]:
    """The section at a location; indexes of lists and names in mappings are skipped."""
    section = model
    steps = iter(loc)
    for key in steps:
        annotation = section.model_fields[str(key)].annotation
        section = _inner_section(annotation) or section
        if get_origin(annotation) in (tuple, Mapping):
            next(steps, None)
    return section


def _inner_section(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inner_section(part))), None)
