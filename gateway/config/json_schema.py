"""The configuration's JSON Schema, for editors; what the gateway refuses is decided in `loading`."""

from __future__ import annotations

import json

from gateway.config.model import Config


def schema_json() -> str:
    """The schema as text that is always the same, with a line end."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
