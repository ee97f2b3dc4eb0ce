#!/usr/bin/env python3
"""What `infra/replay.py` hands over, with a bucket, a Lambda and queues that are made up: it needs no AWS and no boto3.

usage: test_replay.py
"""

import contextlib
import importlib.util
import io
import json
import sys
import types
import unittest
from pathlib import Path
from unittest import mock

SCRIPT = Path(__file__).resolve().parents[1] / "replay.py"
# The most that Lambda takes of one invocation, in bytes.
MOST = 6 * 1024 * 1024
FUNCTION = "stack-HeadsFunction-1"


class ClientError(Exception):
    """As botocore names it."""


class Bucket:
    """The objects of a bucket, the oldest first."""

    def __init__(self, *bodies):
        self.objects = {f"{number}": body for number, body in enumerate(bodies)}

    def get_paginator(self, _):
        listed = [{"Key": key, "LastModified": int(key)} for key in self.objects]
        return types.SimpleNamespace(paginate=lambda Bucket: [{"Contents": listed}])

    def get_object(self, Bucket, Key):
        return {"Body": io.BytesIO(self.objects[Key])}

    def delete_object(self, Bucket, Key):
        del self.objects[Key]


class Function:
    """Takes everything that Lambda lets through."""

    def __init__(self):
        self.events = []

    def invoke(self, FunctionName, Payload):
        if len(Payload) > MOST:
            raise ClientError("RequestEntityTooLargeException")
        self.events.append(json.loads(Payload))
        return {"Payload": io.BytesIO(b'{"batchItemFailures":[]}')}


class Stack:
    """Names each resource of a stack after itself."""

    def describe_stack_resource(self, StackName, LogicalResourceId):
        name = f"{StackName}-{LogicalResourceId}-1"
        return {"StackResourceDetail": {"PhysicalResourceId": name}}


class Queues:
    """The queue Poison, whose messages come again, and what is sent to others."""

    def __init__(self, *bodies):
        self.poison = {f"{number}": body for number, body in enumerate(bodies)}
        self.sent = []

    def receive_message(self, QueueUrl, MaxNumberOfMessages, VisibilityTimeout, WaitTimeSeconds):
        assert QueueUrl == "stack-Poison-1"
        messages = [{"MessageId": it, "ReceiptHandle": it, "Body": body} for it, body in self.poison.items()]
        return {"Messages": messages[:MaxNumberOfMessages]} if messages else {}

    def send_message(self, QueueUrl, MessageBody, MessageGroupId):
        self.sent.append((QueueUrl, MessageBody, MessageGroupId))

    def delete_message(self, QueueUrl, ReceiptHandle):
        del self.poison[ReceiptHandle]


def replayed(bucket, function, queues=None, options=()):
    """The status of the script, run over these."""
    clients = {"s3": bucket, "lambda": function, "cloudformation": Stack(), "sqs": queues}
    modules = {
        "boto3": types.SimpleNamespace(client=clients.__getitem__),
        "botocore": types.ModuleType("botocore"),
        "botocore.exceptions": types.SimpleNamespace(ClientError=ClientError),
    }
    with (
        mock.patch.dict(sys.modules, modules),
        mock.patch.object(sys, "argv", ["replay.py", "--stack", "stack", *options]),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        spec = importlib.util.spec_from_file_location("replay", SCRIPT)
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        return script.main()


def event_of(text, most):
    """An event whose records hold `text`, of as many bytes as `most` allows if nothing is escaped."""
    record = {"eventID": "1", "dynamodb": {"NewImage": {"content": {"S": text * 1000}}}}
    bytes_of = lambda it: len(json.dumps(it, ensure_ascii=False, separators=(",", ":")).encode())  # noqa: E731
    count = (most - bytes_of({"Records": []})) // (bytes_of(record) + 1)
    return {"Records": [record] * count}


def given_up(event, as_text):
    """An object of the bucket, as Lambda writes it: with the event as an object, or its text."""
    payload = json.dumps(event) if as_text else event
    failure = {"requestContext": {"functionArn": f"arn:aws:lambda:eu-west-1:1:function:{FUNCTION}"}, "payload": payload}
    return json.dumps(failure).encode()


class Replay(unittest.TestCase):
    def test_a_batch_that_lambda_takes_only_unescaped_is_handed_over_whole(self):
        # Of 2, 3 and 4 bytes; escaped they are 6, 6 and 12.
        for text in ["é", "語", "🙂"]:
            event = event_of(text, MOST)
            self.assertGreater(len(json.dumps(event)), MOST)
            for as_text in (False, True):
                with self.subTest(text=text, as_text=as_text):
                    bucket, function = Bucket(given_up(event, as_text)), Function()

                    status = replayed(bucket, function)

                    self.assertEqual(status, 0)
                    self.assertTrue(function.events == [event])
                    self.assertEqual(bucket.objects, {})

    def test_what_lambda_refuses_stays_with_what_came_after_it(self):
        large, small = event_of("é", MOST + 10_000), event_of("é", 10_000)
        bucket, function = Bucket(given_up(small, False), given_up(large, False), given_up(small, False)), Function()

        status = replayed(bucket, function)

        self.assertEqual(status, 1)
        self.assertTrue(function.events == [small])
        self.assertEqual(list(bucket.objects), ["1", "2"])

    def test_a_job_is_sent_to_the_queue_it_came_from_and_letters_stay(self):
        told = '{"v":1,"tenant":"tenant_1","kind":"tell","subject":"note_1","audience":"all"}'
        swept = ['{"v":1,"tenant":"tenant_2","chat":"chat_1"}', '{"v":1,"tenant":"tenant_2","agent":"agent_1"}']
        letters = [
            '{"v":1,"kind":"poison_record","function":"heads","reason":"?","record":{}}',
            '{"detail-type":"Object Created","source":"aws.s3","detail":{}}',
            "?",
        ]
        queues = Queues(letters[0], told, *swept, *letters[1:])

        status = replayed(None, None, queues, ["--jobs"])

        self.assertEqual(status, 0)
        sent = [("stack-FanoutQueue-1", told, "tenant_1")] + [("stack-SweepQueue-1", it, "tenant_2") for it in swept]
        self.assertEqual(queues.sent, sent)
        self.assertEqual(list(queues.poison.values()), letters)

    def test_a_dry_run_sends_and_removes_no_job(self):
        queues = Queues('{"v":1,"tenant":"tenant_2","chat":"chat_1"}')

        status = replayed(None, None, queues, ["--jobs", "--dry-run"])

        self.assertEqual((status, queues.sent, len(queues.poison)), (0, [], 1))


if __name__ == "__main__":
    unittest.main()
