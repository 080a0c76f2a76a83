"""The steps of `init` and `flows`: ask Flowise, choose, write, and say what comes next."""

from __future__ import annotations

import argparse
import asyncio
import math
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from msgspec import Struct
from msgspec.structs import replace

from gateway.auth.key_format import hash_of, make_key, parse_key
from gateway.auth.keys_edit import KeysFileEditor
from gateway.auth.keys_model import ApiKey
from gateway.command_errors import CannotRunError
from gateway.config import Url
from gateway.config.values import header_secret
from gateway.flowise.chatflows import Chatflow
from gateway.init import files, listing
from gateway.init.choice import by_name, by_number
from gateway.init.files import Plan, RouteAccess
from gateway.init.next_steps import next_steps
from gateway.init.refusal import InitRefusedError
from gateway.init.writing import refuse_existing, write_new
from gateway.printable import printable
from gateway.records import DiscreetRecord
from gateway.upstream.flowise_admin import Advice, FlowiseAdmin, FlowiseQueryError
from gateway.upstream.pool import tls_context

CONFIG, ENVIRONMENT, KEYS = "gateway.yaml", ".env", "keys.yaml"
FIRST_KEY = "first"
T = TypeVar("T")
_ADVICE = Advice(
    authority="Set SSL_CERT_FILE to the file of its authority, here and where the gateway runs.",
    key=f"give it with --api-key or in {files.KEY}",
)


