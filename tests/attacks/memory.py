"""Clients that try to use up the proxy's memory, all at once, while `server.max_memory` is 64 MiB.

They are processes of their own: two that hold 10,000 connections each with an incomplete head, and one each for large bodies,
readers that do not read, over HTTP/1.1 and HTTP/2, bombs in gzip, and WebSockets with a frame that never ends. They come twice,
since memory that was given back may be in pieces. The resident memory of the proxy must stay below the limit plus that of the idle
process; streams that ran before go on to their last event; new requests get a response, 503 `memory_full` at worst; and afterwards
all of it is free again.

The idle process has estimated tokens with both tables of words, which it then keeps: some 30 MB.
"""

import asyncio
import contextlib
import gzip
import http.client
import json
import os
import pathlib
import re
import resource
import socket
import subprocess
import sys
import threading
import time

import http2

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from programs import until  # noqa: E402

LIMIT = 64 << 20

# What running requests may take between two measurements of the proxy's own, in bytes. Usually nothing is needed of it.
TOLERANCE = 2 << 20

# The time of an attack, in seconds, and the time within which it must have filled the budget.
SECONDS, PATIENCE = 10, 20

ATTACKS = 2

# The connections of each of the two processes.
CONNECTIONS = 10_000

# The streams that must not notice, the events of each, and the pause between them. They are longer than the attacks.
STREAMS, EVENTS, PACE = 20, 600, 0.1

# The time within which the proxy must be as before.
RECOVERY = 20

MIB = 1 << 20
BODY = {"model": "sim:events=2", "messages": [{"role": "user", "content": "Go."}]}


def head(length, more=""):
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n"
    ).encode()


async def connected(port, receive=None):
    """A connection from one of several addresses, since one has too few ports."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.bind((f"127.0.0.{2 + os.getpid() % 200}", 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=sock)


async def hold_connections(port, count):
    """Holds connections with an incomplete head, and opens others for those that were closed."""
    gate = asyncio.Semaphore(256)

    async def one(number):
        while True:
            writer = None
            try:
                async with gate:
                    reader, writer = await connected(port)
                    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * (200 if number % 10 else 40_000))
                await reader.read()
            except OSError:
                await asyncio.sleep(1)
            finally:
                if writer:
                    writer.close()

    await asyncio.gather(*(one(number) for number in range(count)))


async def send_bodies(port, count):
    """Sends nearly all of a large body, waits, and begins again."""
    piece = b" " * 65536

    async def one():
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await connected(port)
                with contextlib.closing(writer):
                    writer.write(head(30 * MIB))
                    for _ in range(29 * MIB // len(piece)):
                        writer.write(piece)
                        await writer.drain()
                    await asyncio.wait_for(reader.read(), 3)

    await asyncio.gather(*(forever(one) for _ in range(count)))


async def read_nothing(port, count):
    """Asks for long responses, and does not read them."""
    body = json.dumps(BODY | {"model": "sim:events=1000000,size=1000", "stream": True}).encode()

    async def one():
        with contextlib.suppress(OSError):
            reader, writer = await connected(port, 4096)
            reader._transport.pause_reading()
            with contextlib.closing(writer):
                writer.write(head(len(body)) + body)
                await asyncio.sleep(10)

    await asyncio.gather(*(forever(one) for _ in range(count)))


async def read_no_frames(port, count):
    """Asks for many long responses on each HTTP/2 connection, and opens no window for them."""
    body = json.dumps(BODY | {"model": "sim:events=1000000,size=1000", "stream": True}).encode()

    async def one():
        with contextlib.suppress(OSError):
            reader, writer = await connected(port)
            reader._transport.pause_reading()
            with contextlib.closing(writer):
                writer.write(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0))
                for stream in range(1, 100, 2):
                    writer.write(http2.frame(http2.HEADERS, http2.END_HEADERS, stream, http2.block(http2.USUAL)))
                    writer.write(http2.frame(http2.DATA, http2.END_STREAM, stream, body))
                await asyncio.sleep(10)

    await asyncio.gather(*(forever(one) for _ in range(count)))


async def send_bombs(port, count):
    """Sends bodies that expand to 30 MiB, the model at their end."""
    text = b'{"messages":[],"x":"' + b" " * (30 * MIB) + b'","model":"sim:events=1"}'
    bomb = gzip.compress(text)

    async def one():
        with contextlib.suppress(OSError):
            reader, writer = await connected(port)
            with contextlib.closing(writer):
                writer.write(head(len(bomb), "content-encoding: gzip\r\n") + bomb)
                await asyncio.wait_for(reader.read(4096), 5)

    await asyncio.gather(*(forever(one) for _ in range(count)))


async def send_frames(port, count):
    """Upgrades, and sends a frame of 2^40 bytes without end."""
    upgrade = (
        b"GET /v1/realtime?model=sim HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def one():
        with contextlib.suppress(OSError):
            reader, writer = await connected(port)
            with contextlib.closing(writer):
                writer.write(upgrade)
                if b" 101 " not in await asyncio.wait_for(reader.readline(), 5):
                    return await asyncio.sleep(0.2)
                writer.write(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + bytes(4))
                for _ in range(1000):
                    writer.write(b"x" * 65536)
                    await writer.drain()

    await asyncio.gather(*(forever(one) for _ in range(count)))


async def forever(one):
    while True:
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await one()
        await asyncio.sleep(0.05)


# The attackers: their function, and the number of their connections.
ROLES = {
    "connections-1": (hold_connections, CONNECTIONS),
    "connections-2": (hold_connections, CONNECTIONS),
    "bodies": (send_bodies, 32),
    "readers": (read_nothing, 400),
    "frames of readers": (read_no_frames, 32),
    "bombs": (send_bombs, 16),
    "frames": (send_frames, 64),
}


def resident(pid):
    """Resident memory without pages of files, such as the program's own, which the system can drop and read again."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return sum(int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("RssAnon", "RssShmem")) * 1024


