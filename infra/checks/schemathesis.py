#!/usr/bin/env python3
"""Holds the service to its own description: schemathesis makes requests from it, right ones and wrong ones, and checks what is
answered.

usage: schemathesis.py RUNNER [ARGUMENT...]

RUNNER is the one-machine runner, which is started on loopback with nothing kept, and ended. The environment variable
SCHEMATHESIS names the schemathesis to use, which is given the ARGUMENTs too. It runs once with each kind of credential, on the
operations that the description says it is for. What is configured, and why, is in schemathesis.toml beside this file;
schemathesis_hooks.py gives requests what cannot be made up: keys, and ids of what there is.
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
# How long one run may take, in seconds: several times what it takes.
LONGEST = 600
# A key's budget is small, a publishable one's 100 requests a minute: so many take turns.
TURNS = {"secret": 10, "publishable": 60}
# Of each run: the credential, and its scheme in the description.
RUNS = [
    ("a tenant's key", "api_key"),
    ("the operator's key", "master_key"),
    ("a secret key", "secret_key"),
    ("a publishable key", "publishable_key"),
]


@contextlib.contextmanager
def runner(binary, master):
    """The runner: its URL, and its first tenant's id and key."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "said")
        environment = {**os.environ, "MASTER_API_KEY": master, "RUST_LOG": "error"}
        with said.open("w") as output:
            process = subprocess.Popen([binary, "--port", "0", "--memory"], stdout=output, env=environment)
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
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def ask(method, url, headers, body=None):
    """The JSON that a request is answered with."""
    body = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, body, {**headers, "Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


class World:
    """What requests are made with: credentials, and one of each thing that ids name, made before anything can be deleted."""

    def __init__(self, url, tenant, key, master):
        self.url = url
        operator, alice = {"X-Master-Key": master}, {"X-API-Key": key, "X-User-Id": "alice"}
        self.limit(tenant, operator)
        # Several sets of headers take turns.
        self.credentials = {"api_key": [alice], "master_key": [operator]}
        self.ids = {"api_key": self.things(tenant, alice)}
        self.ids["master_key"] = self.ids["api_key"]
        for kind, count in TURNS.items():
            # A tenant of its own, whose agents are never given a provider's key, and ask nobody outside.
            team = ask("POST", f"{url}/admin/tenants", operator, {"name": kind})["tenant_id"]
            self.limit(team, operator)
            self.credentials[f"{kind}_key"] = [self.key(team, kind, operator) for _ in range(count)]
            self.ids[f"{kind}_key"] = self.chat(self.key(team, "secret", operator))

    def limit(self, tenant, operator):
        limits = {"rate_limit": 1_000_000, "publishable_list_scope": "team"}
        ask("PATCH", f"{self.url}/admin/tenants/{tenant}", operator, limits)

    def key(self, team, kind, operator):
        # The operator's own budget is 100 requests a second.
        time.sleep(0.011)
        body = {"kind": kind, "name": "schemathesis"}
        return {"x-api-key": ask("POST", f"{self.url}/admin/tenants/{team}/api-keys", operator, body)["api_key"]}

    def chat(self, server):
        agent = ask("POST", f"{self.url}/agent", server, {"name": "Guide"})["id"]
        chat = ask("POST", f"{self.url}/chat", server, {"agentId": agent})["id"]
        return {"agent_id": agent, "agentId": agent, "chatId": chat}

    def things(self, tenant, alice):
        def made(path, body, name):
            return ask("POST", self.url + path, alice, body)[name]

        room = made("/rooms", {"type": "group", "members": ["alice", "bob"]}, "room_id")
        notification = {"topic": "order.shipped", "payload": {}, "targets": {"user_ids": ["bob"]}}
        return {
            "tenant_id": tenant,
            "room_id": room,
            "message_id": made(f"/rooms/{room}/messages", {"content": "Hello"}, "message_id"),
            "notification_id": made("/notify", notification, "notification_id"),
            # A name that leads nowhere: nobody outside is asked.
            "endpoint_id": made("/webhooks", {"url": "https://nobody.invalid/"}, "endpoint_id"),
        }


def operations(url, scheme):
    """The names of the operations that the credential of `scheme` is for."""
    description = ask("GET", f"{url}/openapi.json", {})
    for operation in (each for path in description["paths"].values() for each in path.values()):
        choices = operation.get("security", description["security"])
        if any(scheme in choice for choice in choices):
            yield operation["operationId"]


def run(world, scheme):
    """Whether schemathesis finds nothing."""
    command = [os.environ["SCHEMATHESIS"], "--config-file", HERE / "schemathesis.toml"]
    command += ["run", f"{world.url}/openapi.json", *sys.argv[2:]]
    for name in operations(world.url, scheme):
        command += ["--include-operation-id", name]
    headers = world.credentials[scheme]
    # The checks of authentication know by these what to leave out.
    for name, value in headers[0].items():
        command += ["--header", f"{name}: {value}"]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py"),
        "PARLANCE_TURNS": json.dumps(headers),
        "PARLANCE_IDS": json.dumps(world.ids[scheme]),
    }
    # Where it would leave its reports and caches.
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(command, cwd=folder, env=environment, timeout=LONGEST).returncode == 0


def main(binary):
    # Whoever ends this ends the runner too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    master = "mk_" + secrets.token_hex(32)
    with runner(binary, master) as started:
        world = World(*started, master)
        failed = [name for name, scheme in RUNS if not run(world, scheme)]
    if failed:
        raise SystemExit(f"schemathesis found something with {', '.join(failed)}")


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
