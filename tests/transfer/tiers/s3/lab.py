"""What the S3 tier's tests have beside them: a real gateway, a proxy before it that makes mistakes,
and boto3. One JSON object a line on stdin, one answer a line on stdout; ends with stdin.

    lab.py FOLDER      the first line says where everything is, or {"missing": […]}
"""

import asyncio
import hashlib
import importlib.util
import json
import random
import signal
import ssl
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[4]
sys.path += [str(ROOT / "tests/fakes"), str(ROOT / "examples")]
from fault_proxy import FaultProxy  # noqa: E402
from s3_gateway import Gateway, missing_programs  # noqa: E402

HEADER_BYTES = 16384


def read_as_anybody_would(s3, bucket, key):
    """What README.md of the tier says: a user of boto3 who knows nothing else."""
    def read(first, last):
        return s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={first}-{last}")["Body"].read()

    header = read(0, HEADER_BYTES - 1)
    assert header[:8] == b"BATONKV\n"
    version, header_bytes, json_bytes = struct.unpack_from("<III", header, 8)
    assert version == 1 and header_bytes == HEADER_BYTES
    assert hashlib.sha256(header[:-32]).digest() == header[-32:]
    said = json.loads(header[20:20 + json_bytes])
    layers = []
    for offset in said["layer_offsets"]:
        layers.append(read(offset, offset + said["layer_bytes"] - 1))
    return {"header": said, "layers": [hashlib.sha256(layer).hexdigest() for layer in layers]}


def corrupted(whole, seed):
    """The object's bytes, spoilt in one of many ways; never as they were."""
    chance = random.Random(seed)
    data = bytearray(whole)
    kind = chance.choice(["flip", "flip header", "zeros", "cut", "swap", "noise", "empty", "shift"])
    if kind == "flip":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "flip header":
        data[chance.randrange(HEADER_BYTES)] ^= 1 << chance.randrange(8)
    elif kind == "zeros":
        at, size = chance.randrange(len(data)), chance.randrange(1, 4096)
        data[at:at + size] = bytes(len(data[at:at + size]))
    elif kind == "cut":
        del data[chance.randrange(len(data)):]
    elif kind == "swap":
        a, b = sorted(chance.sample(range(0, len(data) - 64), 2))
        data[a:a + 64], data[b:b + 64] = data[b:b + 64], data[a:a + 64]
    elif kind == "noise":
        at = chance.randrange(len(data) - 16)
        data[at:at + 16] = chance.randbytes(16)
    elif kind == "empty":
        data.clear()
    elif kind == "shift":
        at = chance.randrange(len(data))
        data[at:at] = b"x"
        data.pop()
    if data == whole:  # zeros where zeros were, or the like
        data[HEADER_BYTES] ^= 1
    return bytes(data), kind


class Lab:
    def __init__(self, gateway, proxy):
        import boto3
        import botocore.config
        self.proxy = proxy
        self.kept = {}
        self.s3 = boto3.client(
            "s3", endpoint_url=gateway.endpoint, region_name=gateway.region,
            aws_access_key_id=gateway.access, aws_secret_access_key=gateway.secret,
            config=botocore.config.Config(s3={"addressing_style": "path"}))

    def rules(self, rules):
        self.proxy.set_rules(rules)

    def seen(self):
        return self.proxy.seen

    def make_bucket(self, bucket):
        self.s3.create_bucket(Bucket=bucket)

    def list(self, bucket, prefix=""):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}

    def put(self, bucket, key, hex):
        self.s3.put_object(Bucket=bucket, Key=key, Body=bytes.fromhex(hex))

    def copy(self, bucket, key, to):
        self.s3.copy_object(Bucket=bucket, Key=to, CopySource={"Bucket": bucket, "Key": key})

    def get(self, bucket, key):
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().hex()

    def change(self, bucket, key, at, hex):
        """Other bytes at one place."""
        data = bytearray(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        data[at:at + len(hex) // 2] = bytes.fromhex(hex)
        self.s3.put_object(Bucket=bucket, Key=key, Body=bytes(data))

    def corrupt(self, bucket, key, seed):
        """Puts the object as it first was, spoilt as the seed says."""
        if (bucket, key) not in self.kept:
            self.kept[bucket, key] = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        data, kind = corrupted(self.kept[bucket, key], seed)
        self.s3.put_object(Bucket=bucket, Key=key, Body=data)
        return kind

    def read(self, bucket, key):
        return read_as_anybody_would(self.s3, bucket, key)


def certificate(folder):
    """A certificate of its own authority for 127.0.0.1."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=lab", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", key, "-out", cert], check=True, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


def say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def serve_commands(lab):
    for line in sys.stdin:
        command = json.loads(line)
        try:
            say({"ok": getattr(lab, command.pop("do"))(**command)})
        except Exception as error:  # the test fails with it
            say({"error": f"{type(error).__name__}: {error}"})


async def main():
    missing = missing_programs()
    if importlib.util.find_spec("boto3") is None:
        missing.append("python3-boto3")
    if missing:
        return say({"missing": missing})
    with tempfile.TemporaryDirectory(prefix="baton-s3-") as folder:
        with Gateway(Path(folder) / "ceph") as gateway:
            proxy = FaultProxy(gateway.port, gateway.secret)
            cert, tls = certificate(Path(folder))
            port, tls_port = await proxy.listen(), await proxy.listen(tls)
            lab = Lab(gateway, proxy)
            say({"port": gateway.port, "proxy": port, "tls_proxy": tls_port, "ca": str(cert),
                 "access": gateway.access, "secret": gateway.secret, "folder": folder})
            # Commands block, the proxy goes on.
            await asyncio.get_running_loop().run_in_executor(None, serve_commands, lab)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # its folder goes with it
    asyncio.run(main())
