#!/usr/bin/env python3
"""Computes what a million of each operation costs, from what was measured, and writes docs/cost.md.

    budgets.json    round trips and units of each operation; tests hold the code to them
    measured.json   CPU time and bytes of log of each invocation; measure.py measures them
    template.yaml   memory of the functions, the access log's line; what SAM makes of it, what an idle stack costs

usage: cost.py            writes docs/cost.md
       cost.py --check    fails unless docs/cost.md is what would be written, and an idle stack cheap

It runs in the Python that has SAM, as gate.py does.
"""

import json
import math
import re
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "infra/cost"
TEMPLATE = (ROOT / "template.yaml").read_text(encoding="utf-8")

sys.path.insert(0, str(ROOT / "infra/checks"))
import gate  # noqa: E402

# List prices of us-east-1 in dollars, November 2026, without free tiers and volume discounts.
API = 1.00e-6  # a request to an HTTP API, and a frame of at most 32 KB to a WebSocket
QUEUED = 0.40e-6  # a request to SQS of at most 64 KB
INVOCATION = 0.20e-6
GB_SECOND = 0.0000133334  # on arm64
WRITE, READ = 0.625e-6, 0.125e-6  # a unit, on demand
LOGGED = 0.50e-9  # a byte that CloudWatch Logs takes in
METRIC, ALARM, KEY, SECRET, DASHBOARD = 0.30, 0.10, 1.00, 0.40, 3.00  # each a month; an alarm for each metric it reads
ROTATIONS = 2  # each of the first so many rotations of a key adds the price of the key
START = 1.00e-6  # a run that EventBridge Scheduler starts
LARGE_DASHBOARD = 50  # metrics, more of which no free dashboard has
IDLE_MOST = 15.0  # dollars a month of a stack that nobody uses

# What cannot be measured here.
ROUND_TRIP_MS = 4.0  # a call to DynamoDB from a function of the same region, with TLS kept open
PROCESSOR_MB = 1769  # the memory at which a function has one whole processor
EVENT_BYTES = 26  # what CloudWatch Logs adds to each line
ROOMS_PER_BATCH = 10  # how many rooms a batch of the stream is about
JOBS_PER_BATCH = 10  # how many jobs a request to SQS and an invocation are about
RECEIVER_MS = 100.0  # how long a webhook's receiver takes to answer
MODEL_MS = 2000.0  # how long an agent's model takes to answer
POLLS = 5 * 3 * 60 * 24 * 30  # a month, of one idle queue: Lambda has five pollers, each asks every 20 s

# What is not measured yet: a batch of jobs takes as much CPU as its jobs would as requests, and logs a line as heads does.
ASSUMED = {
    "live_of_10": {"like": "notify", "times": JOBS_PER_BATCH},
    "deliver_of_10": {"like": "notify", "times": JOBS_PER_BATCH},
    "fanout_of_10": {"like": "heads_of_10_rooms", "times": 1},
    "reconcile": {"like": "notify", "times": 1},
    # Its request and answer are read and written thrice: ours, the provider's, and the log's.
    "say": {"like": "send", "times": 4},
}

ACCESS_LOG = {  # what stands in a line of the access log
    "requestTimeEpoch": "1773342238",
    "requestId": "JKJaXmPLvHcESHA=",
    "httpMethod": "POST",
    "routeKey": "ANY /rooms/{room_id}/messages",
    "status": "200",
    "identity.sourceIp": "192.0.2.100",
    "responseLength": "150",
    "responseLatency": "15",
    "integrationLatency": "14",
    "integrationStatus": "200",
    "error.responseType": "-",
}


