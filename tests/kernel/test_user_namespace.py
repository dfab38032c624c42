"""A host that is root of a user namespace only, as a rootless container that guards itself."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from support.host import BIN

pytestmark = [pytest.mark.netns]

SCRIPT = """\
set -eu
ip link set lo up
unshare -n sleep 60 & other=$!
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
ip link add wan0 type veth peer name peer0 netns $other
ip addr add 198.18.0.1/24 dev wan0
ip link set wan0 up
nsenter -n -t $other ip addr add 198.18.0.2/24 dev peer0
nsenter -n -t $other ip link set peer0 up
sentryfw install --no-service >&2
sentryfwd >&2 & daemon=$!
for _ in $(seq 100); do sentryfw status --json | grep -q '"running"' && break; sleep 0.1; done
nsenter -n -t $other python3 -c '
import socket
for port in (7001, 7002, 7003):
    made = socket.socket(); made.settimeout(0.2)
    try: made.connect(("198.18.0.1", port))
    except OSError: pass
'
sentryfw list --json
kill $daemon $other
wait $daemon
"""
"""A scan of three ports, by another network namespace of the same user namespace."""


def test_it_guards_a_user_namespace(tmp_path: Path) -> None:
    tried = subprocess.run(["unshare", "-U", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:  # as in a chroot: user_namespaces(7)
        pytest.skip(f"no user namespace can be made here: {tried.stderr.strip()}")
    config = tmp_path / "sentryfw.toml"
    places = (f'{name} = "{tmp_path / name}"' for name in ("state", "runtime", "log"))
    config.write_text("[paths]\n" + "\n".join(places) + "\n")
    done = subprocess.run(
        ["unshare", "-Urnm", "--map-root-user", "sh", "-c", SCRIPT],
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "SENTRYFW_CONFIG": str(config)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [row["address"] for row in json.loads(done.stdout)] == ["198.18.0.2"]
