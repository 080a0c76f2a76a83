"""From the tree to the typed `Config`; errors of pydantic become mistakes with line, key and remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.config.expected_keys import advice, same_key
from gateway.config.model import Config
from gateway.config.problems import Mistakes, closest, did_you_mean, join_path
from gateway.config.remedies import present, without_present
from gateway.config.section import Section
from gateway.config.tree import Node, Scalar, ScalarKind
from gateway.config.types import TEXT

MOST_PLACES = 3  # that a message lists
_ONE_ENTRY = 'with "- " before its first key and all its keys in one column, or with [ ] around { }'
_LISTS = frozenset({"tuple_type", "list_type", "frozen_set_type", "set_type"})
_MAPPINGS = frozenset({"model_type", "model_attributes_type", "dict_type", "mapping_type"})


def validate(root: Node, folder: Path, mistakes: Mistakes, written: Node | None = None) -> Config | None:
    """The typed configuration; None if a value is wrong.

    Args:
        root: the tree.
        folder: where relative file names begin.
        mistakes: where the errors are noted.
        written: the tree without what was put in where nothing was written.
    """
    try:
        return Config.model_validate(root.plain(), context=folder)
    except ValidationError as refused:
        note_errors(refused, root, Config, mistakes, written=written)
    return None


def note_errors(
    refused: ValidationError,
    root: Node,
    model: type[Section],
    mistakes: Mistakes,
    hidden: frozenset[str] = frozenset(),
    written: Node | None = None,
) -> None:
    """Note a mistake for each error of pydantic.

    Args:
        refused: what pydantic raised.
        root: the tree that was read.
        model: the section that it was read as.
        mistakes: where the errors are noted.
        hidden: keys of the model that are never suggested.
        written: as in `validate`.
    """
    errors = refused.errors(include_url=False, include_input=False)
    suggested: dict[str, list[str]] = {}  # by the path of a mapping, what is said of its unknown keys
    for error in sorted(errors, key=lambda error: error["type"] == "missing"):
        node = root.nearest(error["loc"])
        if node.is_broken or (error["type"] == "too_short" and _has_entry(node)):
            continue  # noted already: a mistake in the value itself, or in an entry of the list
        if error["type"] == "extra_forbidden":
            message = f"is not a key here: {_right_key(error, written or root, model, hidden)}"
            suggested.setdefault(root.nearest(error["loc"][:-1]).path, []).append(message)
            mistakes.add(node.line, node.path, message)
            continue
        if error["type"] != "missing":
            mistakes.add(node.line, node.path, _message(error, node, model))
            continue
        key = str(error["loc"][-1])
        is_suggested = any(re.search(rf"\b{key}\b", message) for message in suggested.get(node.path, ()))
        if not node.is_partial and not is_suggested:
            mistakes.add(node.line, join_path(node.path, key), _missing(error, root, model))


def _has_entry(node: Node) -> bool:
    """Whether something is written for a list, although it may be wrong."""
    if isinstance(node.value, Scalar):
        return node.value.kind not in TEXT or bool(node.value.text)
    return bool(node.items)


def _missing(error: ErrorDetails, root: Node, model: type[Section]) -> str:
    *above, key = error["loc"]
    field = _section_at(model, above).written_keys()[str(key)]
    examples = field.examples or [""]
    if key == "upstream" and (upstreams := root.at("upstreams")):
        examples = [*upstreams.entries, *examples]
    return f"is missing: write for example {key}: {_json(examples[0])}"


def _message(error: ErrorDetails, node: Node, model: type[Section]) -> str:
    kind = error["type"]
    *above, key = error["loc"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    section = _section_at(model, above)
    field = section.written_keys().get(key) if isinstance(key, str) else None
    is_optional = field is not None and not field.is_required()
    ending = ", or leave it out" if is_optional else ""
    if kind in _LISTS:
        inner = None if field is None else _inner_section(field.annotation)
        if inner is not None and node.entries.keys() & inner.model_fields.keys():
            return f"is one entry: write a list, {_ONE_ENTRY}"
        return f"is {_shape(node)}: write a list, like {_list_example(str(key), node, field)}"
    if kind in _MAPPINGS:
        below = None if field is None else _inner_section(field.annotation)
        example = _mapping_example(key, node, field, section if field is None else below)
        places = [place for place, other in _places(model, str(key)) if node.items and _is_list(other)]
        there = f"; a list of {key} belongs in {' or '.join(places)}" if places else ""
        return f"is {_shape(node)}: write keys with values below it, {example}{ending}{there}"
    return f"is empty: write at least one entry{ending}"  # too_short


def _right_key(error: ErrorDetails, root: Node, model: type[Section], hidden: frozenset[str]) -> str:
    *above, last = error["loc"]
    key, section, mapping = str(last), _section_at(model, above), root.nearest(above)
    known = section.written_keys().keys() - hidden
    meant = same_key(key, known)
    if not meant and model is Config and (said := advice(section.__name__, key, root, mapping.path)):
        return without_present(said, mapping)
    meant = meant or closest(key, known)
    if meant and meant in mapping.entries:
        return present(meant, mapping)
    places = [place for place, _ in _places(model, key) if place]
    question = f"did you mean {meant}?" if meant else ""
    if places and not same_key(key, known):
        return f"it belongs in {' or '.join(places[:MOST_PLACES])}{f', or {question}' if question else ''}"
    return question or did_you_mean(key, known)


def _places(section: type[Section], key: str, path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The sections that have a key of this name, by their paths, and the key; those below `defaults` are left out."""
    if key in section.written_keys():
        yield path, section.written_keys()[key]
    for name, field in section.written_keys().items():
        below = _inner_section(field.annotation)
        if below is not None and path != "defaults":
            many = "[]" if _is_list(field) else ".*" if get_origin(field.annotation) is Mapping else ""
            yield from _places(below, key, f"{join_path(path, name)}{many}")


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) in (tuple, frozenset)