@dataclass
class Cost:
    """Dollars for one of something."""

    api: float = 0.0
    invocations: float = 0.0
    time: float = 0.0
    writes: float = 0.0
    reads: float = 0.0
    queues: float = 0.0
    logs: float = 0.0

    def __add__(self, other):
        return Cost(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __mul__(self, times):
        return Cost(*(getattr(self, field.name) * times for field in fields(self)))

    @property
    def total(self):
        return sum(getattr(self, field.name) for field in fields(self))


def load(name):
    return json.loads((HERE / name).read_text(encoding="utf-8"))


BUDGETS, MEASURED = load("budgets.json"), load("measured.json")
for assumed, of in ASSUMED.items():
    MEASURED[assumed] = {
        "cpu_ms": MEASURED[of["like"]]["cpu_ms"] * of["times"],
        "log_bytes": MEASURED["heads_of_10_rooms"]["log_bytes"],
    }


def memory(function):
    """The memory of a function in MB."""
    block = re.search(rf"^  {function}Function:\n(?:    .*\n|\n)+", TEMPLATE, re.MULTILINE)[0]
    return int(re.search(r"MemorySize: (\d+)", block)[1])


def milliseconds(function, measured, round_trips):
    """What an invocation is billed: it computes with its share of a processor, and waits for DynamoDB."""
    computing = MEASURED[measured]["cpu_ms"] * PROCESSOR_MB / memory(function)
    return math.ceil(computing + round_trips * ROUND_TRIP_MS)


def invocation(function, measured, round_trips, waits_ms=0.0):
    seconds = (milliseconds(function, measured, round_trips) + waits_ms) / 1000
    return Cost(
        invocations=INVOCATION,
        time=seconds * memory(function) / 1024 * GB_SECOND,
        logs=(MEASURED[measured]["log_bytes"] + EVENT_BYTES) * LOGGED,
    )


def units(write, read):
    return Cost(writes=write * WRITE, reads=read * READ)


def request():
    """What API Gateway asks, with its line of the access log."""
    line = re.search(r"Format: >-\n((?: {10}.*\n)+)", TEMPLATE)[1]
    line = " ".join(line.split())
    for name, value in ACCESS_LOG.items():
        line = line.replace(f"$context.{name}", value)
    if "$context" in line:
        sys.exit(f"cost.py does not know what stands in {line}")
    return Cost(api=API, logs=(len(line) + EVENT_BYTES) * LOGGED)


def ours(function, operation, waits_ms=0.0):
    """A request as it is served here: the key is remembered, the rate's bucket is charged once for many."""
    budget, charge = BUDGETS[operation], BUDGETS["charge"]
    share = 1 / charge["requests"]
    return (
        request()
        + invocation(function, operation, budget["round_trips"] + charge["round_trips"] * share, waits_ms)
        + units(budget["write_units"] + charge["write_units"] * share, budget["read_units"])
    )


def head():
    """What follows a message: its part of a batch of the stream, and a write of its room's head."""
    batch = invocation("Heads", "heads_of_10_rooms", BUDGETS["head"]["round_trips"])
    return batch * (1 / ROOMS_PER_BATCH) + units(BUDGETS["head"]["write_units"], 0)


def fan_out():
    """What else follows a message: its part of a batch that finds out whether anybody listens."""
    budget = BUDGETS["fanout"]
    batch = invocation("Fanout", "fanout_of_10", budget["round_trips"]) + units(budget["write_units"], budget["read_units"])
    return batch * (1 / JOBS_PER_BATCH)


def job(function, operation, measured, waits_ms=0.0):
    """A job of a queue that is sent, received and deleted ten at a time, and done with nine others at once."""
    budget = BUDGETS[operation]
    batch = Cost(queues=3 * QUEUED) + invocation(function, measured, budget["round_trips"], waits_ms)
    return batch * (1 / JOBS_PER_BATCH) + units(budget["write_units"], budget["read_units"])


def acknowledged():
    """What follows an ack that moves: its job is sent alone, and done with nine others, which ends there where nobody listens."""
    budget = BUDGETS["ack_unheard"]
    batch = Cost(queues=2 * QUEUED) + invocation("Live", "live_of_10", budget["round_trips"])
    return Cost(queues=QUEUED) + batch * (1 / JOBS_PER_BATCH) + units(budget["write_units"], budget["read_units"])


def told():
    """What telling costs, after what was sent is stored and read from the stream."""
    live = job("Live", "live", "live_of_10")
    return [
        ("a message told to a connected user", live + Cost(api=API)),
        ("a message told by a webhook", live + job("Deliver", "webhook", "deliver_of_10", RECEIVER_MS)),
        (
            "a notification told to a connected user",
            live + job("Deliver", "notification", "deliver_of_10") + Cost(api=API),
        ),
    ]


def naive(function, operation, round_trips, write, read):
    """The same with an authorizer that reads key and tenant, and a write for each check of the rate."""
    authorizer = invocation(function, operation, 1) + units(0, 2)
    return request() + authorizer + invocation(function, operation, round_trips + 1) + units(write + 1, read)


def rows():
    page = BUDGETS["read_50"]["read_units"]
    return [
        (
            "a message sent",
            ours("Messages", "send") + head() + fan_out(),
            # The counter and the message in one transaction, after the sender's place.
            naive("Messages", "send", 2, 2 * 2, 1),
        ),
        ("a page of 50 read", ours("Messages", "read_50"), naive("Messages", "read_50", 1, 0, page + 0.5)),
        (
            "a message acknowledged",
            ours("Acks", "ack") + acknowledged(),
            # Its place, then the tail, then the write.
            naive("Acks", "ack", 3, 1, 2),
        ),
        ("a notification accepted", ours("Notify", "notify"), naive("Notify", "notify", 1, 1, 0)),
    ]


def dollars(each):
    return f"{each * 1e6:.2f}"


def table(lines):
    head, *body = lines
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *body])


