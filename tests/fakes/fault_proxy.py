"""An HTTP/1.1 proxy before a service that makes the mistakes it is told to make, by rule and in
order, and notes every request that it saw.

A rule says which requests ("method", "path": part of it, "range": how the Range header begins,
"header": one that must be there), which of those that fit ("from", the first is 1; "count", -1: all
from then on) and what happens:

    status     answered with "status" and S3's error "code", the service is not asked
    truncate   the answer's body ends after "after" bytes
    stall      nothing more comes after "after" bytes of the body; -1: not even the head
    reset      the connection is reset there
    flip       the body's byte "at" is another
    cut_upload the request's body ends after "after" bytes, on both sides
    lose_answer the service has done it, and the connection is reset
    delay      it is passed on "ms" later
    no_range   the service is not told of the range
"""

import asyncio
import hashlib
import hmac
import socket
import struct
import urllib.parse

PIECE = 65536
NO_BODY = (204, 304)


def parse_head(head):
    """First line's words, and headers with lower-case names."""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return first.split(" ", 2), headers


def reset(writer):
    """The other end sees ECONNRESET."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def signature_is_right(method, target, headers, secret):
    """AWS Signature Version 4, computed from what arrived."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    fields = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
    named = {"Credential", "SignedHeaders", "Signature"}
    if scheme != "AWS4-HMAC-SHA256" or not named <= set(fields):
        return False
    _, date, region, service, end = fields["Credential"].rsplit("/", 4)
    signed = fields["SignedHeaders"].split(";")
    path, _, query = target.partition("?")
    pairs = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
    canonical = "\n".join([
        method, path,
        "&".join(f"{urllib.parse.quote(k, safe='-_.~')}={urllib.parse.quote(v, safe='-_.~')}"
                 for k, v in pairs),
        *(f"{name}:{headers.get(name, '')}" for name in signed), "",
        ";".join(signed), headers.get("x-amz-content-sha256", "")])
    scope = f"{date}/{region}/{service}/{end}"
    text = "\n".join(["AWS4-HMAC-SHA256", headers.get("x-amz-date", ""), scope,
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, end):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    needed = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    return needed <= set(signed) and hmac.compare_digest(expected, fields["Signature"])


class FaultProxy:
    def __init__(self, upstream_port, secret):
        self.upstream_port = upstream_port
        self.secret = secret
        self.set_rules([])

    async def listen(self, tls=None):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=tls, limit=PIECE)
        return server.sockets[0].getsockname()[1]

    def set_rules(self, rules):
        self.rules = [{"from": 1, "count": 1, "after": 0, **rule, "met": 0} for rule in rules]
        self.seen = []

    def fault_of(self, method, target, headers):
        found = {}
        for rule in self.rules:
            if (rule.get("method", method) != method or rule.get("path", "") not in target
                    or not headers.get("range", "").startswith(rule.get("range", ""))
                    or rule.get("header", "host") not in headers):
                continue
            rule["met"] += 1
            number = rule["met"] - rule["from"]
            if not found and number >= 0 and (rule["count"] < 0 or number < rule["count"]):
                found = rule
        return found

    async def serve(self, reader, writer):
        try:
            while await self.exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def exchange(self, reader, writer):
        """One request; whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        (method, target, _), headers = parse_head(head)
        rule = self.fault_of(method, target, headers)
        fault = rule.get("fault", "")
        note = {"method": method, "path": target, "headers": headers, "fault": fault, "status": 0,
                "signed": signature_is_right(method, target, headers, self.secret)}
        self.seen.append(note)
        body_bytes = int(headers.get("content-length", 0))
        if fault == "status":
            note["status"] = rule["status"]
            return await self.refuse(writer, rule, method, body_bytes)
        if fault in ("stall", "reset") and rule["after"] < 0:
            if fault == "stall":
                await reader.read()
            reset(writer)
            return False
        if fault == "delay":
            await asyncio.sleep(rule["ms"] / 1000)
        if fault == "no_range":
            head = b"\r\n".join(line for line in head.split(b"\r\n")
                                if not line.lower().startswith(b"range:"))
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream_port,
                                                             limit=PIECE)
        upload = None
        try:
            up_writer.write(head)
            if body_bytes > 0 and "expect" not in headers:
                upload = asyncio.ensure_future(
                    self.upload(reader, writer, up_writer, body_bytes, rule))
            while True:
                answer = await up_reader.readuntil(b"\r\n\r\n")
                (_, status, *_), answer_headers = parse_head(answer)
                if not status.startswith("1"):
                    break
                writer.write(answer)
                if body_bytes > 0 and upload is None:
                    upload = asyncio.ensure_future(
                        self.upload(reader, writer, up_writer, body_bytes, rule))
            note["status"] = int(status)
            if fault == "lose_answer":
                reset(writer)
                return False
            goes_on = body_bytes == 0 or (upload is not None and upload.done())
            if not goes_on:
                answer = answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            writer.write(answer)
            if method != "HEAD" and int(status) not in NO_BODY:
                goes_on &= await self.download(up_reader, reader, writer, answer_headers, rule)
            await writer.drain()
            return goes_on
        finally:
            if upload is not None:
                upload.cancel()
            up_writer.close()

    async def refuse(self, writer, rule, method, body_bytes):
        body = f"<?xml version=\"1.0\"?><Error><Code>{rule.get('code', '')}</Code></Error>".encode()
        if method == "HEAD":
            body = b""
        lines = [f"HTTP/1.1 {rule['status']} Fault", f"Content-Length: {len(body)}"]
        if "location" in rule:
            lines.append(f"Location: {rule['location']}")
        if "retry_after" in rule:
            lines.append(f"Retry-After: {rule['retry_after']}")
        if body_bytes:
            lines.append("Connection: close")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        return body_bytes == 0

    async def upload(self, reader, writer, up_writer, body_bytes, rule):
        cut = rule["after"] if rule.get("fault") == "cut_upload" else None
        passed = 0
        while passed < body_bytes:
            piece = await reader.read(min(PIECE, body_bytes - passed))
            if cut is not None and passed + len(piece) > cut:
                up_writer.write(piece[:cut - passed])
                reset(up_writer)
                reset(writer)
                return
            if not piece:
                up_writer.close()
                return
            up_writer.write(piece)
            await up_writer.drain()
            passed += len(piece)

    async def download(self, up_reader, reader, writer, headers, rule):
        """Passes the answer's body on; whether the connection goes on."""
        fault, after, at = rule.get("fault"), rule["after"] if rule else 0, rule.get("at")
        chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        left = int(headers.get("content-length", 0))
        passed = 0
        while chunked or left > 0:
            piece = await up_reader.read(PIECE if chunked else min(PIECE, left))
            if not piece:
                return False  # the service broke off, or ended what has no length
            left -= len(piece)
            if fault in ("truncate", "stall", "reset") and passed + len(piece) > after:
                writer.write(piece[:after - passed])
                await writer.drain()
                if fault == "reset":
                    reset(writer)
                if fault == "stall":
                    await reader.read()
                return False
            if fault == "flip" and passed <= at < passed + len(piece):
                piece = bytearray(piece)
                piece[at - passed] ^= 0x40
            writer.write(piece)
            await writer.drain()
            passed += len(piece)
            if chunked and piece.endswith(b"0\r\n\r\n"):
                return True
        return True