def _list_example(key: str, node: Node, field: FieldInfo | None) -> str:
    is_text = isinstance(node.value, Scalar) and node.value.kind in TEXT
    if is_text and field is not None and (wrapped := _wrapped(field, node)):
        return f"{key}: {wrapped}"
    if field is not None and field.examples:
        return f"{key}: {_json(field.examples[0])}"
    return "[one, two], or one entry per line after a dash"


def _mapping_example(
    key: int | str, node: Node, field: FieldInfo | None, section: type[Section] | None
) -> str:
    """How the mapping is written, with the value that was written in its place where it fits."""
    start = f"{key if key.isprintable() else json.dumps(key)}: " if isinstance(key, str) else ""
    if section is not None and not (field is not None and get_origin(field.annotation) is Mapping):
        required = [name for name, one in section.written_keys().items() if one.is_required()]
        if len(required) == 1 and (wrapped := _wrapped(section.written_keys()[required[0]], node)):
            return f"like {start}{{{required[0]}: {wrapped}}}"
        example = {name: section.written_keys()[name].examples[0] for name in required}  # type: ignore[index] # each has one
        keys = ", ".join(sorted(section.written_keys()))
        return f"like {start}{_json(example)}" if example else f"any of {keys}"
    return (
        f"like {start}{_json(field.examples[0])}"
        if field is not None and field.examples
        else "like name: value"
    )


def _wrapped(field: FieldInfo, node: Node) -> str:
    """The values of a node as the value of a field; empty if they cannot be."""
    values = node.items or [node]
    texts = [one.value.quoted for one in values if isinstance(one.value, Scalar) and one.value.kind in TEXT]
    is_section = _inner_section(field.annotation) is not None
    if len(texts) != len(values) or not all(one.text for one in values) or is_section:
        return ""
    if _is_list(field):
        return f"[{', '.join(texts)}]"
    return texts[0] if not node.items else ""


def _json(example: object) -> str:
    return json.dumps(example, ensure_ascii=False)


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
        annotation = section.written_keys()[str(key)].annotation
        section = _inner_section(annotation) or section
        if get_origin(annotation) in (tuple, Mapping):
            next(steps, None)
    return section


def _inner_section(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inner_section(part))), None)