class Watch(threading.Thread):
    """Keeps the largest resident memory."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.over = pid, 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.02):
            self.most = max(self.most, resident(self.pid))

    def stop(self):
        self.over.set()
        self.join()
        return self.most


class Stream(threading.Thread):
    """A client that reads its events as they come."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.seen, self.fault = port, 0, None
        self.start()

    def run(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            body = BODY | {"model": f"sim:events={EVENTS},pace={int(PACE * 1000)}ms", "stream": True}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            text = connection.getresponse().read().decode()
            # The first event has the role, and an empty text.
            self.seen = text.count('"content"') - 1
            if "data: [DONE]" not in text:
                self.fault = f"ended early: {text[-200:]!r}"
        except (OSError, http.client.HTTPException) as error:
            self.fault = repr(error)


def ask(port):
    """A short request; returns its status and the code of its error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(BODY), {"content-type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if response.status == 200:
            return "200"
        return f"{response.status} {json.loads(text)['error']['code']}" + (
            "" if response.getheader("retry-after") else " without Retry-After"
        )


def gauges(admin):
    connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    parts = dict(re.findall(r'^streamgauge_memory_bytes\{part="(\w+)"\} (\d+)', text, re.M))
    return {part: int(value) for part, value in parts.items()}


def warm(proxy):
    """Makes the process load what it keeps: both tables of words, for responses whose clients leave."""
    for _ in range(5):
        assert ask(proxy.port) == "200"
    for model in ("gpt-4", "gpt-5"):
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            body = json.dumps(BODY | {"model": model, "stream": True})
            headers = {"content-type": "application/json", "x-simulate": "events=100000"}
            connection.request("POST", "/v1/chat/completions", body, headers)
            connection.getresponse().read(2000)
    until("two estimates are recorded", lambda: sum(map(is_estimated, proxy.records())) == 2 or None)


def is_estimated(record):
    return record["usage_source"] == "estimated"


def attack_once(proxy, figures):
    """Attacks until the budget was full for once. Returns false if it never was."""
    attackers = [
        subprocess.Popen([sys.executable, __file__, role, str(proxy.port)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for role in ROLES
    ]
    begun, full = time.monotonic(), False
    try:
        while (passed := time.monotonic() - begun) < SECONDS or (not full and passed < PATIENCE):
            try:
                said = ask(proxy.port)
            except (OSError, http.client.HTTPException) as error:
                said = type(error).__name__
            figures["responses"][said] = figures["responses"].get(said, 0) + 1
            full = full or said == "503 memory_full"
            with contextlib.suppress(OSError, http.client.HTTPException):
                parts = gauges(proxy.admin)
                full = full or sum(parts.values()) >= LIMIT // 8 * 7
                for part, value in parts.items():
                    figures["most counted, KiB"][part] = max(figures["most counted, KiB"].get(part, 0), value >> 10)
            time.sleep(0.05)
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.wait()
    return full


def recovered(proxy):
    """Waits until a request is served. Returns the time, or None."""
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < RECOVERY:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ask(proxy.port) == "200":
                return passed
        time.sleep(0.1)
    return None


def held(proxy):
    """The bytes that clients hold."""
    return sum(bytes for part, bytes in gauges(proxy.admin).items() if part != "uncounted")


def attack(proxy, child):
    """Attacks `proxy`, which runs as `child`; returns the figures and the faults."""
    warm(proxy)
    idle, watch, wrong = resident(child.pid), Watch(child.pid), []
    figures = {"idle": f"{idle / MIB:.1f} MiB", "responses": {}, "most counted, KiB": {}}
    streams = [Stream(proxy.port) for _ in range(STREAMS)]
    for number in range(ATTACKS):
        if not attack_once(proxy, figures):
            wrong.append("the attack did not fill the budget, so that it shows nothing")
        if (time_of := recovered(proxy)) is None:
            return figures, [*wrong, f"no request was served within {RECOVERY} s of the attack"]
        figures[f"recovery {number + 1}"] = f"{time_of:.1f} s"
    for stream in streams:
        stream.join(2 * EVENTS * PACE)
    begun = time.monotonic()
    while (left := held(proxy)) > 4 * MIB and time.monotonic() - begun < RECOVERY:
        time.sleep(0.2)
    peak, after = watch.stop(), resident(child.pid)
    figures |= {"peak": f"{peak / MIB:.1f} MiB", "after": f"{after / MIB:.1f} MiB"}
    wrong += [f"a well-behaved stream {stream.fault}" for stream in streams if stream.fault][:3]
    wrong += [f"{stream.seen} of {EVENTS} events" for stream in streams if not stream.fault and stream.seen != EVENTS][:3]
    if peak >= idle + LIMIT + TOLERANCE:
        wrong.append(f"resident memory was {peak / MIB:.1f} MiB, which is more than {idle / MIB:.1f} + {LIMIT / MIB:.0f}")
    if left > 4 * MIB:
        wrong.append(f"{left} bytes still count: {gauges(proxy.admin)}")
    usual = ("200", "503 memory_full", "503 overloaded", "timeout", "TimeoutError")
    if unknown := [said for said in figures["responses"] if said not in usual]:
        wrong.append(f"unexpected responses: {unknown}")
    return figures, wrong


if __name__ == "__main__":
    role, port = sys.argv[1:3]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    function, count = ROLES[role]
    asyncio.run(function(int(port), count))
