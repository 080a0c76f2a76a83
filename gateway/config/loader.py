"""From a file to a `Config`, in the order things happen; each step notes its mistakes and goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.config.availability import check_availability
from gateway.config.checks import check
from gateway.config.effective import filled, with_defaults
from gateway.config.model import Config
from gateway.config.problems import ConfigError, Mistakes
from gateway.config.tree import plain_scalar, with_default
from gateway.config.validation import validate
from gateway.config.yaml_reader import read_tree


def load(path: Path, environ: Mapping[str, str], *, workers: int | None = None) -> Config:
    """The configuration of a YAML file.

    Args:
        path: the file.
        environ: where placeholders are looked up.
        workers: instead of `server.workers`; what contradicts it is a mistake as if it stood in the file.

    Raises:
        ConfigError: with every mistake of the file at once.
    """
    mistakes = Mistakes(str(path))
    written = read_tree(path, environ, mistakes)
    if written is None:
        mistakes.raise_if_any()
        raise ConfigError([])
    if workers is not None:
        written = with_default(written, ("server", "workers"), plain_scalar(str(workers)), wins=True)
    root = with_defaults(written)
    config = validate(filled(root), path.parent, mistakes)
    check(root, mistakes)
    check_availability(root, mistakes)
    mistakes.raise_if_any()
    if config is None:
        raise ConfigError([])
    return config
