#!/usr/bin/env python3
"""Holds the service to its own description: schemathesis makes requests from it, right ones and wrong ones, and checks what is
answered.

usage: schemathesis.py RUNNER

RUNNER is the one-machine runner, which is started on loopback with nothing kept, and ended. The environment variable
SCHEMATHESIS names the schemathesis to use. It runs once with each kind of credential, on the operations that this credential is
for, all of them with the same seed. What is configured, and why, is in schemathesis.toml beside this file; the requests' keys are
given by schemathesis_hooks.py.
"""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
# How long the runner may take to say that it is ready, in seconds.
PATIENCE = 60.0
# Budgets of keys are per minute, 100 requests for a publishable one: so many keys take turns.
KEYS = {"secret": 10, "publishable": 60}
# How long one run may take, in seconds: several times what it takes.
LONGEST = 300
# Of each run: the credential, and the operations.
TENANT = [
    *("Rooms", "Messages", "Delivery & Acknowledgments", "Notifications", "Webhooks", "Live"),
    *("Health & Monitoring", "Admin"),
]
RUNS = [
    ("a tenant's key and a user", "tenant", TENANT),
    ("the operator's key", "master", ["Admin"]),
    ("a secret key", "secret", ["Chats", "Agents"]),
    ("a publishable key", "publishable", ["Chats", "Agents"]),
]


@contextlib.contextmanager
def runner(binary, master):
    """The runner: its URL, and its first tenant's id and key."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "said")
        environment = {**os.environ, "MASTER_API_KEY": master, "RUST_LOG": "error"}
        with said.open("w") as output:
            process = subprocess.Popen(
                [binary, "--port", "0", "--memory"], stdout=output, env=environment, start_new_session=True
            )
        try:
            end = time.monotonic() + PATIENCE
            while "curl" not in said.read_text():
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit("the runner did not start")
                time.sleep(0.1)
            text = said.read_text()
            url = re.search(r"ready: (\S+)", text)[1]
            yield url, re.search(r"tenant_[0-9a-f]{32}", text)[0], re.search(r"\bsk_\w+", text)[0]
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def ask(method, url, body, **headers):
    """The JSON that a request is answered with."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def credentials(url, tenant, key, master):
    """The headers of each kind of credential; more than one set where budgets are small."""
    # A tenant of its own, so that no agent is ever given a provider's key, and asks somebody outside.
    team = ask("POST", f"{url}/admin/tenants", {"name": "Team"}, X_Master_Key=master)["tenant_id"]
    for each in (tenant, team):
        limits = {"rate_limit": 1_000_000, "publishable_list_scope": "team"}
        ask("PATCH", f"{url}/admin/tenants/{each}", limits, X_Master_Key=master)
    found = {
        "tenant": [{"X-API-Key": key, "X-User-Id": "alice"}],
        "master": [{"X-Master-Key": master}],
    }
    for kind, count in KEYS.items():
        body = {"kind": kind, "name": "schemathesis"}
        made = []
        for _ in range(count):
            made.append(ask("POST", f"{url}/admin/tenants/{team}/api-keys", body, X_Master_Key=master)["api_key"])
            # The operator's own budget is 100 requests a second.
            time.sleep(0.011)
        found[kind] = [{"x-api-key": text} for text in made]
    return found


def run(url, tenant, headers, tags):
    """Whether schemathesis finds nothing."""
    command = [os.environ["SCHEMATHESIS"], "--config-file", HERE / "schemathesis.toml", "run", f"{url}/openapi.json"]
    for tag in tags:
        command += ["--include-tag", tag]
    # The first one is named here, so that the checks of authentication know what to leave out.
    for name, value in headers[0].items():
        command += ["--header", f"{name}: {value}"]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py"),
        "SCHEMATHESIS_KEYS": json.dumps(headers),
        "SCHEMATHESIS_TENANT": tenant,
    }
    # Where reports and the like would be left.
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(command, cwd=folder, env=environment, timeout=LONGEST).returncode == 0


def main(binary):
    master = "mk_" + secrets.token_hex(32)
    with runner(binary, master) as (url, tenant, key):
        known = credentials(url, tenant, key, master)
        failed = [name for name, kind, tags in RUNS if not run(url, tenant, known[kind], tags)]
    if failed:
        raise SystemExit(f"schemathesis found something with {', '.join(failed)}")


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
