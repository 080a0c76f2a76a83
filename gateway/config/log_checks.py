"""Checks that compare the keys of `logs` with each other, on the tree, like `checks` (pure)."""

from __future__ import annotations

from gateway.config.log_fields import OTHER_FIELDS, REQUEST_FIELDS
from gateway.config.problems import Mistakes
from gateway.config.tree import Node
from gateway.config.values import share


def check_logs(root: Node, mistakes: Mistakes) -> None:
    """Note what would put two values under one name, or has no effect."""
    rename, drop = root.at("logs", "fields", "rename"), root.at("logs", "fields", "drop")
    renamed = {} if rename is None else rename.entries
    dropped = {node.text: node for node in (drop.items if drop is not None else ())}
    kept = (REQUEST_FIELDS | OTHER_FIELDS) - renamed.keys() - dropped.keys()
    taken: dict[str, str] = {}
    for name, node in renamed.items():
        new = node.text or ""
        if name in dropped:
            mistakes.add(
                node.line,
                node.path,
                "is under drop as well: leave it out here, or there",
            )
        elif new == name:
            mistakes.add(
                node.line, node.path, "is the name that the field has: leave it out, or write another one"
            )
        elif new in kept:
            message = f"is the name of another field: write another one, or drop or rename {new} too"
            mistakes.add(node.line, node.path, message)
        elif new and new in taken:
            message = f"is the new name of {taken[new]} already: write another one"
            mistakes.add(node.line, node.path, message)
        taken.setdefault(new, name)
    if "sample" in dropped and _is_sampled(root):
        node = dropped["sample"]
        message = "says how many successes each line stands for, as logs.sample leaves some out: remove it from drop"
        mistakes.warn(node.line, node.path, message)
    if (renamed or dropped) and root.text_at("logs", "format") == "console":
        place = root.place_of("logs", "fields")
        mistakes.warn(*place, "has no effect on lines for reading: write format: json, or leave it out")


def _is_sampled(root: Node) -> bool:
    """Whether some successes are logged, and some are not."""
    try:
        return 0 < share(root.text_at("logs", "sample") or "1") < 1
    except ValueError:
        return False
