"""The parser of the command line: commands, options, defaults, examples. What a command does is in `cli`.

Each command sets `command` to its name. Those of `keys` also set `call`, which calls the method of `KeysCommand`, and
`shows_key`: whether their output has the text of a key.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

from gateway import __version__
from gateway.auth.keys_owner import Owner, parse_owner
from gateway.config.addresses import ADMIN_LISTEN, LISTEN
from gateway.health import add_health_options
from gateway.init.arguments import add_flows_options, add_init_options
from gateway.options import add_admin_listen, add_config, listen_address, listener

DAY = 86400.0
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no public name


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of examples, and one line for each command of any name."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


def command_line() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(
        prog="flowise-gateway",
        description="A streaming gateway in front of Flowise.",
        epilog="`flowise-gateway COMMAND --help` shows options, defaults and examples of a command.",
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_check(commands)
    _add_init(commands)
    _add_flows(commands)
    _add_doctor(commands)
    _add_health(commands)
    _add_schema(commands)
    keys = commands.add_parser(
        "keys", help="create, list, revoke and rotate API keys", formatter_class=_Formatter
    )
    _add_keys(keys.add_subparsers(required=True, metavar="COMMAND"))
    _add_demo(commands)
    _add_completion(commands)
    return parser


def _add(commands: Commands, name: str, summary: str, *examples: str) -> argparse.ArgumentParser:
    """A command, with examples below its options."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n".join(("examples:", *(f"  {example}" for example in examples))),
        formatter_class=_Formatter,
    )
    parser.set_defaults(command=name)
    return parser


def _add_serve(commands: Commands) -> None:
    parser = _add(
        commands,
        "serve",
        "run the gateway",
        "flowise-gateway serve --config gateway.yaml",
        "flowise-gateway serve --config gateway.yaml --listen 0.0.0.0:8080 --workers 4",
        "FLOWISE_URL=http://127.0.0.1:3000 GATEWAY_AUTH=anonymous GATEWAY_ROUTES=support=ID flowise-gateway serve",
    )
    add_config(parser)
    parser.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that share the port; default: server.workers, or 1",
    )
    parser.add_argument(
        "--listen",
        action="append",
        type=listener,
        metavar="ADDRESS",
        help="HOST:PORT of the public port, or unix:/PATH of a socket; may be repeated; default: server.listen,"
        f" or {LISTEN}",
    )
    add_admin_listen(parser, f"admin.listen, or {ADMIN_LISTEN}")


def _add_check(commands: Commands) -> None:
    summary = "validate a configuration and print every mistake"
    parser = _add(
        commands,
        "check",
        summary,
        "flowise-gateway check --config gateway.yaml",
        "flowise-gateway check --allow-unset --config gateway.yaml",
    )
    add_config(parser)
    parser.add_argument(
        "--allow-unset",
        action="store_true",
        help="pass although variables are not set, or files of secrets not there, that `serve` needs; default: do not",
    )


def _add_init(commands: Commands) -> None:
    parser = _add(
        commands,
        "init",
        "write a configuration for chatflows of a Flowise",
        "FLOWISE_API_KEY=KEY flowise-gateway init --flowise http://127.0.0.1:3000",
        "flowise-gateway init --flowise http://127.0.0.1:3000 --flow Support --public --origin https://app.example.com",
    )
    add_init_options(parser)


def _add_flows(commands: Commands) -> None:
    example = "FLOWISE_API_KEY=KEY flowise-gateway flows --flowise http://127.0.0.1:3000"
    add_flows_options(_add(commands, "flows", "list the chatflows of a Flowise", example))


def _add_doctor(commands: Commands) -> None:
    parser = _add(
        commands,
        "doctor",
        "examine Flowise, store, issuers and machine of a configuration",
        "flowise-gateway doctor --config gateway.yaml",
        "flowise-gateway doctor --config gateway.yaml --ask 'Hello!'",
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="as a JSON object; default: a table")
    parser.add_argument("--strict", action="store_true", help="end with 1 after a warning too")
    parser.add_argument(
        "--ask",
        default="",
        metavar="TEXT",
        help="also ask each chatflow, and measure its answer; default: do not",
    )


def _add_health(commands: Commands) -> None:
    parser = _add(
        commands,
        "health",
        "ask a running gateway whether it is ready",
        "flowise-gateway health --config gateway.yaml",
        "flowise-gateway health --admin-listen 127.0.0.1:9090",
    )
    add_health_options(parser)


def _add_schema(commands: Commands) -> None:
    summary = "print the JSON Schema of the configuration"
    _add(commands, "schema", summary, "flowise-gateway schema > gateway.schema.json")


