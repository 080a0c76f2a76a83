"""The base of all sections of the configuration, and their JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema


class Section(BaseModel):
    """A mapping with known keys; immutable. The docstring of a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def written_keys(cls) -> Mapping[str, FieldInfo]:
        """The fields by their keys in the file; that of `for_` is `for`, which Python does not take as a name."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema with defaults as they are written in the file: `10s`, not `10.0`."""
        schema = handler(core_schema)
        written = cls.model_construct().model_dump(mode="json", by_alias=True, exclude_none=True)
        for key, field in handler.resolve_ref_schema(schema)["properties"].items():
            field.pop("default", None)
            if key in written:
                field["default"] = written[key]
        return schema


def without_required(schema: dict[str, Any]) -> None:
    """For a section whose required keys may be in `defaults`."""
    schema.pop("required", None)
