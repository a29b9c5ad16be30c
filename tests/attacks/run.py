#!/usr/bin/env python3
"""Attacks the proxy from outside and counts the successful attacks: request smuggling, bad responses, HTTP/2, memory.

`run.py [smuggling] [responses] [http2] [memory]`; without a word all of them. STREAMGAUGE_BIN names the binary (target/debug/streamgauge if
unset). tests/run installs the servers under target/attacks. Loopback addresses only. Exit status 1 if an attack succeeded.
"""

import asyncio
import collections
import pathlib
import posixpath
import re
import sys
import tempfile
import urllib.parse

import backends
import http2
import memory
import responses
import smuggling

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from programs import Proxy, free_port, simulator, started, upstream  # noqa: E402

# The silence of a connection after which the next attack is tried: the proxy waits for the rest of an incomplete request.
SILENCE = 0.3

# The number of connections at the same time.
PARALLEL = 128


def proxy_before(port, folder, more=""):
    """The program under attack, before the upstream on `port`."""
    patience = '[upstreams.up.timeouts]\nfirst_byte = "5s"\nidle = "5s"\n'
    return Proxy(folder, upstream(port, more=patience), f'workers = 1\nheader_timeout = "2s"\n{more}\n')


async def send(port, payload):
    """Sends, and reads until the proxy closes or falls silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    response = b""
    try:
        writer.write(payload)
        while piece := await asyncio.wait_for(reader.read(65536), SILENCE):
            response += piece
    except (TimeoutError, asyncio.TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return response


async def send_all(port, payloads):
    gate = asyncio.Semaphore(PARALLEL)

    async def one(payload):
        async with gate:
            return await send(port, payload)

    return await asyncio.gather(*map(one, payloads))


def is_outside(line):
    """True if a server that decodes a path, drops its query and resolves dot segments is led out of the upstream's URL."""
    path = urllib.parse.unquote(line.split(" ")[1], "latin-1").replace("\\", "/")
    path = re.split("[?#;]", path)[0]
    return not posixpath.normpath(path).startswith("/v1")


def attack_by_smuggling():
    """Sends each payload to each backend; yields the faults."""
    payloads = dict(smuggling.payloads())
    total, through = 0, 0
    for name in backends.NAMES:
        with tempfile.TemporaryDirectory() as at:
            folder = pathlib.Path(at)
            folder.chmod(0o777)
            file, port = folder / "seen", free_port()
            file.touch(0o666)
            with started(name, backends.command(name, port, file, folder), port):
                proxy = proxy_before(port, folder)
                with proxy.running():
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
    count, wrong = asyncio.run(responses.attack(proxy_before))
    print(f"responses: {count} bad responses", flush=True)
    yield from wrong


def attack_by_http2():
    with tempfile.TemporaryDirectory() as at:
        port = free_port()
        with started("the simulator", simulator(port), port):
            proxy = proxy_before(port, pathlib.Path(at))
            with proxy.running() as child:
                count, wrong = asyncio.run(http2.attack(proxy.port, child.pid))
            if child.returncode != 0:
                wrong.append(f"the proxy ended with status {child.returncode}")
    print(f"http2: {count} attacks", flush=True)
    yield from wrong


def attack_by_memory():
    with tempfile.TemporaryDirectory() as at:
        port = free_port()
        with started("the simulator", simulator(port), port):
            server = f'workers = 1\nmax_memory = "{memory.LIMIT >> 20}MiB"\n'
            proxy = Proxy(pathlib.Path(at), upstream(port), server)
            with proxy.running() as child:
                figures, wrong = memory.attack(proxy, child)
            if child.returncode != 0:
                wrong.append(f"the proxy ended with status {child.returncode}")
    print("memory: " + ", ".join(f"{name} {value}" for name, value in figures.items()), flush=True)
    yield from wrong


def main():
    attacks = {
        "smuggling": attack_by_smuggling,
        "responses": attack_by_responses,
        "http2": attack_by_http2,
        "memory": attack_by_memory,
    }
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
