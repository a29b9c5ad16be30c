#!/usr/bin/env python3
"""Attacks the proxy from outside and counts what came through: request smuggling, bad responses, HTTP/2.

`run.py [smuggling] [responses] [http2]`; without a word all of them. STREAMGAUGE_BIN names the binary (target/debug/streamgauge if
unset). tests/run installs the servers under target/attacks. Loopback addresses only. Exit status 1 if an attack succeeded.
"""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import posixpath
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

import backends
import http2
import responses
import smuggling

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("STREAMGAUGE_BIN", str(ROOT / "target/debug/streamgauge"))

# The longest wait for a server to listen, for an attack's answer, and for records, in seconds.
PATIENCE = 20

# How long a connection may be silent before the next attack is tried: the proxy waits for the rest of an incomplete request.
SILENCE = 0.3

# Connections at once.
PARALLEL = 128


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, probe):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if (found := probe()) is not None:
            return found
        time.sleep(0.02)
    raise SystemExit(f"FAILED: {what}: not within {PATIENCE} s")


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return None


@contextlib.contextmanager
def started(name, command, port):
    """A program that listens on `port`; it is ended at the end."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"{name} listens", lambda: accepts(port) if child.poll() is None else None)
        yield child
    finally:
        child.terminate()
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Proxy:
    """The program under attack, before the upstream on `upstream`."""

    def __init__(self, folder, upstream, more=""):
        self.folder, self.port, self.admin = folder, free_port(), free_port()
        self.config = folder / "streamgauge.toml"
        self.config.write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\nworkers = 1\nheader_timeout = "2s"\n{more}\n'
            f'[admin]\nlisten = "127.0.0.1:{self.admin}"\n[log]\nformat = "json"\n'
            f'[ledger]\npath = ""\njsonl = "{folder}/records"\n'
            f'[upstreams.up]\nprovider = "other"\nurl = "http://127.0.0.1:{upstream}/v1"\ndefault_model = "m"\napi_key = "none"\n'
            '[upstreams.up.timeouts]\nfirst_byte = "5s"\nidle = "5s"\n'
        )
        self.command = [BIN, "serve", "--config", str(self.config)]

    def records(self):
        """Its records, once it has ended. Refusals that share one are counted each."""
        lines = (self.folder / "records").read_text().splitlines()
        return [json.loads(line) for line in lines]


async def send(port, payload):
    """Sends, and reads until the proxy closes or falls silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(payload)
        while piece := await asyncio.wait_for(reader.read(65536), SILENCE):
            answer += piece
    except (TimeoutError, asyncio.TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return answer


async def send_all(port, payloads):
    gate = asyncio.Semaphore(PARALLEL)

    async def one(payload):
        async with gate:
            return await send(port, payload)

    return await asyncio.gather(*map(one, payloads))


def is_outside(line):
    """Whether a server that decodes a path, drops its query and resolves dot segments is led out of the upstream's URL."""
    path = urllib.parse.unquote(line.split(" ")[1], "latin-1").replace("\\", "/")
    path = re.split("[?#;]", path)[0]
    return not posixpath.normpath(path).startswith("/v1")


def attack_by_smuggling():
    """Each payload before each backend; yields what is wrong."""
    payloads = dict(smuggling.payloads())
    total, through = 0, 0
    for name in backends.NAMES:
        with tempfile.TemporaryDirectory() as at:
            folder = pathlib.Path(at)
            folder.chmod(0o777)
            file, port = folder / "seen", free_port()
            file.touch(0o666)
            with started(name, backends.command(name, port, file, folder), port):
                proxy = Proxy(folder, port)
                with started("streamgauge", proxy.command, proxy.port):
                    asyncio.run(send_all(proxy.port, payloads.values()))
                records = proxy.records()
            # Some also log connections without a request.
            seen = [line for line in file.read_text(errors="replace").splitlines() if line[:1].isalpha()]
        sent = sum(record["upstream"] is not None for record in records)
        total, through = total + len(payloads), through + len(seen)
        if hidden := [line for line in seen if is_outside(line)]:
            yield f"{name} saw a smuggled request: {collections.Counter(hidden).most_common(3)}"
        if len(seen) > sent:
            yield f"{name} saw {len(seen)} requests, and the records know of {sent}"
    print(f"smuggling: {total} connections before {len(backends.NAMES)} backends, {through} requests reached one", flush=True)


def attack_by_responses():
    count, wrong = asyncio.run(responses.attack(Proxy, started))
    print(f"responses: {count} bad responses", flush=True)
    yield from wrong


def attack_by_http2():
    with tempfile.TemporaryDirectory() as at:
        port = free_port()
        command = [BIN, "simulate", "--listen", f"127.0.0.1:{port}", "--workers", "1"]
        with started("the simulator", command, port):
            proxy = Proxy(pathlib.Path(at), port)
            with started("streamgauge", proxy.command, proxy.port) as child:
                count, wrong = asyncio.run(http2.attack(proxy.port, child.pid))
            if child.returncode != 0:
                wrong.append(f"the proxy ended with status {child.returncode}")
    print(f"http2: {count} attacks", flush=True)
    yield from wrong


def main():
    attacks = {"smuggling": attack_by_smuggling, "responses": attack_by_responses, "http2": attack_by_http2}
    chosen = sys.argv[1:] or list(attacks)
    failed = 0
    for name in chosen:
        wrong = list(attacks[name]())
        failed += bool(wrong)
        for each in wrong:
            print(f"FAILED: {name}: {each}")
    print(f"attacks: {len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
