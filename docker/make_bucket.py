"""Makes a bucket where there is none: `python docker/make_bucket.py NAME`, with the store of AWS_ENDPOINT_URL."""

import sys

import boto3

client, name = boto3.client("s3"), sys.argv[1]
if name not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
    client.create_bucket(Bucket=name)
