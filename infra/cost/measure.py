#!/usr/bin/env python3
"""Measures what the functions' release binaries use: CPU time, and bytes of log, for each invocation.

usage: measure.py BINARIES RUNNER > infra/cost/measured.json

BINARIES is a folder of the functions' release binaries, or where `cargo lambda build` puts them; RUNNER the one-machine runner, whose embedded stores they
use over loopback (its build does not matter: only the functions' processes are measured). Each binary runs as on
Lambda, fed with API Gateway's events by a small runtime API, one at a time. CPU is user and system time of the
process. What this leaves out is TLS: on Lambda each call to DynamoDB is encrypted, some 0.05 ms of CPU.
"""

import contextlib
import json
import os
import queue
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WARM, COUNTED = 200, 2000
MASTER = "mk_of_the_measurement_0123456789"
TABLES = ["Tenants", "Keys", "Rooms", "Messages", "Events", "Deliveries", "Guards"]
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Runtime(ThreadingHTTPServer):
    """Lambda's runtime API for one process."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.events, self.answers = queue.Queue(), queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def invoke(self, event):
        self.events.put(event)
        return self.answers.get(timeout=30)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: two would wait for each other, 40 ms.
    wbufsize = 65536
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def handle(self):
        # A process that is ended may leave in the middle.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        event = self.server.events.get()
        self.answer(
            200,
            json.dumps(event).encode(),
            Content_Type="application/json",
            Lambda_Runtime_Aws_Request_Id="0193c1a2-7b0c-7f3e-8a6d-5c4b3a291807",
            Lambda_Runtime_Deadline_Ms=str(int(time.time() * 1000) + 20_000),
            Lambda_Runtime_Invoked_Function_Arn="arn:aws:lambda:us-east-1:000000000000:function:parlance",
            Lambda_Runtime_Trace_Id="Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0",
        )

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(202)
        if self.path.endswith("/response") or self.path.endswith("/error"):
            self.server.answers.put((self.path.rsplit("/", 1)[1], json.loads(body or b"null")))


def http_event(method, path, key, user, body=None, query=""):
    headers = {
        "x-api-key": key,
        "x-user-id": user,
        "content-type": "application/json",
        "host": "abcdefghij.execute-api.us-east-1.amazonaws.com",
        "user-agent": "measure/1",
        "accept": "*/*",
    }
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "abcdefghij",
            "domainName": "abcdefghij.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "abcdefghij",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "measure/1",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": "$default",
            "time": "12/Mar/2026:19:03:58 +0000",
            "timeEpoch": 1773342238000,
        },
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }


def stream_event(tenant, rooms, seq):
    records = [
        {
            "eventID": "1",
            "eventName": "INSERT",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "us-east-1",
            "dynamodb": {
                "ApproximateCreationDateTime": time.time(),
                "Keys": {"pk": {"S": f"{tenant}#{room}"}, "sk": {"S": f"{seq:020}"}},
                "NewImage": {
                    "pk": {"S": f"{tenant}#{room}"},
                    "sk": {"S": f"{seq:020}"},
                    "id": {"S": "msg_00000000002b8d1f9c3e5a7b9d1f3c5e"},
                    "author": {"S": "alice"},
                    "content": {"S": "Hello, world!"},
                    "created_at": {"S": "2026-03-12T19:03:58.000000Z"},
                },
                "SequenceNumber": str(seq),
                "SizeBytes": 300,
                "StreamViewType": "NEW_IMAGE",
            },
            "eventSourceARN": "arn:aws:dynamodb:us-east-1:000000000000:table/Messages/stream/1",
        }
        for room in rooms
    ]
    return {"Records": records}


class Runner:
    """The one-machine runner in memory, for its stores."""

    def __init__(self, binary):
        self.port, self.aws = free_port(), free_port()
        command = [binary, "--memory", "--port", str(self.port), "--aws-port", str(self.aws)]
        environment = {**os.environ, "MASTER_API_KEY": MASTER, "RUST_LOG": "error"}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        for _ in range(300):
            try:
                return self.call("GET", "/health") and None
            except OSError:
                time.sleep(0.1)
        sys.exit("the runner does not answer")

    def call(self, method, path, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def cpu_seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def bootstrap(binaries, name):
    built = binaries / name / "bootstrap"
    return built if built.is_file() else binaries / name


def measure(binary, aws_port, event):
    """CPU ms and bytes of log for each invocation of `binary` with `event(n)`, and its resident MB at the end."""
    runtime = Runtime()
    name = binary.parent.name if binary.name == "bootstrap" else binary.name
    environment = {f"{name.upper()}_TABLE": name for name in TABLES}
    environment |= {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime.server_address[1]}",
        "AWS_LAMBDA_FUNCTION_NAME": f"parlance-{name.capitalize()}Function-AbCdEfGhIjKl",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws_port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "POISON_QUEUE": f"http://127.0.0.1:{aws_port}/000000000000/Poison",
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([binary], env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            for number in range(WARM + COUNTED):
                if number == WARM:
                    began, logged = cpu_seconds(process), os.fstat(log.fileno()).st_size
                kind, answer = runtime.invoke(event(number))
                status = answer.get("statusCode", 200) if isinstance(answer, dict) else 0
                if kind != "response" or status >= 300 or answer.get("batchItemFailures"):
                    sys.exit(f"{name} answered {kind} {answer}")
            spent = cpu_seconds(process) - began
            logged = os.fstat(log.fileno()).st_size - logged
            resident = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024
        finally:
            process.kill()
            process.wait()
            runtime.shutdown()
            runtime.server_close()
    return {
        "cpu_ms": round(1000 * spent / COUNTED, 3),
        "log_bytes": round(logged / COUNTED),
        "resident_mb": round(resident, 1),
    }


def main(binaries, runner_binary):
    runner = Runner(runner_binary)
    try:
        made = runner.call("POST", "/admin/tenants", {"name": "measure"}, X_Master_Key=MASTER)
        tenant, key = made["tenant_id"], made["api_key"]
        runner.call("PATCH", f"/admin/tenants/{tenant}", {"rate_limit": 1_000_000}, X_Master_Key=MASTER)

        def room():
            body = {"type": "group", "members": ["alice", "bob"]}
            return runner.call("POST", "/rooms", body, X_API_Key=key, X_User_Id="alice")["room_id"]

        rooms = [room() for _ in range(10)]
        target, full = rooms[0], room()
        for number in range(60):
            body = {"content": f"Hello, {number}!"}
            runner.call("POST", f"/rooms/{full}/messages", body, X_API_Key=key, X_User_Id="alice")
        messages = f"/rooms/{target}/messages"
        hello = {"content": "Hello, world!", "meta": {"type": "text"}}
        notification = {"topic": "news", "payload": {"text": "Hello"}, "targets": {"user_ids": ["bob"]}}

        def send(_):
            return http_event("POST", messages, key, "alice", hello)

        def read(_):
            return http_event("GET", f"/rooms/{full}/messages", key, "alice", query="after_seq=5&limit=50")

        # What was sent above is acknowledged one by one: each ack moves.
        def ack(number):
            return http_event("POST", "/acks", key, "bob", {"room_id": target, "seq": number + 1})

        def notify(_):
            return http_event("POST", "/notify", key, "alice", notification)

        def heads(number):
            return stream_event(tenant, rooms, number + 1_000_000)

        operations = {
            "send": ("messages", send),
            "read_50": ("messages", read),
            "ack": ("acks", ack),
            "notify": ("notify", notify),
            "heads_of_10_rooms": ("heads", heads),
        }
        figures = {name: measure(bootstrap(binaries, binary), runner.aws, event) for name, (binary, event) in operations.items()}
    finally:
        runner.process.terminate()
        runner.process.wait()
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
