"""The base of all sections of the configuration, and their JSON Schema."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema


class Section(BaseModel):
    """A mapping with known keys; immutable. The docstring of a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def written_keys(cls) -> Mapping[str, FieldInfo]:
        """The fields by their keys in the file; that of `for_` is `for`, which Python does not take as a name."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @classmethod
    def _descriptions(cls) -> Mapping[str, str]:
        """The docstrings of the fields by their keys.

        Read when a schema is wanted: `use_attribute_docstrings` of pydantic would parse the source at every start.
        """
        found = {}
        for section in reversed([each for each in cls.__mro__ if issubclass(each, Section)]):
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
            statements = body.body if isinstance(body, ast.ClassDef) else []
            for field, text in pairwise(statements):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    match text:
                        case ast.Expr(ast.Constant(str() as docstring)):
                            found[field.target.id] = inspect.cleandoc(docstring)
        names = {name: field.alias or name for name, field in cls.model_fields.items()}
        return {names[name]: text for name, text in found.items() if name in names}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema with defaults as they are written in the file: `10s`, not `10.0`."""
        schema = handler(core_schema)
        described = cls._descriptions()
        written = cls.model_construct().model_dump(mode="json", by_alias=True, exclude_none=True)
        for key, field in handler.resolve_ref_schema(schema)["properties"].items():
            field.pop("default", None)
            if key in described:
                field["description"] = described[key]
            if key in written:
                field["default"] = written[key]
        return schema


def without_required(schema: dict[str, Any]) -> None:
    """For a section whose required keys may be in `defaults`."""
    schema.pop("required", None)