def parts(cost):
    return [dollars(getattr(cost, field.name)) for field in fields(cost)] + [f"**{dollars(cost.total)}**"]


def parsed(file):
    return gate.load(Path(file))


def holds(condition, template, parameters):
    """Whether a condition of a template holds."""
    if "Condition" in condition:
        return holds(template["Conditions"][condition["Condition"]], template, parameters)
    ((function, arguments),) = condition.items()
    if function == "Fn::Equals":
        left, right = (parameters.get(it["Ref"], "") if isinstance(it, dict) else it for it in arguments)
        return str(left) == str(right)
    each = (holds(it, template, parameters) for it in arguments)
    return {"Fn::Not": lambda: not next(each), "Fn::And": lambda: all(each), "Fn::Or": lambda: any(each)}[function]()


def made(template, parameters=None):
    """The resources that a template makes with `parameters`, and its own defaults for the others."""
    defaults = {name: it.get("Default", "") for name, it in template.get("Parameters", {}).items()}
    parameters = {**defaults, **(parameters or {})}
    conditions = template.get("Conditions", {})
    return {
        name: it
        for name, it in template["Resources"].items()
        if "Condition" not in it or holds(conditions[it["Condition"]], template, parameters)
    }


def everything(template, base=ROOT):
    """The properties of all that a stack makes, by type, those of nested stacks too."""
    kinds = {}
    for resource in made(template).values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::CloudFormation::Stack":
            for kind, several in everything(parsed(base / properties["TemplateURL"])).items():
                kinds.setdefault(kind, []).extend(several)
        kinds.setdefault(resource["Type"], []).append(properties)
    return kinds


def series(alarm):
    """How many metrics an alarm is billed for: each that it reads. A query reads at least one."""
    if "Metrics" not in alarm:
        return 1
    metrics = [it for it in alarm["Metrics"] if "MetricStat" in it]
    queries = [it for it in alarm["Metrics"] if "SELECT" in json.dumps(it.get("Expression", ""))]
    return len(metrics) + len(queries)


def shown(dashboard):
    """How many metrics a dashboard shows."""
    body = json.loads(dashboard["DashboardBody"]["Fn::Sub"])
    return sum(len(widget["properties"].get("metrics", [])) for widget in body["widgets"])


