"""Programs that some tests run and that no wheel brings. A test without its program is skipped."""

from __future__ import annotations

import shutil

import pytest

PACKAGES = {
    "caddy": "caddy",
    "chromium": "chromium",
    "curl": "curl",
    "haproxy": "haproxy",
    "kubectl": "kubectl",
    "logrotate": "logrotate",
    "mount": "mount",
    "nginx": "nginx",
    "node": "nodejs",
    "prometheus": "prometheus",
    "setpriv": "util-linux",
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
}


def program(name: str, *other_names: str) -> str:
    """The path of a program; skips the test with the Debian package to install if it is missing."""
    for each in (name, *other_names):
        if (path := shutil.which(each)) is not None:
            return path
    return pytest.skip(f"needs {name} (Debian package {PACKAGES[name]})")
