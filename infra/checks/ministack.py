#!/usr/bin/env python3
"""Deploys the stack as it is built to ministack, an emulator of AWS that runs offline, and tries it end to end:
HTTP API → bootstrap → DynamoDB, its stream → heads, and what cannot be read → the poison queue; a chat with an agent.

usage: ministack.py BINARIES

BINARIES is where `sam build` put the functions (`.aws-sam/build`), built for this machine, or a folder of their
binaries. The environment variable MINISTACK names the ministack to use. It enforces the roles' policies, so that a
call that is not granted fails here too.

What ministack lacks is done here: it makes no routes of an HTTP API's OpenAPI body, so they are added after the deploy,
from that body; and its reference to a secret is the secret's name, where AWS's is the ARN that a policy needs.
"""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import boto3
import gate

ROOT = Path(__file__).resolve().parents[2]
REGION, ACCOUNT, STACK, BUCKET = "us-east-1", "000000000000", "parlance", "artifacts"
PARAMETERS = {"Architecture": "x86_64", "DeletionProtection": "false", "Watch": "false"}
PATIENCE = 60.0


def until(what, look):
    """What `look` gives, once it gives something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise SystemExit(f"in vain: {what}")


class Ministack:
    """The emulator, in a folder of its own that is gone with it."""

    def __init__(self, log):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {
            **os.environ,
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "LAMBDA_EXECUTOR": "local",
            "AUTH": "true",
            "AWS_ENDPOINT_URL": self.url,
            "MINISTACK_REGION": REGION,
        }
        command = [os.environ.get("MINISTACK", "ministack")]
        # A session of its own, so that the bootstraps which it starts end with it.
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        until("ministack answers", self.answers)

    def answers(self):
        if self.process.poll() is not None:
            raise SystemExit("ministack ended")
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", self.port), timeout=1).close() is None
        return False

    def client(self, service):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


# What it cannot make.
UNKNOWN = {"AWS::ApiGatewayV2::Deployment", "AWS::ApiGatewayV2::RouteResponse"}


def bootstrap(binaries, name):
    """What the function called `name` runs."""
    binary = name.removesuffix("Function").lower()
    for found in (binaries / name / "bootstrap", binaries / binary / "bootstrap", binaries / binary):
        if found.is_file():
            return found.read_bytes()
    raise SystemExit(f"{binaries} has no {name}")


def package(binaries, s3):
    """The expanded template, its code uploaded as `sam deploy` would."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "expanded.json"
        gate.expand(ROOT / "template.yaml", target)
        template = json.loads(target.read_text(encoding="utf-8"))
    s3.create_bucket(Bucket=BUCKET)
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Lambda::Function":
            code = io.BytesIO()
            with zipfile.ZipFile(code, "w", zipfile.ZIP_DEFLATED) as archive:
                info = zipfile.ZipInfo("bootstrap")
                info.external_attr, info.compress_type = 0o755 << 16, zipfile.ZIP_DEFLATED
                archive.writestr(info, bootstrap(binaries, name))
            s3.put_object(Bucket=BUCKET, Key=f"{name}.zip", Body=code.getvalue())
            resource["Properties"]["Code"] = {"S3Bucket": BUCKET, "S3Key": f"{name}.zip"}
    secrets = (
        ("AdminRole", "MasterKey"),
        ("KeysRole", "MasterKey"),
        ("WebhooksRole", "SealingKey"),
        ("DeliverRole", "SealingKey"),
    )
    for role, secret in secrets:
        for policy in template["Resources"][role]["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement["Action"] == ["secretsmanager:GetSecretValue"]:
                    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:${{{secret}}}-*"
                    statement["Resource"] = {"Fn::Sub": arn}
    # AWS allows a batch as it allows its messages; the emulator asks for an action of its own.
    for resource in template["Resources"].values():
        for policy in resource.get("Properties", {}).get("Policies", []) if resource["Type"] == "AWS::IAM::Role" else []:
            for statement in policy["PolicyDocument"]["Statement"]:
                # What a key is used for is no condition to the emulator.
                if statement["Action"][0].startswith("kms:"):
                    del statement["Condition"]
                if "sqs:SendMessage" in statement["Action"]:
                    statement["Action"] = [*statement["Action"], "sqs:SendMessageBatch"]
    # A number that a parameter gives is a text to the emulator, on which its poller stumbles.
    for resource in template["Resources"].values():
        if "ScalingConfig" in resource.get("Properties", {}):
            resource["Properties"]["ScalingConfig"]["MaximumConcurrency"] = 10
    # The emulator's WebSocket API has a stage without them.
    del template["Resources"]["WebSocketStage"]["Properties"]["DeploymentId"]
    for name in [it for it, resource in template["Resources"].items() if resource["Type"] in UNKNOWN]:
        del template["Resources"][name]
    # Not made here, and their files are nowhere to be fetched from.
    for name in ("Operations", "Domain", "FrontDoor"):
        del template["Resources"][name]
    for name in ("AlarmTopic", "Dashboard", "BaseUrl"):
        del template["Outputs"][name]
    return template


def deploy(template, cloudformation, s3):
    s3.put_object(Bucket=BUCKET, Key="template.json", Body=json.dumps(template).encode())
    cloudformation.create_stack(
        StackName=STACK,
        TemplateURL=f"{cloudformation.meta.endpoint_url}/{BUCKET}/template.json",
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in PARAMETERS.items()],
        Capabilities=["CAPABILITY_IAM"],
    )

    def ended():
        stack = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]
        return None if stack["StackStatus"].endswith("IN_PROGRESS") else stack

    stack = until("the stack is made", ended)
    if stack["StackStatus"] != "CREATE_COMPLETE":
        for event in cloudformation.describe_stack_events(StackName=STACK)["StackEvents"]:
            print(event["LogicalResourceId"], event["ResourceStatus"], event.get("ResourceStatusReason", ""))
        raise SystemExit(stack["StackStatus"])
    resources = cloudformation.describe_stack_resources(StackName=STACK)["StackResources"]
    return {it["LogicalResourceId"]: it["PhysicalResourceId"] for it in resources}


