"""Chunks in a bucket: shared by nodes that know nothing of one another, found when all else is
gone."""

import os
import sys
from pathlib import Path

import boto3
import pytest

from baton import KV_BYTES_PER_TOKEN, prompt_of, scaled, wait_for

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))
from s3_gateway import Gateway, missing_programs  # noqa: E402

TOKENS = 300
CHUNKS = -(-TOKENS // 64)
HEADER_BYTES = 16384


class Bucket:
    def __init__(self, gateway, name):
        self.name = name
        self.url = f"s3://{name}/kv?endpoint={gateway.endpoint}"
        self.env = {"AWS_ACCESS_KEY_ID": gateway.access, "AWS_SECRET_ACCESS_KEY": gateway.secret}
        self._s3 = boto3.client("s3", endpoint_url=gateway.endpoint, region_name=gateway.region,
                                aws_access_key_id=gateway.access,
                                aws_secret_access_key=gateway.secret)
        self._s3.create_bucket(Bucket=name)

    def objects(self):
        listed = self._s3.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {each["Key"]: each["Size"] for each in listed}

    def spoil(self, key):
        body = bytearray(self._s3.get_object(Bucket=self.name, Key=key)["Body"].read())
        body[-1] ^= 1
        self._s3.put_object(Bucket=self.name, Key=key, Body=bytes(body))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    if missing := missing_programs():
        pytest.skip(f"no {', '.join(missing)} here")
    with Gateway(tmp_path_factory.mktemp("s3")) as it:
        yield it


@pytest.fixture
def bucket(gateway, request):
    return Bucket(gateway, f"baton-{os.getpid()}-{abs(hash(request.node.name)) % 10**8}")


def start(baton, name, bucket, **flags):
    return baton.engine("both", name, env=bucket.env, node="127.0.0.1:0", node_http="127.0.0.1:0",
                        reuse=True, s3=bucket.url, **flags)


def kept(engine, bucket, prompt, expected):
    assert engine.complete(prompt).tokens == expected
    wait_for(lambda: len(bucket.objects()) == CHUNKS, scaled(30), f"{CHUNKS} objects")


def test_what_one_engine_computed_another_loads(baton, alone, bucket):
    prompt = prompt_of(TOKENS)
    expected = alone(prompt)
    first = start(baton, "first", bucket)
    kept(first, bucket, prompt, expected)
    assert sum(bucket.objects().values()) == (CHUNKS * HEADER_BYTES + TOKENS * KV_BYTES_PER_TOKEN)
    first.kill()
    second = start(baton, "second", bucket)
    answer = second.complete(prompt)
    assert answer.tokens == expected
    assert answer.handoff["prompt_tokens_computed"] == 1
    assert answer.handoff["transport"] == "s3"
    second.wait_idle()


def test_nvme_first_and_the_bucket_where_it_was_wiped(baton, alone, bucket, tmp_path):
    prompt = prompt_of(TOKENS, 2)
    expected = alone(prompt)
    device = tmp_path / "kv"
    flags = {"nvme": f"{device}:64MiB"}
    first = start(baton, "first", bucket, **flags)
    kept(first, bucket, prompt, expected)
    wait_for(lambda: first.metrics().value("baton_tier_chunks", tier="nvme") == CHUNKS, scaled(20),
             "chunks on NVMe")
    for name, transport in (("second", "nvme"), ("third", "s3")):
        baton.end()
        if transport == "s3":
            device.unlink()
        answer = start(baton, name, bucket, **flags).complete(prompt)
        assert answer.tokens == expected and answer.handoff["transport"] == transport
        assert answer.handoff["prompt_tokens_computed"] == 1


def test_an_object_that_is_spoilt_is_computed(baton, alone, bucket):
    prompt = prompt_of(TOKENS, 3)
    expected = alone(prompt)
    first = start(baton, "first", bucket)
    kept(first, bucket, prompt, expected)
    first.kill()
    for key in bucket.objects():
        bucket.spoil(key)
    second = start(baton, "second", bucket)
    answer = second.complete(prompt)
    assert answer.tokens == expected
    assert answer.handoff["prompt_tokens_computed"] == TOKENS
    assert second.metrics().value("baton_checksum_failures_total", where="s3") > 0
    second.wait_idle(30)


def test_a_bucket_that_is_gone_hurts_nobody(baton, alone, bucket):
    prompt = prompt_of(TOKENS, 4)
    expected = alone(prompt)
    unreachable = Bucket.__new__(Bucket)
    unreachable.env, unreachable.url = bucket.env, "s3://nowhere?endpoint=http://127.0.0.1:9"
    engine = start(baton, "engine", unreachable)
    for _ in range(2):
        answer = engine.complete(prompt)
        assert answer.tokens == expected
    assert answer.handoff["transport"] == "host"
    engine.wait_idle(30)
