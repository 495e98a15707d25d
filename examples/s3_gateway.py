"""A real S3 service on loopback, to be tried and tested with: Ceph's monitor, one OSD in memory and
its RADOS gateway.

    with Gateway(folder) as gateway: gateway.port, gateway.access, gateway.secret, gateway.region

    s3_gateway.py FOLDER BUCKET    says where it is, one JSON object, and stays until it is ended

All of it lies in `folder` and on free ports, and dies with this process, however that ends. Needs
Debian's ceph-mon, ceph-osd, radosgw and ceph-common.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool")
PATIENCE_S = 90  # for each step, on a machine that does much else
STARTS = 3  # a port that was free may be taken by the time it is used

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
run dir = {folder}/run
admin socket =
log file = {folder}/$name.log
mon cluster log file = default={folder}/cluster.log
crash dir = {folder}/run
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
mon data avail warn = 2
paxos propose interval = 0.05
[mon.a]
mon data = {folder}/mon
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd crush update on start = false
osd class update on start = false
osd class load list = *
osd class default list = *
[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw thread pool size = 32
rgw gc obj min wait = 1
rgw gc processor period = 2
rgw gc processor max time = 2
rgw dns name = localhost
"""


def missing_programs():
    return [program for program in PROGRAMS if shutil.which(program) is None]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port):
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


class Gateway:
    access = "testaccess"
    secret = "testsecret12345678"
    region = "us-east-1"

    def __init__(self, folder):
        self.folder = Path(folder)
        self.processes = []

    def __enter__(self):
        for left in reversed(range(STARTS)):
            try:
                self.start()
                return self
            except BaseException as error:
                self.stop()
                if left == 0 or not isinstance(error, (RuntimeError, subprocess.SubprocessError)):
                    raise

    def __exit__(self, *_):
        self.stop()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("run", "mon", "osd", "rgw"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "keyring").touch()
        self.port, mon_port = free_port(), free_port()
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        self.configuration = self.folder / "ceph.conf"
        self.configuration.write_text(CONFIGURATION.format(
            fsid=fsid, mon_port=mon_port, port=self.port, folder=self.folder))
        monmap = self.folder / "monmap"
        self.once("monmaptool", "--create", "--fsid", fsid, "--addv", "a",
                  f"v1:127.0.0.1:{mon_port}", monmap)
        self.once("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        self.spawn("ceph-mon", "-f", "-i", "a")
        self.until(lambda: listens(mon_port))
        self.until(lambda: self.tried("ceph", "--connect-timeout", "10", "osd", "new", osd))
        self.once("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h")
        self.once("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.spawn("ceph-osd", "-f", "-i", "0")
        # It waits for the OSD by itself.
        self.once("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=test",
                  "--display-name=test", f"--access-key={self.access}",
                  f"--secret-key={self.secret}")
        self.spawn("radosgw", "-f", "-n", "client.rgw")
        self.until(self.answers)

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGKILL)  # nothing of it is to be kept
            process.wait()
        self.processes = []

    def create_bucket(self, name):
        import boto3
        boto3.client("s3", endpoint_url=self.endpoint, region_name=self.region,
                     aws_access_key_id=self.access,
                     aws_secret_access_key=self.secret).create_bucket(Bucket=name)

    def environment(self):
        return {**os.environ, "CEPH_CONF": str(self.configuration), "CEPH_ARGS": ""}

    def spawn(self, *command):
        with open(self.folder / f"{command[0]}.out", "wb") as output:
            self.processes.append(subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *map(str, command)], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, env=self.environment()))

    def once(self, *command):
        done = self.run(*command)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout.decode()}")

    def tried(self, *command):
        return self.run(*command).returncode == 0

    def run(self, *command):
        return subprocess.run(list(map(str, command)), env=self.environment(), timeout=PATIENCE_S,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)

    def answers(self):
        try:
            with urllib.request.urlopen(self.endpoint, timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def until(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            for process in self.processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args[3]} has ended: {process.returncode}")
            if time.monotonic() > end:
                raise RuntimeError("the gateway does not start in time")
            time.sleep(0.05)


def main():
    folder, bucket = sys.argv[1:]
    if missing := missing_programs():
        print(json.dumps({"missing": missing}))
        return 1
    with Gateway(folder) as gateway:
        gateway.create_bucket(bucket)
        print(json.dumps({"url": f"s3://{bucket}?endpoint={gateway.endpoint}",
                          "access": gateway.access, "secret": gateway.secret}), flush=True)
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