def route(template, made, gateway):
    """Adds the routes that the API's body describes."""
    integrations, body = {}, template["Resources"]["Api"]["Properties"]["Body"]
    described = body["components"]["x-amazon-apigateway-integrations"]
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            reference = operation["x-amazon-apigateway-integration"]["$ref"]
            uri = described[reference.split("/")[-1]]["uri"]["Fn::Sub"]
            function = uri.split("${")[-1].split(".Arn}")[0]
            method = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
            if function not in integrations:
                arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{made[function]}"
                integration = gateway.create_integration(
                    ApiId=made["Api"],
                    IntegrationType="AWS_PROXY",
                    IntegrationUri=arn,
                    PayloadFormatVersion="2.0",
                )
                integrations[function] = f"integrations/{integration['IntegrationId']}"
            key = path if path == "$default" else f"{method} {path}"
            gateway.create_route(ApiId=made["Api"], RouteKey=key, Target=integrations[function])
    return len(integrations)


class Api:
    """A client of the deployed API."""

    def __init__(self, url):
        self.url = url

    def call(self, method, path, body=None, **headers):
        status, _, answer = self.ask(method, path, body, **headers)
        return status, answer

    def ask(self, method, path, body=None, **headers):
        """An answer with its headers."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.headers, json.loads(error.read() or b"null")


def expect(claim, found, wanted):
    if found != wanted:
        raise SystemExit(f"{claim}: {found!r} is not {wanted!r}")
    print(f"ok: {claim}")


def smoke(api, master, made, ministack):
    """The contract in short, through everything that was deployed."""
    status, health = api.call("GET", "/health")
    expect("the service can write", (status, health.get("db_writable", health)), (200, True))
    unrouted(api)
    status, _ = api.call("POST", "/admin/tenants", {"name": "demo"}, X_Master_Key="mk_wrong")
    expect("a wrong master key is refused", status, 401)
    status, tenant = api.call("POST", "/admin/tenants", {"name": "demo"}, X_Master_Key=master)
    expect("the secret's key makes a tenant", status, 201)
    key = {"X_API_Key": tenant["api_key"]}
    alice, bob = {**key, "X_User_Id": "alice"}, {**key, "X_User_Id": "bob"}
    status, room = api.call("POST", "/rooms", {"type": "group", "members": ["alice", "bob"]}, **alice)
    expect("a room is made", status, 201)
    room = room["room_id"]
    for number in (1, 2):
        status, sent = api.call("POST", f"/rooms/{room}/messages", {"content": f"Hello, {number}!"}, **alice)
        expect(f"message {number} gets its seq", (status, sent.get("seq", sent)), (200, number))
    once = {**alice, "Idempotency_Key": "once"}
    first, again = (api.call("POST", f"/rooms/{room}/messages", {"content": "Once"}, **once)[1] for _ in range(2))
    expect("a message sent twice with one key is one", again["message_id"], first["message_id"])
    _, page = api.call("GET", f"/rooms/{room}/messages?after_seq=0", **bob)
    expect("the log is read in order", [it["seq"] for it in page], [1, 2, 3])
    status, _ = api.call("POST", "/acks", {"room_id": room, "seq": 2}, **bob)
    expect("an ack is taken", status, 200)
    status, _ = api.call("GET", f"/rooms/{room}", **{**key, "X_User_Id": "mallory"})
    expect("a stranger is refused", status, 403)
    odd(api, alice)
    body = {"topic": "news", "payload": {}, "targets": {"user_ids": ["bob"]}}
    status, notified = api.call("POST", "/notify", body, **alice)
    expect("a notification is accepted", status // 100, 2)

    def attempted():
        path = f"/notifications/{notified['notification_id']}"
        status, told = api.call("GET", path, **alice)
        return status == 200 and [it for it in told["deliveries"] if it["attempts"]]

    tried = until("streams and queues take the notification to its delivery", attempted)
    expect("nobody is connected", tried[0]["error"], "user offline")

    def head_moved():
        status, rooms = api.call("GET", "/rooms", **bob)
        if status != 200:
            raise SystemExit(f"the list of rooms: {status} {rooms}")
        return rooms and rooms[0]["last_seq"] == 3 and rooms[0]

    head = until("the stream's consumer moves the head", head_moved)
    expect("unread is what was not acknowledged", head["unread_count"], 1)

    dynamodb, sqs = ministack.client("dynamodb"), ministack.client("sqs")
    chat(api, tenant, dynamodb, made["Messages"])
    dynamodb.put_item(
        TableName=made["Messages"],
        Item={"pk": {"S": "nobody"}, "sk": {"S": f"{1:020}"}, "v": {"N": "1"}},
    )

    letters = set()

    def put_aside():
        received = sqs.receive_message(QueueUrl=made["Poison"], WaitTimeSeconds=1)
        for message in received.get("Messages", []):
            letter = json.loads(message["Body"])
            letters.add((letter["kind"], letter["function"]))
        return len(letters) > 1

    until("what cannot be read is put aside by both who read it", put_aside)
    expect("letters say who could not read", letters, {("poison_record", "heads"), ("poison_record", "fanout")})
    replayed(api, made, ministack, tenant, room, bob)


def replayed(api, made, ministack, tenant, room, bob):
    """A batch that a stream gave up reaches its function after all, and leaves the bucket."""
    s3, sqs = ministack.client("s3"), ministack.client("sqs")
    image = {
        "pk": {"S": f"{tenant['tenant_id']}#{room}"},
        "sk": {"S": f"{9:020}"},
        "created_at": {"S": "2026-01-01T00:00:00.000000Z"},
    }
    record = {
        "eventID": "1",
        "eventName": "INSERT",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": {
            "ApproximateCreationDateTime": 1767225600,
            "Keys": {"pk": image["pk"], "sk": image["sk"]},
            "NewImage": image,
            "SequenceNumber": "1",
            "SizeBytes": 100,
            "StreamViewType": "NEW_IMAGE",
        },
    }
    # As AWS documents it: developer guide of Lambda, "Retain discarded records", S3.
    failure = {
        "requestContext": {
            "functionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{made['HeadsFunction']}",
            "condition": "RecordAgeExceeded",
            "approximateInvokeCount": 100,
        },
        "version": "1.0",
        "payload": json.dumps({"Records": [record]}),
    }
    bucket = made["StreamFailures"]
    key = "aws/lambda/mapping/shard/2026/01/01/2026-01-01T00.00.00-1"
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(failure).encode())

    def told():
        received = sqs.receive_message(QueueUrl=made["Poison"], WaitTimeSeconds=1)
        return [it for it in received.get("Messages", []) if key in it["Body"]]

    until("the poison queue hears of what a stream gave up", told)
    print("ok: the poison queue hears of what a stream gave up")
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": ministack.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    command = [sys.executable, str(ROOT / "infra/replay.py"), "--stack", STACK]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    expect("the replay takes it", (run.returncode, run.stdout.splitlines()[-1:], run.stderr), (0, ["1 batches were taken"], ""))
    expect("it has left the bucket", s3.list_objects_v2(Bucket=bucket).get("KeyCount"), 0)
    _, rooms = api.call("GET", "/rooms", **bob)
    expect("its function has worked on it", rooms[0]["last_seq"], 9)


def unrouted(api):
    """Unknown paths and wrong methods, each in the words of the dialect. Preflights the emulator answers itself."""
    chatapi = {"success": False, "error": {"code": "NOT_FOUND", "message": "Path not found"}}
    for path in ("/nowhere", "/rooms/", "/rooms/a/b/c", "/rooms/a%2Fb/c", "/rooms/a/messages/b/c", "/admin/tenants/a/b/c"):
        expect(f"{path} is not found in ChatAPI's words", api.call("GET", path), (404, chatapi))
    kodey = {"error": "Not Found", "message": "Path not found"}
    for path in ("/chat/", "/chat/a/b/c", "/agent/a/b/c", "/agent//"):
        expect(f"{path} is not found in Kodey's words", api.call("GET", path), (404, kodey))
    for method, path, allowed in (
        ("PUT", "/rooms", "GET, POST"),
        ("POST", "/rooms/a/messages/b", "GET, PUT, DELETE"),
        ("GET", "/acks", "POST"),
        ("PUT", "/webhooks/a/test", "POST"),
        ("DELETE", "/admin/tenants/a/keys/rotate", "POST"),
        ("PUT", "/admin/tenants/a/api-keys", "GET, POST"),
        ("POST", "/health", "GET"),
        ("POST", "/docs", "GET"),
    ):
        status, headers, answer = api.ask(method, path)
        found = (status, headers["Allow"], answer["error"]["code"])
        expect(f"{method} {path} is told the right methods", found, (405, allowed, "METHOD_NOT_ALLOWED"))
    for method, path, allowed in (("PUT", "/chat", "GET, POST"), ("GET", "/agent/a/rollback", "PUT")):
        status, headers, answer = api.ask(method, path)
        found = (status, headers["Allow"], answer["error"])
        expect(f"{method} {path} is told the right methods", found, (405, allowed, "Method Not Allowed"))


def odd(api, alice):
    """Ids of odd characters in paths: API Gateway hands a path over decoded."""
    user = "bob+c@example.com:8"
    status, room = api.call("POST", "/rooms", {"type": "group", "members": ["alice", user, "eve"]}, **alice)
    expect("a member's id may be odd", status, 201)
    members = f"/rooms/{room['room_id']}/members"
    for written in ("eve%23", "eve%252", "eve%3Fx"):
        status, refused = api.call("DELETE", f"{members}/{written}", **alice)
        expect(f"{written} is nobody else", (status, refused["error"].get("field")), (400, "path"))
    status, _ = api.call("DELETE", f"{members}/e%2Fve", **alice)
    expect("a slash in an id is one of the path", status, 404)
    status, _ = api.call("DELETE", f"{members}/{urllib.parse.quote(user, safe='')}", **alice)
    expect("an odd id is that member's", status, 204)
    for written in ("a%20b", "%C3%BC", "%F0%9F%98%80", "caf%C3%A9%20x"):
        for path in (f"/rooms/{written}", f"/rooms/{written}/messages"):
            status, answer = api.call("GET", path, **alice)
            expect(f"{path} is no room", (status, answer["error"]["message"]), (404, "Room not found"))


def chat(api, tenant, dynamodb, messages):
    """A chat with an agent, from its key to the end of its log."""
    admin, server = f"/admin/tenants/{tenant['tenant_id']}", {"X_API_Key": tenant["api_key"]}
    body = {"provider": "openai", "api_key": "sk-not-a-real-key"}
    status, made = api.call("POST", f"{admin}/provider-keys", body, **server)
    expect("a provider's key is sealed", (status, "api_key" in made), (201, False))
    status, key = api.call("POST", f"{admin}/api-keys", {"kind": "secret", "name": "demo"}, **server)
    expect("a team's key is made", status, 201)
    team = {"X_API_Key": key["api_key"]}
    status, agent = api.call("POST", "/agent", {"name": "Guide"}, **team)
    expect("an agent is made", status, 200)
    status, begun = api.call("POST", "/chat", {"agentId": agent["id"]}, **team)
    expect("a chat is made", status, 200)
    path = f"/chat/{begun['id']}"
    status, answer = api.call("POST", f"{path}/message", {"content": "Hello!", "role": "user"}, **team)
    expect("it is answered", (status, answer.get("content", answer)), (200, "[echo] You said: Hello!"))
    status, _ = api.call("DELETE", path, **team)
    expect("a chat is deleted", status, 204)
    log = {":pk": {"S": f"{tenant['tenant_id']}#{begun['id']}"}}

    def removed():
        found = dynamodb.query(
            TableName=messages, KeyConditionExpression="pk = :pk", ExpressionAttributeValues=log, ConsistentRead=True
        )
        return found["Count"] == 0

    until("streams and queues remove its log", removed)
    print("ok: its log is removed")


def tell(logs):
    """The functions' last lines."""
    for group in logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/")["logGroups"]:
        events = logs.filter_log_events(logGroupName=group["logGroupName"])["events"]
        for event in events[-10:]:
            print(group["logGroupName"], event["message"].strip()[:2000], file=sys.stderr)


def main(binaries):
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "ministack.log").open("w+b") as log:
        ministack = Ministack(log)
        try:
            s3, cloudformation = ministack.client("s3"), ministack.client("cloudformation")
            template = package(binaries, s3)
            made = deploy(template, cloudformation, s3)
            functions = route(template, made, ministack.client("apigatewayv2"))
            print(f"ok: {len(made)} resources are deployed, and routes to {functions} functions")
            secret = ministack.client("secretsmanager").get_secret_value(SecretId=made["MasterKey"])
            # By path: under the API's own host name, ministack would answer /health itself.
            api = Api(f"{ministack.url}/_aws/execute-api/{made['Api']}/$default")
            smoke(api, secret["SecretString"], made, ministack)
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-8000:])
            with contextlib.suppress(Exception):
                tell(ministack.client("logs"))
            raise
        finally:
            ministack.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