def _add_demo(commands: Commands) -> None:
    parser = _add(
        commands,
        "demo",
        "run the gateway on a built-in Flowise simulator",
        "flowise-gateway demo",
        "flowise-gateway demo --listen 127.0.0.1:9000",
    )
    parser.add_argument(
        "--listen",
        type=listen_address,
        default=LISTEN,
        metavar="HOST:PORT",
        help="address of the public port; default: %(default)s",
    )


def _add_completion(commands: Commands) -> None:
    parser = _add(
        commands,
        "completion",
        "print a script that completes commands and options",
        "source <(flowise-gateway completion bash)",
        "flowise-gateway completion zsh > ~/.zfunc/_flowise-gateway",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="bash, zsh or tcsh")


def _add_keys(commands: Commands) -> None:
    for parser in (_add_create(commands), _add_list(commands), _add_revoke(commands), _add_rotate(commands)):
        add_config(parser)
        parser.set_defaults(command="keys")


def _add_owner(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--owner",
        type=_owner,
        metavar="USER[:GROUP]",
        help="user of the gateway that gets the file, and group that may read it; default: the owner stays,"
        " and a new file gets that of its folder",
    )


def _add_create(commands: Commands) -> argparse.ArgumentParser:
    parser = _add(
        commands,
        "create",
        "create a key; its secret is shown once",
        "flowise-gateway keys create --name backend --config gateway.yaml",
        "flowise-gateway keys create --name service --owner root:10001 --config gateway.yaml",
        "flowise-gateway keys create --name trial --routes support,sales --expires 90d --config gateway.yaml",
    )
    parser.add_argument("--name", required=True, metavar="N", help="unique name of the caller; required")
    parser.add_argument(
        "--routes", type=_names, default=[], metavar="A,B", help="routes that the key may use; default: all"
    )
    parser.add_argument("--expires", type=_lifetime, metavar="90d", help="lifetime; default: unlimited")
    _add_owner(parser)
    parser.set_defaults(
        call=lambda keys, given: keys.create(given.name, given.routes, given.expires), shows_key=True
    )
    return parser


def _add_list(commands: Commands) -> argparse.ArgumentParser:
    parser = _add(
        commands,
        "list",
        "list all keys, without their secrets",
        "flowise-gateway keys list --config gateway.yaml",
        "flowise-gateway keys list --json --config gateway.yaml",
    )
    parser.add_argument("--json", action="store_true", help="as a JSON array; default: a table")
    parser.set_defaults(
        call=lambda keys, given: keys.list_json() if given.json else keys.list(), shows_key=False
    )
    return parser


def _add_revoke(commands: Commands) -> argparse.ArgumentParser:
    parser = _add(
        commands,
        "revoke",
        "revoke a key; its streams and session tokens end at once",
        "flowise-gateway keys revoke 4Kd81fPq --config gateway.yaml",
    )
    parser.add_argument("id", metavar="ID", help="the 8 characters after the key's fgw_")
    _add_owner(parser)
    parser.set_defaults(call=lambda keys, given: keys.revoke(given.id), shows_key=False)
    return parser


def _add_rotate(commands: Commands) -> argparse.ArgumentParser:
    parser = _add(
        commands,
        "rotate",
        "replace a key; the old one stays valid for a grace period",
        "flowise-gateway keys rotate 4Kd81fPq --config gateway.yaml",
        "flowise-gateway keys rotate 4Kd81fPq --grace 0s --config gateway.yaml",
    )
    parser.add_argument("id", metavar="ID", help="the 8 characters after the key's fgw_")
    parser.add_argument(
        "--grace",
        type=_grace,
        default=DAY,
        metavar="24h",
        help="how long the old key stays valid; default: 24h, 0s: not at all",
    )
    _add_owner(parser)
    parser.set_defaults(call=lambda keys, given: keys.rotate(given.id, given.grace), shows_key=True)
    return parser


def _workers(text: str) -> int:
    from gateway.config.values import whole  # noqa: PLC0415 - large, and not without this option

    try:
        return whole(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}') from None


def _owner(text: str) -> Owner:
    try:
        return parse_owner(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}') from None


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError("has an empty name; write it like support,sales")
    return names


def _lifetime(text: str) -> float:
    from gateway.config.values import positive_duration  # noqa: PLC0415 - large, and not without this option

    return _seconds(text, positive_duration)


def _grace(text: str) -> float:
    from gateway.config.values import parse_duration  # noqa: PLC0415 - large, and not without this option

    return _seconds(text, parse_duration)


def _seconds(text: str, parse: Callable[[str], float]) -> float:
    """Keep the message of a ValueError, which argparse would drop."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}') from None