def runs(schedule):
    """How often a month a schedule starts its function."""
    count, unit = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", schedule["ScheduleExpression"]).groups()
    return 60 * 24 * 30 / (int(count) * {"minute": 1, "hour": 60, "day": 60 * 24}[unit])


def versions(key):
    """How many times its price a key costs in its third year."""
    if not key.get("EnableKeyRotation"):
        return 1
    return 1 + min(ROTATIONS, 2 * 365 // key.get("RotationPeriodInDays", 365))


def idle(template):
    """What is paid each month of a stack's third year, used or not: what, how many, dollars."""
    kinds = everything(template)
    alarms = kinds.get("AWS::CloudWatch::Alarm", [])
    watched = sum(series(it) for it in alarms)
    keys = kinds.get("AWS::KMS::Key", [])
    sealed = sum(versions(it) for it in keys)
    secrets = len(kinds.get("AWS::SecretsManager::Secret", []))
    polled = [it for it in kinds.get("AWS::Lambda::EventSourceMapping", []) if "StreamArn" not in json.dumps(it["EventSourceArn"])]
    starts = sum(runs(it) for it in kinds.get("AWS::Scheduler::Schedule", []))
    # Sixty-four shards of open deliveries, and three looks for what a clock or a pause has held: they hold nothing.
    run = invocation("Reconcile", "reconcile", 1) + units(0, 67 * 0.5)
    filters = len(kinds.get("AWS::Logs::MetricFilter", []))
    # An hour in which a metric gets no data is not billed: those of the functions that run are all.
    metrics = BUDGETS["idle_metrics"]["reconcile"] * len(kinds.get("AWS::Scheduler::Schedule", [])) + filters
    boards = sum(shown(it) > LARGE_DASHBOARD for it in kinds.get("AWS::CloudWatch::Dashboard", []))
    return [
        ("alarms (`Watch`)", f"{len(alarms)}, over {watched} metrics or more", watched * ALARM),
        ("KMS keys: of providers' keys, and of the alarms' topic (`Watch`)", f"{len(keys)}, and {sealed - len(keys)} rotations", sealed * KEY),
        ("secrets: the master key, and the sealing key", f"{secrets}", secrets * SECRET),
        ("metrics of our own that get data", f"{metrics}", metrics * METRIC),
        ("dashboards with so many metrics that none is free (`Watch`)", f"{boards}", boards * DASHBOARD),
        ("asking empty queues", f"{len(polled)}, by Lambda", len(polled) * POLLS * QUEUED),
        ("runs of the schedule", f"{starts:,.0f}", (run.total + START) * starts),
        ("tables, functions, APIs, empty queues", "", 0.0),
    ]


def too_much(template):
    """What an idle stack costs beyond IDLE_MOST."""
    total = sum(cost for _, _, cost in idle(template))
    return [f"an idle stack costs ${total:.2f} a month, more than ${IDLE_MOST:.0f}"] if total > IDLE_MOST else []


def expanded():
    """What CloudFormation gets."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "expanded.json"
        gate.expand(ROOT / "template.yaml", target)
        return parsed(target)


def fixed():
    """The table of what is paid each month."""
    lines = idle(expanded())
    total = sum(cost for _, _, cost in lines)
    return [
        ["what", "how many", "$ a month"],
        *([what, count, f"{cost:.2f}"] for what, count, cost in lines),
        ["**all**", f"the gate lets {IDLE_MOST:.0f} through", f"**{total:.2f}**"],
    ]


def busy_metrics():
    """How many metrics a stack has that does everything at once."""
    functions = TEMPLATE.count("Type: AWS::Serverless::Function")
    # Of a batch or a run, at most.
    batches = {"Heads": 2, "Fanout": 3, "Live": 4, "Deliver": 6, "Reconcile": 2, "Sweep": 4}
    # Faults of ours in each function that answers, of which one has two dialects; and of the two that ask models, what those and streams
    # fail at.
    return functions - len(batches) + 1 + 2 * 2 + sum(batches.values())


def document():
    lines, compared = [["$ for a million", "API", "invocations", "time", "writes", "reads", "queues", "logs", "all"]], []
    for name, here, there in rows():
        lines.append([name, *parts(here)])
        lines.append(["… naive", *parts(there)])
        compared.append((name, here.total, there.total))
    lines += [[name, *parts(cost)] for name, cost in told()]
    answer = ours("Chats", "say", MODEL_MS)
    lines.append(["a message answered by an agent", *parts(answer)])
    used = [["operation", "memory MB", "CPU ms", "round trips", "billed ms", "write units", "read units", "bytes of log"]]
    for operation, function in (("send", "Messages"), ("read_50", "Messages"), ("ack", "Acks"), ("notify", "Notify")):
        budget, measured = BUDGETS[operation], MEASURED[operation]
        used.append(
            [
                f"`{operation}`",
                str(memory(function)),
                f"{measured['cpu_ms']:.2f}",
                str(budget["round_trips"]),
                str(milliseconds(function, operation, budget["round_trips"])),
                f"{budget['write_units']:g}",
                f"{budget['read_units']:g}",
                str(measured["log_bytes"]),
            ]
        )
    measured = MEASURED["heads_of_10_rooms"]
    used.append(
        [
            "`heads`, 10 rooms",
            str(memory("Heads")),
            f"{measured['cpu_ms']:.2f}",
            str(BUDGETS["head"]["round_trips"]),
            str(milliseconds("Heads", "heads_of_10_rooms", BUDGETS["head"]["round_trips"])),
            f"{BUDGETS['head']['write_units'] * ROOMS_PER_BATCH:g}",
            "0",
            str(measured["log_bytes"]),
        ]
    )
    for operation, function, measured in (
        ("fanout", "Fanout", "fanout_of_10"),
        ("live", "Live", "live_of_10"),
        ("webhook", "Deliver", "deliver_of_10"),
        ("notification", "Deliver", "deliver_of_10"),
    ):
        budget = BUDGETS[operation]
        jobs = 1 if operation == "fanout" else JOBS_PER_BATCH
        used.append(
            [
                f"`{operation}`, 10 jobs",
                str(memory(function)),
                f"({MEASURED[measured]['cpu_ms']:.2f})",
                str(budget["round_trips"]),
                str(milliseconds(function, measured, budget["round_trips"])),
                f"{budget['write_units'] * jobs:g}",
                f"{budget['read_units'] * jobs:g}",
                f"({MEASURED[measured]['log_bytes']})",
            ]
        )
    budget = BUDGETS["say"]
    used.append(
        [
            "`say`, and the model's 2 s",
            str(memory("Chats")),
            f"({MEASURED['say']['cpu_ms']:.2f})",
            str(budget["round_trips"]),
            f"{milliseconds('Chats', 'say', budget['round_trips']) + MODEL_MS:.0f}",
            f"{budget['write_units']:g}",
            f"{budget['read_units']:g}",
            f"({MEASURED['say']['log_bytes']})",
        ]
    )
    shares = ", ".join(f"{name} {100 * here / there:.0f} %" for name, here, there in compared)
    page = rows()[1][1]
    return f"""<!-- Written by infra/cost/cost.py; not to be edited. -->

# What it costs

Computed by [`infra/cost/cost.py`](../infra/cost/cost.py) from measured figures and list prices of us-east-1 (November 2026), without free tiers and
discounts. A message read in a page of 50 costs ${page.total / 50 * 1e6:.2f} a million.

{table(lines)}

- **A message acknowledged** includes the job that has it told, which is dropped where nobody listens. Where somebody does, telling it costs up to
  3.5 read units more, and $1.00 a million frames. An ack that moves nothing sends no job.
- **Typing**, where it is told, costs a write and a job for each `typing.start` that is told, at most one in three seconds for each connection, and as much for its end.
- **A message sent** includes what follows it: its part of two batches of the stream, and the write of its room's head. A room that gets several
  messages within a second writes its head once, so a busy one costs up to ${dollars(units(BUDGETS["head"]["write_units"], 0).total)} a million less. Reading the stream is free.
- **Naive** is a design that works as well for its clients: a transactional counter hands out seqs, a Lambda authorizer looks up key and tenant
  (uncached: with a cache, a revoked key would hold as long as that), and each check of the rate limit is a write. The same function code,
  memory and logs are assumed. Of its price ours costs: {shares}.
- **Told** is what comes on top for each recipient: jobs of the queues ten at a time, DynamoDB, and the frame to the socket. What a million webhooks send to the
  internet, and a connection's minutes ($0.25 a million), are not in it. A receiver is taken to answer in {RECEIVER_MS:g} ms, and ten are waited for at once. A retry costs as much again.
- **Answered by an agent** is the question, its answer and the count of its tokens, without what the model itself costs, which is far more. The model is taken to answer in
  {MODEL_MS / 1000:g} s, which the function waits for: that is most of it. With an `Idempotency-Key` it is ${dollars(units(BUDGETS["say_with_key"]["write_units"] - BUDGETS["say"]["write_units"], 0).total)} a million more; streamed from the function's URL, ${dollars(API)} less.
- What is counted (`GET /metrics`) costs each busy function a write for each tenant in five seconds.
- An `Idempotency-Key` makes a send a transaction with its marker: {BUDGETS["send_with_key"]["write_units"]:g} write units instead of {BUDGETS["send"]["write_units"]:g}, ${dollars(units(BUDGETS["send_with_key"]["write_units"] - BUDGETS["send"]["write_units"], 0).total)} a million more.
- Not included: what is stored ($0.25 a GB and month, and $0.20 for its backups; a short message takes about 0.4 KB), logs kept ($0.03 a GB and month), traffic
  out to the internet, X-Ray (`Tracing=Active`: $5 a million traces, of one request in twenty), and use of a KMS key (`EncryptionKey`).

## What it is computed from

{table(used)}

- Round trips and units are [`budgets.json`](../infra/cost/budgets.json), to which tests hold the code. Each request also pays a {BUDGETS["charge"]["requests"]}th of a write for its tenant's rate limit
  (at the usual limit; a tenant near its limit pays more).
- CPU and logs are [`measured.json`](../infra/cost/measured.json): release binaries under a runtime API, 2,000 invocations each, one at a time, user and system time of the process
  on a shared x86-64 machine, without TLS ([`measure.py`](../infra/cost/measure.py)).
- Figures in brackets are assumed, not measured: a job takes what a request takes.
- Billed time is CPU at the function's share of a processor (all of it at {PROCESSOR_MB:,} MB), plus {ROUND_TRIP_MS:g} ms for each round trip. **That latency is
  an assumption**, as is arm64 as fast as the machine of the measurement. A ms more for each round trip adds ${dollars(memory("Messages") / 1024 * GB_SECOND / 1000 * BUDGETS["send"]["round_trips"])} to a million sends.

## What it costs while nobody uses it

{table(fixed())}

This is the third year, when the first two rotations of a key that is rotated each year are paid for. With `Watch=false` the alarms, the dashboard and the topic's key are gone. A metric of our own is billed by the hour in which it gets data, ${METRIC:.2f} for a month of them, and an idle stack
has none: a member of a line is a metric only if an alarm or the dashboard reads it. Where every function is busy there are at most {busy_metrics()}, ${busy_metrics() * METRIC:.2f} a month.
"""


def main(arguments):
    target, text = ROOT / "docs/cost.md", document()
    if arguments == ["--check"]:
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            sys.exit("docs/cost.md is not what infra/cost/cost.py writes: run it")
        sys.exit("\n".join(too_much(expanded())) or 0)
    elif arguments:
        sys.exit(__doc__)
    else:
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
