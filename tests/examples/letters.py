# python3 letters.py ENDPOINT_URL: what an operator does with dead letters by boto3.
import json
import signal
import sys
import time

import boto3
from botocore.config import Config

# However the service behaves, this ends.
signal.alarm(60)
told = {
    "endpoint_url": sys.argv[1],
    "region_name": "us-east-1",
    "aws_access_key_id": "any",
    "aws_secret_access_key": "any",
    "config": Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 2}),
}
sqs = boto3.client("sqs", **told)
dynamodb = boto3.client("dynamodb", **told)

pages = sqs.get_paginator("list_queues").paginate()
urls = [url for page in pages for url in page.get("QueueUrls", [])]
queues = sorted(url.rsplit("/", 1)[1] for url in urls)

url = sqs.get_queue_url(QueueName="DeadLetterQueue")["QueueUrl"]
letters = []
while not letters:
    received = sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        VisibilityTimeout=0,
        WaitTimeSeconds=5,
        MessageSystemAttributeNames=["All"],
    )
    letters = received.get("Messages", [])

attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
arn = attributes["QueueArn"]
sqs.start_message_move_task(SourceArn=arn)
while True:
    task = sqs.list_message_move_tasks(SourceArn=arn)["Results"][0]
    if task["Status"] != "RUNNING":
        break
    time.sleep(0.1)

rows = []
for page in dynamodb.get_paginator("scan").paginate(TableName="Messages"):
    rows += page["Items"]

print(
    json.dumps(
        {
            "queues": queues,
            "letters": [json.loads(letter["Body"]) for letter in letters],
            "task": [task["Status"], task["ApproximateNumberOfMessagesMoved"]],
            "messages": [row["content"]["S"] for row in rows],
        }
    )
)
