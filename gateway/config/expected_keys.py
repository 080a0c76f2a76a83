"""Keys that people know from other gateways, and what to write here in their place (pure).

A key is compared without case, `-` and `_`: `rateLimit`, `rate-limit` and `rate_limit` are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from gateway.config.remedies import SHARED_STORE, entry_in
from gateway.config.tree import Node


class _EntryOfSection(Struct, frozen=True):
    """An entry of a top-level section; `start` begins the advice."""

    section: str
    entry: str
    start: str = "write "


_TLS = _EntryOfSection(
    "server",
    "tls: {certificate: tls.crt, key: tls.key}",
    "that of the public port has another place: put ",
)
_ACME = "the gateway obtains no certificates: let certbot or cert-manager do it, and write server.tls"
_HEALTH = "write health into an upstream; the gateway's own probes are /livez and /readyz"
_KEYS = (
    "API keys are in a file of their own: create them with `flowise-gateway keys create`, see auth.keys_file"
)
_SECTIONS = (
    "the sections are server, admin, upstreams, auth, limits, logs, metrics, traces, defaults and routes"
)
_PATHS = "remove it, clients call a route by its name, as in Flowise, at /api/v1/prediction/NAME"
_LISTEN = _EntryOfSection(
    "server", "listen: 127.0.0.1:8080", "the address and the port are one value: write "
)
_LIMITS = "limits: [{name: burst, requests: 60, per: 1m}]"
_LIMIT = f"write {_LIMITS} in its place"
_LIMIT_ELSEWHERE = f"limits belong in a route or in defaults: put {_LIMITS} there"
_TIMEOUTS = "timeouts belong in an upstream: put timeouts: {connect: 5s, head: 30s, total: 30m} there"
_NO_RETRY = "a prediction is never sent twice: leave it out"
_CORS = 'write cors: {origins: ["https://app.example.com"]}'
_SERVER_URL = "write servers: [{url: http://127.0.0.1:3000}]"
_FLOWISE_KEY = "write api_key, the key that is sent to Flowise"
_AUTH = "write auth, like auth: [api_key]"
_FIXED_CORS = "methods and headers are answered as Flowise needs them: leave it out"
_OVERRIDE = "write override_config: {allow: [sessionId]} for what clients may set"

_EVERYWHERE: Mapping[str, str | _EntryOfSection] = {
    **dict.fromkeys(("tls", "ssl", "https", "cert", "certfile", "keyfile", "certificate"), _TLS),
    **dict.fromkeys(("letsencrypt", "acme", "autotls"), _ACME),
    **dict.fromkeys(
        ("ratelimit", "ratelimits", "ratelimiting", "throttle", "quota", "quotas"), _LIMIT_ELSEWHERE
    ),
    **dict.fromkeys(("retry", "retries", "numretries", "maxretries"), _NO_RETRY),
    **dict.fromkeys(("health", "healthcheck", "healthchecks"), _HEALTH),
    **dict.fromkeys(("keys", "apikeys", "consumers", "virtualkeys", "masterkey"), _KEYS),
    **dict.fromkeys(("host", "bind", "address", "port", "listeners", "entrypoints"), _LISTEN),
    **dict.fromkeys(("timeout", "requesttimeout", "readtimeout"), _TIMEOUTS),
    **dict.fromkeys(("corsorigins", "allowedorigins", "alloworigin", "alloworigins"), _CORS),
    **dict.fromkeys(("cache", "caching"), "answers are not cached: leave it out"),
    **dict.fromkeys(("plugins", "middleware", "middlewares", "filters"), f"there are none: {_SECTIONS}"),
    **dict.fromkeys(
        ("env", "environment"),
        'remove it, and write "${NAME}" in the place of a value that the environment has',
    ),
    **dict.fromkeys(("include", "includes", "import"), "one file has everything: copy what it names here"),
    **dict.fromkeys(("redis", "database", "storage"), _EntryOfSection("limits", SHARED_STORE)),
    **dict.fromkeys(("logging", "log", "loglevel", "debug"), _EntryOfSection("logs", "level: info")),
    **dict.fromkeys(
        ("tracing", "trace", "otel", "opentelemetry", "otlp"),
        "write traces: {ratio: 1}, which needs the extra otel",
    ),
    **dict.fromkeys(
        ("prometheus", "telemetry", "monitoring"), "metrics are always at /metrics of admin.listen"
    ),
    **dict.fromkeys(("version", "apiversion", "kind"), "the file has no version: leave it out"),
}
_PLACES: Mapping[str, Mapping[str, str]] = {
    "Config": {
        **dict.fromkeys(
            ("http", "gateway", "global", "settings", "generalsettings", "routersettings"), _SECTIONS
        ),
        **dict.fromkeys(
            ("services", "backends", "backend", "clusters", "flowise", "targets"), "write upstreams"
        ),
        **dict.fromkeys(("models", "modellist", "flows", "chatflows", "endpoints", "paths"), "write routes"),
    },
    "PortTlsSettings": {
        **dict.fromkeys(
            ("cert", "certs", "crt", "certfile", "certificatefile", "fullchain"), "write certificate"
        ),
        **dict.fromkeys(("keyfile", "privatekey", "certkey", "certificatekey"), "write key"),
        **dict.fromkeys(
            ("ca", "cafile", "cacert", "clientcafile", "mtls", "clientauth"),
            "write client_ca, the authorities of the clients, which then need certificates",
        ),
        **dict.fromkeys(
            ("version", "versions", "protocols", "minimumversion"), "write min_version: 1.2, or 1.3"
        ),
    },
    "AdminSettings": dict.fromkeys(("host", "bind", "address", "port"), "write listen: 127.0.0.1:9090"),
    "UpstreamSettings": {
        **dict.fromkeys(
            ("url", "urls", "server", "target", "targets", "host", "port", "address"), _SERVER_URL
        ),
        **dict.fromkeys(("baseurl", "apihost", "nodes", "endpoint"), _SERVER_URL),
        **dict.fromkeys(
            ("key", "token", "bearer", "apikeys", "headers", "auth", "authorization"), _FLOWISE_KEY
        ),
        **dict.fromkeys(
            (
                "ca",
                "cert",
                "cacert",
                "cafile",
                "verify",
                "tlsverify",
                "sslverify",
                "insecure",
                "skipverify",
                "ssl",
            ),
            "certificates are always verified: for a private authority write tls: {ca: FILE}",
        ),
        **dict.fromkeys(
            ("loadbalancing", "loadbalancer", "strategy", "policy", "algorithm", "lb", "sticky"),
            "write balance: conversation, or balance: least_busy",
        ),
        **dict.fromkeys(("weight", "weights"), "write weight beside the url of a server"),
        **dict.fromkeys(("dns", "resolver", "servicediscovery", "discovery"), "write discover: dns"),
        **dict.fromkeys(
            ("healthcheck", "healthchecks", "probe", "activehealthchecks"),
            "write health: {path: /api/v1/ping, every: 5s}",
        ),
        **dict.fromkeys(
            ("outlierdetection", "circuitbreaker", "passivehealthchecks", "maxfails", "failtimeout"),
            "write eject: {failures: 5, within: 30s, for: 10s}",
        ),
        **dict.fromkeys(
            ("maxidle", "idletimeout", "keepalivetimeout", "keepaliverequests", "maxlifetime"),
            "write max_age: 5m; idle connections are closed before Flowise closes them",
        ),
    },
    "UpstreamServer": {
        **dict.fromkeys(("host", "port", "address", "target", "scheme"), "write url: http://127.0.0.1:3000"),
        **dict.fromkeys(("apikey", "key", "token"), "write api_key beside servers, not inside"),
        "priority": "there is none: write weight, its share relative to the other servers",
        **dict.fromkeys(("backup", "down"), "leave the server out, or write weight for a smaller share"),
    },
    "Route": {
        **dict.fromkeys(
            ("path", "paths", "uri", "prefix", "pathprefix", "match", "rule", "location"), _PATHS
        ),
        **dict.fromkeys(("stripprefix", "strippath", "rewrite", "methods", "hosts", "host"), _PATHS),
        **dict.fromkeys(
            ("target", "url", "backend", "service", "server", "proxypass"),
            "write upstream, the name of an entry in upstreams",
        ),
        **dict.fromkeys(
            ("id", "flow", "flowid", "chatflowid"), "write chatflow, the id of the chatflow in Flowise"
        ),
        **dict.fromkeys(("apikey", "key", "keys", "public", "authentication", "security", "private"), _AUTH),
        **dict.fromkeys(("origins", "corsorigins", "allowedorigins", "domains", "alloweddomains"), _CORS),
        **dict.fromkeys(
            ("stream", "streaming", "websocket"), "clients choose that in each request: leave it out"
        ),
        **dict.fromkeys(
            ("headers", "requestheaders", "responseheaders"), "header fields are fixed: leave it out"
        ),
        **dict.fromkeys(("overrides", "override"), _OVERRIDE),
        **dict.fromkeys(("upload", "files", "fileupload"), "write uploads: true"),
        **dict.fromkeys(("limit", "ratelimit", "ratelimits", "ratelimiting", "throttle", "quota"), _LIMIT),
        **dict.fromkeys(("vector", "vectorupsert", "rag"), "write upsert: true"),
        **dict.fromkeys(("tts", "texttospeech", "voice", "audio"), "write speech: true"),
        "concurrency": "write limits: [{name: open, concurrent: 4}]",
        "maxconcurrent": "write limits: [{name: open, concurrent: 4}]",
    },
    "CorsSettings": {
        **dict.fromkeys(
            ("allow", "alloworigin", "alloworigins", "allowedorigins", "domains", "origin"), "write origins"
        ),
        **dict.fromkeys(
            ("methods", "allowmethods", "allowedmethods", "headers", "allowheaders"), _FIXED_CORS
        ),
        **dict.fromkeys(("allowedheaders", "maxage", "expose"), _FIXED_CORS),
        "allowcredentials": "write credentials",
    },
    "Limit": {
        **dict.fromkeys(("rate", "limit", "max", "count", "rps", "rpm"), "write requests: 60 and per: 1m"),
        **dict.fromkeys(
            ("interval", "window", "period", "duration", "seconds", "minute"), "write per, like per: 1m"
        ),
        **dict.fromkeys(("key", "scope", "type", "keyby"), "write by: caller, by: address or by: route"),
        **dict.fromkeys(("tpm", "tokensperminute"), "write tokens: 100000 and per: 1m"),
        **dict.fromkeys(("concurrency", "parallel", "maxconcurrent"), "write concurrent: 4"),
    },
    "LimitSettings": dict.fromkeys(
        ("requests", "tokens", "concurrent", "per", "by", "burst", "rate"), _LIMIT_ELSEWHERE
    ),
    "JwtSettings": {
        **dict.fromkeys(
            ("secret", "key", "publickey", "hmac"), "only published keys are supported: write jwks_url"
        ),
        **dict.fromkeys(
            ("jwks", "jwksuri", "discovery", "wellknown"), "write jwks_url, the URL of the key set"
        ),
        **dict.fromkeys(("iss",), "write issuer"),
        **dict.fromkeys(("aud", "audiences"), "write audience"),
    },
}


def advice(section: str, key: str, root: Node, at: str) -> str:
    """What to write in place of a key that a section does not have; empty if the key is not known.

    Args:
        section: the class of the section.
        key: the key.
        root: the tree.
        at: the path of the section.
    """
    folded = fold(key)
    place = "Route" if section == "Defaults" else section
    said = _PLACES.get(place, {}).get(folded) or _EVERYWHERE.get(folded, "")
    return (
        f"{said.start}{entry_in(root, said.section, said.entry, at)}"
        if isinstance(said, _EntryOfSection)
        else said
    )


def fold(key: str) -> str:
    """The key in the form in which keys are compared."""
    return key.casefold().replace("_", "").replace("-", "")


def same_key(key: str, known: Iterable[str]) -> str:
    """The known key that differs in case, `-` and `_` only; empty if there is none."""
    return next((name for name in known if fold(name) == fold(key)), "")
