# python3 streams.py ENDPOINT_URL: what boto3 makes of the stream of a table.
import json
import signal
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

# However the service behaves, this ends.
signal.alarm(60)
told = {
    "endpoint_url": sys.argv[1],
    "region_name": "us-east-1",
    "aws_access_key_id": "any",
    "aws_secret_access_key": "any",
    "config": Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 2}),
}
streams = boto3.client("dynamodbstreams", **told)
tables = boto3.client("dynamodb", **told)
queues = boto3.client("sqs", **told)
model = streams.meta.service_model


def refused(call):
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


arn = streams.list_streams(TableName="Messages", Limit=1)["Streams"][0]["StreamArn"]
described = streams.describe_stream(StreamArn=arn)["StreamDescription"]
shards = described["Shards"]
shard = shards[0]["ShardId"]
bounds = model.shape_for("ShardId").metadata
rest = streams.describe_stream(StreamArn=arn, ExclusiveStartShardId=shard)

iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
iterator = iterator["ShardIterator"]
records = streams.get_records(ShardIterator=iterator, Limit=1000)["Records"]
numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
after = streams.get_shard_iterator(
    StreamArn=arn, ShardId=shard, ShardIteratorType="AFTER_SEQUENCE_NUMBER", SequenceNumber=numbers[0]
)
rest_of_records = streams.get_records(ShardIterator=after["ShardIterator"])["Records"]

other = shard[:-8] + "ffffffff"
table = tables.describe_table(TableName="Messages")["Table"]
queue = queues.get_queue_url(QueueName="Poison")["QueueUrl"]
queue = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
arns = [arn, described["StreamArn"], table["TableArn"], table["LatestStreamArn"], queue]
print(
    json.dumps(
        {
            "shards": len(shards),
            "fits": bounds["min"] <= len(shard) <= bounds["max"],
            "is_open": "EndingSequenceNumber" not in shards[0]["SequenceNumberRange"],
            "after_the_last": rest["StreamDescription"]["Shards"],
            "records": len(records),
            "after_the_first": len(rest_of_records),
            "regions": sorted({it.split(":")[3] for it in arns} | {record["awsRegion"] for record in records}),
            "refused": [
                refused(lambda: streams.list_streams(Limit=101)),
                refused(lambda: streams.describe_stream(StreamArn=arn, Limit=101)),
                refused(lambda: streams.get_records(ShardIterator=iterator, Limit=1001)),
                refused(lambda: streams.describe_stream(StreamArn=arn + "1")),
                refused(lambda: streams.describe_stream(StreamArn=arn, ExclusiveStartShardId=other)),
                refused(lambda: streams.list_streams(ExclusiveStartStreamArn=arn + "1")),
                refused(
                    lambda: streams.get_shard_iterator(
                        StreamArn=arn + "1", ShardId=shard, ShardIteratorType="LATEST"
                    )
                ),
                refused(
                    lambda: streams.get_shard_iterator(
                        StreamArn=arn, ShardId=other, ShardIteratorType="LATEST"
                    )
                ),
            ],
        }
    )
)
