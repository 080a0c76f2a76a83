"""Open files of one process: how many it may need, and the limit of the system."""

from __future__ import annotations

import resource

from gateway.config import Config
from gateway.server.admin import MAX_CONNECTIONS
from gateway.telemetry.logs import Logger

OWN_DESCRIPTORS = 64 + MAX_CONNECTIONS


def descriptors_needed(config: Config) -> int:
    """Open files of one process: one for each connection that it may have."""
    upstreams = sum(
        upstream.max_connections * len(upstream.servers) for upstream in config.upstreams.values()
    )
    return config.server.max_connections + upstreams + OWN_DESCRIPTORS


def raise_limit(config: Config, logger: Logger) -> None:
    """Raise the soft limit of open files to one for each connection; log if the hard limit is too low."""
    needed = descriptors_needed(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed <= hard or hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    elif hard < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        logger.warning(
            "few_file_descriptors",
            limit=hard,
            needed=needed,
            message="Raise the limit of open files (ulimit -n, LimitNOFILE=) or lower max_connections.",
        )