def flows(given: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """Run `flows`; returns what to print.

    Raises:
        CannotRunError: Flowise cannot be asked, or has none.
        InitRefusedError: the key in the environment cannot be one.
    """
    admin = _flowise(given, environ).admin()
    return _run(show_chatflows(admin, as_json=given.json))


def init(given: argparse.Namespace, environ: Mapping[str, str], ask: Callable[[str], str] | None) -> str:
    """Run `init`; returns what to print. `ask`: as for `Init.choose`.

    Raises:
        CannotRunError: Flowise cannot be asked, or the files cannot be written.
        InitRefusedError: the arguments do not fit each other, or what Flowise has.
    """
    if given.public and not given.origin:
        raise InitRefusedError(
            "--public needs --origin URL for each page that may call, or --origin '*' for all"
        )
    flowise = _flowise(given, environ)
    access = RouteAccess(given.public, tuple(given.origin))
    command = Init(flowise, Wanted(given.out, access, tuple(given.flow), given.all, given.dry_run))
    command.check()
    found = _run(list_chatflows(flowise.admin()))
    chosen = command.choose(found, ask)
    left_out = [flow for flow in found if not flow.answers_predictions]
    streaming = _run(streaming_of(flowise.admin(), chosen))
    plan = files.plan(flowise.url, access, chosen, command.secrets(secrets.choice), environ)
    return command.write(replace(plan, streaming=streaming), left_out, secrets.choice, time.time())


def _flowise(given: argparse.Namespace, environ: Mapping[str, str]) -> Flowise:
    if given.api_key is not None:
        return Flowise(given.flowise, given.api_key)
    try:
        return Flowise(given.flowise, header_secret(environ.get(files.KEY, "")).get_secret_value())
    except ValueError as error:
        raise InitRefusedError(f"{files.KEY} {error}") from None


def _run(command: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(command)


class Flowise(DiscreetRecord, frozen=True):
    """Where Flowise is, and the key that may list its chatflows; empty: none."""

    url: Url
    api_key: str

    def admin(self) -> FlowiseAdmin:
        """Reads the certificates of the system, so create it before the event loop runs."""
        tls = tls_context(None) if self.url.scheme == "https" else None
        return FlowiseAdmin(self.url, self.api_key, tls, advice=_ADVICE)


async def list_chatflows(admin: FlowiseAdmin) -> tuple[Chatflow, ...]:
    """Every chatflow, by name.

    Raises:
        CannotRunError: Flowise cannot be asked, or has none.
    """
    try:
        async with admin:
            await admin.greet()
            found = await admin.chatflows()
    except FlowiseQueryError as error:
        raise CannotRunError(str(error)) from None
    if not found:
        raise CannotRunError(
            f"{admin.url} has no chatflows in the workspace of this key. Create one, or use the key of another."
        )
    return tuple(sorted(found, key=lambda flow: (flow.name.casefold(), flow.id)))


async def streaming_of(admin: FlowiseAdmin, chatflows: Sequence[Chatflow]) -> frozenset[str]:
    """The ids of those that stream.

    Raises:
        CannotRunError: Flowise cannot be asked.
    """
    try:
        async with admin:
            return frozenset([flow.id for flow in chatflows if await admin.is_streaming(flow.id)])
    except FlowiseQueryError as error:
        raise CannotRunError(str(error)) from None


async def show_chatflows(admin: FlowiseAdmin, *, as_json: bool) -> str:
    """What `flows` prints.

    Raises:
        CannotRunError: as `list_chatflows`.
    """
    found = await list_chatflows(admin)
    streaming = await streaming_of(admin, found)
    return (listing.as_json if as_json else listing.as_table)(found, streaming)


class Wanted(Struct, frozen=True):
    """What `init` was asked for. `names`: of chatflows; empty, and not `is_all`: ask on the terminal."""

    folder: Path
    access: RouteAccess
    names: tuple[str, ...] = ()
    is_all: bool = False
    is_dry: bool = False


class Init:
    """The command `init`, once the chatflows are known."""

    def __init__(self, flowise: Flowise, wanted: Wanted) -> None:
        self._flowise = flowise
        self._wanted = wanted

    def check(self) -> None:
        """Before anything is asked: nothing may be overwritten.

        Raises:
            CannotRunError: one of the files exists.
        """
        if not self._wanted.is_dry:
            refuse_existing(self._wanted.folder, dict.fromkeys(self._file_names))

    @property
    def _file_names(self) -> tuple[str, ...]:
        return (CONFIG, ENVIRONMENT) if self._wanted.access.is_public else (CONFIG, ENVIRONMENT, KEYS)

    def choose(self, found: Sequence[Chatflow], ask: Callable[[str], str] | None) -> list[Chatflow]:
        """The chatflows to serve. `ask`: shows a text and reads a line; None: there is no terminal.

        Raises:
            InitRefusedError: no choice, or one that Flowise does not have.
        """
        usable = [flow for flow in found if flow.answers_predictions]
        if not usable:
            raise InitRefusedError(
                "Every chatflow is started by a webhook or a schedule. Create one that is started by a chat."
            )
        try:
            if self._wanted.names:
                return by_name(found, self._wanted.names)
            if self._wanted.is_all:
                return usable
            if ask is None:
                raise InitRefusedError("There is no terminal to ask. Write --all, or --flow NAME for each.")
            return self._ask(usable, ask)
        except ValueError as error:
            raise InitRefusedError(str(error)) from None

    def _ask(self, usable: Sequence[Chatflow], ask: Callable[[str], str]) -> list[Chatflow]:
        prompt = f"{listing.numbered(usable)}\nWhich of them? Numbers like 1,3-5, or all: "
        while True:
            try:
                return by_number(usable, ask(prompt))
            except ValueError as error:
                prompt = f"{error}: "
            except EOFError:
                raise InitRefusedError("Nothing is chosen. Write --all, or --flow NAME for each.") from None

    def secrets(self, choose: Callable[[str], str]) -> dict[str, str]:
        """A fresh secret of the gateway, and the key for Flowise. `choose`: as for `write`."""
        secret = "".join(choose("0123456789abcdef") for _ in range(64))
        return {files.SECRET: secret, files.KEY: self._flowise.api_key}

    def write(
        self, plan: Plan, left_out: Sequence[Chatflow], choose: Callable[[str], str], now: float
    ) -> str:
        """Write the files; returns what to print, with the key of the new keys file.

        Args:
            plan: what to write.
            left_out: the chatflows that answer no predictions.
            choose: picks a letter at random, like `secrets.choice`.
            now: seconds since the epoch.

        Raises:
            CannotRunError: nothing was written.
        """
        if self._wanted.is_dry:
            return self._shown(plan, left_out)
        key, keys_text = first_key(FIRST_KEY, choose, now)
        texts = {CONFIG: (files.config_text(plan), 0o644), ENVIRONMENT: (files.environment_text(plan), 0o600)}
        if not self._wanted.access.is_public:
            texts[KEYS] = (keys_text, 0o600)
        write_new(self._wanted.folder, texts)
        return "\n".join([*_summary(plan, texts, self._wanted.folder, left_out), *self._steps(plan, key)])

    def _shown(self, plan: Plan, left_out: Sequence[Chatflow]) -> str:
        """What `--dry-run` prints: the files, without a secret."""
        parts = [
            f"# {self._wanted.folder / CONFIG}\n{files.config_text(plan)}",
            f"# {self._wanted.folder / ENVIRONMENT}\n{files.environment_text(plan, is_hidden=True)}",
        ]
        return "\n".join([*parts, *_left_out(left_out), "Nothing was written."])

    def _steps(self, plan: Plan, key: str) -> list[str]:
        folder = self._wanted.folder
        environment = folder / ENVIRONMENT
        path = str(environment) if environment.is_absolute() else f"./{environment}"
        load = f"set -a; . {shlex.quote(path)}; set +a"
        serve = f"{_program()} serve --config {shlex.quote(str(folder / CONFIG))}"
        return next_steps(plan, f"{load}\n{serve}", path, "" if plan.access.is_public else key)


def _program() -> str:
    """How this program was called, for lines that are copied into a shell."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m gateway"
    is_on_path = shutil.which(called.name) == str(called)
    return shlex.quote(called.name if is_on_path else str(called))


def first_key(name: str, choose: Callable[[str], str], now: float) -> tuple[str, str]:
    """A new API key for all routes, and the text of a keys file with its hash."""
    key = make_key(choose)
    entry = ApiKey.model_construct(
        id=parse_key(key),
        name=name,
        hash=hash_of(key),
        created=float(math.floor(now)),
        expires=None,
        routes=(),
        limits=(),
    )
    editor = KeysFileEditor("", ())
    editor.add(entry)
    return key, editor.text


def _summary(
    plan: Plan, written: Mapping[str, object], folder: Path, left_out: Sequence[Chatflow]
) -> list[str]:
    rows = [("ROUTE", "CHATFLOW", "KIND", "STREAMING")]
    rows += [
        (
            route.name,
            printable(route.flow.name),
            listing.kind_of(route.flow),
            "yes" if route.flow.id in plan.streaming else "no",
        )
        for route in plan.routes
    ]
    where = "the current folder" if folder == Path() else str(folder)
    return [listing.table(rows), "", *_left_out(left_out), f"Wrote {', '.join(written)} into {where}."]


def _left_out(left_out: Sequence[Chatflow]) -> list[str]:
    """A line that names the chatflows that answer no predictions; none if there are none."""
    if not left_out:
        return []
    names = ", ".join(f"{printable(flow.name)} ({flow.trigger})" for flow in left_out)
    return [f"Left out, because a webhook or a schedule starts them and they answer no predictions: {names}."]
