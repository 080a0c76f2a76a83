"""Writes the files in config/ that are generated from the model: `python -m tests.config.reference`."""

from __future__ import annotations

import json
from pathlib import Path

from gateway import config

FOLDER = Path(__file__).parents[2] / "config"
SCHEMA, README = FOLDER / "gateway.schema.json", FOLDER / "README.md"
MARK = "<!-- Generated below by `python -m tests.config.reference`; do not edit. -->\n"
HEADER = "| key | type | default | description |\n|---|---|---|---|\n"
FORMS = {r"(ms|s|m|h|d)": "duration", r"(B|KiB|MiB|GiB)": "size", "{8}(-": "UUID", "{1,64}": "name"}


def write():
    SCHEMA.write_text(config.schema_json())
    README.write_text(readme())


def readme():
    """The hand-written part of the file, and the generated one."""
    return README.read_text().partition(MARK)[0] + MARK + "\n" + reference()


def reference():
    schema = json.loads(config.schema_json())
    tables = []
    for key, below in schema["properties"].items():
        description = described(below, schema)
        lines = [] if key == "defaults" else rows(key, below, schema)
        tables.append(f"### {key}\n\n{description}\n" + (f"\n{HEADER}{''.join(lines)}" if lines else ""))
    return "\n".join(tables)


def rows(path, below, schema):
    """One row for each key below a section, a list of sections or a mapping of sections; required keys first."""
    below = resolved(below, schema)
    for step, value in steps(below):
        yield from rows(path + step, value, schema)
    if "properties" not in below:
        return
    fields = getattr(config, below["title"]).written_keys()
    for key in sorted(below["properties"], key=lambda key: not fields[key].is_required()):
        value = below["properties"][key]
        default = "required" if fields[key].is_required() else written(value)
        yield f"| `{path}.{key}` | {kind(value, schema)} | {default} | {described(value, schema)} |\n"
        yield from rows(f"{path}.{key}", value, schema)


def steps(schema):
    """What is below a list, a mapping with names in mappings, or a choice of types."""
    if "items" in schema:
        yield "[]", schema["items"]
    if schema.get("additionalProperties"):
        yield ".*", schema["additionalProperties"]
    for variant in schema.get("anyOf", ()):
        yield "", variant


def resolved(value, schema):
    return schema["$defs"][value["$ref"].rpartition("/")[2]] if "$ref" in value else value


def described(value, schema):
    return value.get("description") or resolved(value, schema)["description"]


def written(value):
    """The default; none for a section, whose keys have their own."""
    default = value.get("default")
    if default is None or isinstance(default, dict):
        return ""
    return f"`{default}`" if default and isinstance(default, str) else f"`{json.dumps(default)}`"


def kind(value, schema):
    """The type in words."""
    value = resolved(value, schema)
    variants = [kind(one, schema) for one in value.get("anyOf", ()) if not is_placeholder(one)]
    if variants:
        return " or ".join(variant for variant in variants if variant != "null")
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if value.get("type") == "array":
        return f"list of {kind(value['items'], schema)}"
    if value.get("type") == "object":
        return "mapping"
    forms = (form for part, form in FORMS.items() if part in value.get("pattern", ""))
    return next(forms, value["type"].replace("string", "text"))


def is_placeholder(value):
    return value.get("pattern", "").startswith(r"\$")


if __name__ == "__main__":
    write()
