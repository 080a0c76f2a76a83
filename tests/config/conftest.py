"""Configurations made of a valid one and a few lines more."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, Mistake, load

CHATFLOW = "2c5e8d0a-1111-4222-8333-444455556666"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a valid configuration with more lines at the top, in its upstream and in its route."""

    def write(top: str = "", *, upstream: str = "", route: str = "", auth: str = "[anonymous]") -> Path:
        text = (
            f"{textwrap.dedent(top)}\n"
            "upstreams:\n"
            "  main:\n"
            "    servers: [{url: http://127.0.0.1:3000}]\n"
            f"{textwrap.indent(textwrap.dedent(upstream), '    ')}\n"
            "routes:\n"
            "  - name: support\n"
            f"    chatflow: {CHATFLOW}\n"
            "    upstream: main\n"
            f"    auth: {auth}\n"
            f"{textwrap.indent(textwrap.dedent(route), '    ')}\n"
        )
        path = tmp_path / "gateway.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def loaded(write: Callable[..., Path]) -> Callable[..., Config]:
    """The configuration of such a file."""

    def loaded(top: str = "", *, environ: Mapping[str, str] | None = None, **more: str) -> Config:
        return load(write(top, **more), environ or {})

    return loaded


@pytest.fixture
def mistakes(write: Callable[..., Path]) -> Callable[..., list[Mistake]]:
    """The mistakes in such a file."""

    def mistakes(top: str = "", *, environ: Mapping[str, str] | None = None, **more: str) -> list[Mistake]:
        with pytest.raises(ConfigError) as caught:
            load(write(top, **more), environ or {})
        return caught.value.mistakes

    return mistakes


@pytest.fixture
def messages(mistakes: Callable[..., list[Mistake]]) -> Callable[..., dict[str, str]]:
    """The messages of the mistakes in such a file, by key, one per line."""

    def messages(top: str = "", **more: object) -> dict[str, str]:
        by_key: dict[str, list[str]] = {}
        for mistake in mistakes(top, **more):
            by_key.setdefault(mistake.key, []).append(mistake.message)
        return {key: "\n".join(lines) for key, lines in by_key.items()}

    return messages


@pytest.fixture
def raw_mistakes(tmp_path: Path) -> Callable[..., list[Mistake]]:
    """The mistakes in a file of just these bytes."""

    def raw_mistakes(content: bytes | str, environ: Mapping[str, str] | None = None) -> list[Mistake]:
        path = tmp_path / "gateway.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ConfigError) as caught:
            load(path, environ or {})
        return caught.value.mistakes

    return raw_mistakes
