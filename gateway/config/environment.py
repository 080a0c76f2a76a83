"""From environment variables alone to a tree as of a file: one Flowise, some routes that share their keys (pure).

Mistakes are found in the tree by the key that they are about; here they get the name of the variable instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from gateway.config.problems import INIT, Mistake, Mistakes, did_you_mean, quote
from gateway.config.tree import UNWANTED, Node, Scalar, ScalarKind, quoted_scalar

PREFIX = "GATEWAY_"
UPSTREAM = "main"
ROUTES = "GATEWAY_ROUTES"
EXAMPLE_ROUTES = "support=2c5e8d0a-1111-4222-8333-444455556666"
# what Kubernetes sets in every container beside a service named "gateway"
_OF_KUBERNETES = re.compile(r"GATEWAY_(SERVICE_(HOST|PORT)(_\w+)?|PORT(_[0-9]+_\w+)?)")
_INDEX = re.compile(r"routes\[([0-9]+)\]")
_BROKEN = Scalar("", ScalarKind.BROKEN, "")


class Variable(Struct, frozen=True):
    """One environment variable.

    Attributes:
        name: as it is set.
        keys: the path of the key that it stands for; below a list, the first entry.
        description: what it is, for the documentation; ends with an example where the form is not obvious.
        is_list: the value is split at commas.
        is_required: there is no configuration without it.
    """

    name: str
    keys: tuple[str | int, ...]
    description: str
    is_list: bool = False
    is_required: bool = False

    @property
    def path(self) -> str:
        """The key as messages write it."""
        return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys).lstrip(".")


VARIABLES = (
    Variable(
        "FLOWISE_URL",
        ("upstreams", UPSTREAM, "servers", 0, "url"),
        "the URL of Flowise, like `http://flowise:3000`",
        is_required=True,
    ),
    Variable("FLOWISE_API_KEY", ("upstreams", UPSTREAM, "api_key"), "sent with every request to Flowise"),
    Variable(
        ROUTES,
        ("routes",),
        f"name and chatflow id of each route, like `{EXAMPLE_ROUTES}`, with commas between them",
        is_required=True,
    ),
    Variable(
        "GATEWAY_AUTH",
        ("defaults", "auth"),
        "what all routes accept: `anonymous`, or with commas any of `api_key`, `session`, `jwt`, `upstream`",
        is_list=True,
        is_required=True,
    ),
    Variable(
        "GATEWAY_CORS_ORIGINS",
        ("defaults", "cors", "origins"),
        "the pages that may call, like `https://app.example.com`, with commas between them",
        is_list=True,
    ),
    Variable(
        "GATEWAY_SECRET",
        ("auth", "secret"),
        "signs session tokens, derives conversation ids; 32 bytes or more",
    ),
    Variable("GATEWAY_KEYS_FILE", ("auth", "keys_file"), "the file of API keys; without it there are none"),
    Variable("GATEWAY_JWT_ISSUER", ("auth", "jwt", 0, "issuer"), "who signs the JSON Web Tokens"),
    Variable("GATEWAY_JWT_AUDIENCE", ("auth", "jwt", 0, "audience"), "the audience that they must name"),
    Variable("GATEWAY_JWT_JWKS_URL", ("auth", "jwt", 0, "jwks_url"), "where the issuer publishes its keys"),
    Variable(
        "GATEWAY_LISTEN",
        ("server", "listen"),
        "HOST:PORT of the public port, like `0.0.0.0:8080`, or `unix:/PATH` of a socket, with commas between several",
        is_list=True,
    ),
    Variable(
        "GATEWAY_TLS_CERTIFICATE",
        ("server", "tls", "certificate"),
        "the file with the certificate of the public port and those of its issuers",
    ),
    Variable("GATEWAY_TLS_KEY", ("server", "tls", "key"), "the file with the certificate's private key"),
    Variable("GATEWAY_WORKERS", ("server", "workers"), "processes that share the port"),
    Variable(
        "GATEWAY_TRUSTED_PROXIES",
        ("server", "trusted_proxies"),
        "networks whose forwarding headers are believed, like `10.0.0.0/8`, with commas between them",
        is_list=True,
    ),
    Variable("GATEWAY_ADMIN_LISTEN", ("admin", "listen"), "HOST:PORT of the admin port"),
    Variable("GATEWAY_ADMIN_TOKEN", ("admin", "token"), "bearer token of the admin port"),
    Variable("GATEWAY_LIMITS_STORE", ("limits", "store"), "`memory`, or `redis://HOST:PORT/0`"),
    Variable("GATEWAY_LOG_FORMAT", ("logs", "format"), "`auto`, `json` or `console`"),
    Variable("GATEWAY_LOG_LEVEL", ("logs", "level"), "`debug`, `info`, `warning` or `error`"),
    Variable(
        "GATEWAY_TRACES_RATIO",
        ("traces", "ratio"),
        "the share of requests whose traces are exported, like `0.1`; without it there are no traces",
    ),
)
_BY_PATH = {variable.path: variable.name for variable in VARIABLES}
_NAMES = _BY_PATH.values()
_PLACE = r"\}?( at the top level| in the top-level section \w+| in place of the \w+ in line [0-9]+)?"
_IN_OTHER_WORDS = (  # what a message says to the author of a file
    (r'write (\w+: \{)?\w+: "\$\{\w+\}"\}?( at the top level)? and set that variable', "set it"),
    (r", or write listen: (\S+)", r", or set GATEWAY_ADMIN_LISTEN to \1"),
    (rf", or (server: \{{)?workers: 1{_PLACE}", ", or set GATEWAY_WORKERS to 1"),
    (rf"write (limits: \{{)?store: (\S+?)\}}?{_PLACE}(?=,)", r"set GATEWAY_LIMITS_STORE to \2"),
    (r"(?<=needs an issuer: ).*", "set GATEWAY_JWT_ISSUER, GATEWAY_JWT_AUDIENCE and GATEWAY_JWT_JWKS_URL"),
    (r"write keys_file: .*", "set it, for example to keys.yaml"),
    (r'write for example \w+: "(.*)"$', r"set it, for example to \1"),
    (r", in line ([0-9]+)", r", entry \1 of this variable"),
    (
        r"is missing: write the file of the certificate's (.*), like key: (\S+)",
        r"is not set, and GATEWAY_TLS_CERTIFICATE is: set it to the file of the certificate's \1, like \2",
    ),
    (
        r"is missing: write the file of the certificate that (.*), like certificate: (\S+)",
        r"is not set, and GATEWAY_TLS_KEY is: set it to the file of the certificate that \1, like \2",
    ),
    (
        r"^is for HOST:PORT, (.*), or leave tls out",
        r"GATEWAY_TLS_CERTIFICATE and GATEWAY_TLS_KEY are for HOST:PORT, \1, or leave both out",
    ),
    (r"relative to the configuration file", "relative to the working folder"),
    (r"; without a proxy in front .*", ""),
    (r"belongs in api_key$", "belongs in FLOWISE_API_KEY"),
    *((rf"(?<![\w.]){re.escape(path)}(?![\w.])", name) for path, name in _BY_PATH.items() if "." in path),
)


def environment_tree(environ: Mapping[str, str], mistakes: Mistakes) -> Node:
    """The tree of the variables that are set; an empty one counts as not set."""
    given = {name: environ[name] for name in _NAMES if environ.get(name)}
    if not given:
        required = [variable.name for variable in VARIABLES if variable.is_required]
        ways = f"write --config FILE, or set {', '.join(required)}; {INIT} writes such a file"
        mistakes.add(0, "", f"there is no configuration: {ways}")
    root = Node("", 0, {})
    for variable in VARIABLES:
        if (text := given.get(variable.name)) is not None:
            root = _with(root, variable.keys, _value(variable, text, mistakes))
        elif variable.is_required:
            if given:
                mistakes.add(0, variable.path, f"is not set: it is {variable.description}")
            root = _with(root, variable.keys, _BROKEN)
    if root.at("auth", "keys_file") is None:  # a file that is in the working folder by chance is not meant
        root = _with(root, ("auth", "keys_file"), quoted_scalar(""))
    for name in environ:
        if name.startswith(PREFIX) and name not in _NAMES and not _OF_KUBERNETES.fullmatch(name):
            mistakes.add(0, name, f"is not a variable that is read: {did_you_mean(name, _NAMES)}")
    return root


def variable_of(mistake: Mistake) -> Mistake:
    """The same mistake with the name of the variable in the place of file, line and key."""
    name, message = _name(mistake.key), mistake.message
    for said, instead in _IN_OTHER_WORDS:
        message = re.sub(said, instead, message)
    if name == ROUTES and (entry := _INDEX.match(mistake.key)):
        key = mistake.key.partition("].")[2]
        message = f"entry {int(entry[1]) + 1}{key and ', '}{key}: {message}"
    return Mistake(name, 0, "", message, mistake.kind)


def _name(key: str) -> str:
    """The variable behind a key: that of the key, or of the nearest one above it that has one."""
    if key.startswith(PREFIX):
        return key
    below = key.partition("].")[2]
    if key.startswith("routes[") and below.startswith(("auth", "cors")):
        key = f"defaults.{below}"
    while key and key not in _BY_PATH:
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return _BY_PATH.get(key, "environment")


def _value(variable: Variable, text: str, mistakes: Mistakes) -> Scalar | list[Node]:
    if UNWANTED.search(text):
        mistakes.add(0, variable.path, "has a control character or an unpaired surrogate: remove it")
        return _BROKEN
    if variable.name == ROUTES:
        return list(_routes(text, mistakes))
    if not variable.is_list:
        return _scalar(text)
    parts = enumerate(text.split(","))
    return [Node(f"{variable.path}[{at}]", at + 1, _scalar(part.strip())) for at, part in parts]


def _scalar(text: str) -> Scalar:
    return Scalar(text, ScalarKind.EXPANDED, text)


def _routes(text: str, mistakes: Mistakes) -> Iterator[Node]:
    """A route for each `NAME=ID`; its line is its number, from 1."""
    for at, part in enumerate(text.split(",")):
        path = f"routes[{at}]"
        name, equals, chatflow = (word.strip() for word in part.partition("="))
        if not equals:
            message = f"{quote(part.strip())} is not a route: write NAME=ID, like {EXAMPLE_ROUTES}"
            mistakes.add(at + 1, path, message)
            yield Node(path, at + 1, _BROKEN)
            continue
        texts = {"name": name, "chatflow": chatflow, "upstream": UPSTREAM}
        keys = {key: Node(f"{path}.{key}", at + 1, _scalar(text)) for key, text in texts.items()}
        yield Node(path, at + 1, keys)


def _with(node: Node, keys: Sequence[str | int], value: Scalar | list[Node]) -> Node:
    """The node with a value below it; lists on the way have one entry."""
    key, *rest = keys
    path = f"{node.path}[0]" if isinstance(key, int) else f"{node.path}.{key}".lstrip(".")
    known = node.items[0] if isinstance(key, int) and node.items else node.entries.get(str(key))
    below = known or Node(path, 0, [] if rest and isinstance(rest[0], int) else {})
    below = _with(below, rest, value) if rest else Node(path, 0, value)
    return Node(node.path, node.line, [below] if isinstance(key, int) else {**node.entries, key: below})
