#!/usr/bin/env python3
"""New connections and streams through upgrades (SIGUSR2) and through restarts whose sockets a supervisor keeps (LISTEN_FDS).

No connection may be refused or reset, every stream must be whole, and the ledger must have one record per request. The whole
check: --rate 1000 --upgrades 20 --restarts 20. STREAMGAUGE_BIN names the binary (target/debug/streamgauge if unset).
"""

import argparse
import asyncio
import collections
import contextlib
import json
import multiprocessing
import os
import pathlib
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from programs import BIN, PATIENCE, free_port, started, until  # noqa: E402

# Events of each stream and their distance in milliseconds: longer than an upgrade, and short enough for a restart, whose new
# connections wait until the streams have ended.
UPGRADED, RESTARTED = (100, 30), (10, 30)
STREAMS = 20
BACKLOG = 4096
# The pause between two upgrades or restarts, in seconds.
PAUSE = 1.0


class Load:
    """Requests on new connections at a rate, and streams one after the other, in a process of its own."""

    def __init__(self, port, rate, events):
        self.stop, self.results = multiprocessing.Event(), multiprocessing.Queue()
        self.process = multiprocessing.Process(target=self.run, args=(port, rate, events), daemon=True)
        self.process.start()

    def end(self):
        self.stop.set()
        result = self.results.get(timeout=120)
        self.process.join(PATIENCE)
        return result

    def run(self, port, rate, events):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.results.put(asyncio.run(self.load(port, rate, *events)))

    async def load(self, port, rate, events, pace):
        self.failures, self.ids, self.slowest = collections.Counter(), [], 0.0
        plain = json.dumps({"model": "m", "messages": []})
        stream = json.dumps({"model": f"sim:events={events},pace={pace}ms", "messages": [], "stream": True})
        running = {asyncio.create_task(self.streams(port, stream)) for _ in range(STREAMS)}
        begun, sent = time.monotonic(), 0
        while not self.stop.is_set():
            await asyncio.sleep(0.005)
            while sent < (time.monotonic() - begun) * rate:
                sent += 1
                task = asyncio.create_task(self.request(port, plain, b"\r\n0\r\n\r\n", whole=False))
                running.add(task)
                task.add_done_callback(running.discard)
        _, unfinished = await asyncio.wait(set(running), timeout=90)
        self.failures["unfinished"] += len(unfinished)
        return {"failures": +self.failures, "ids": self.ids, "sent": sent, "slowest": self.slowest, "time": time.monotonic() - begun}

    async def streams(self, port, body):
        while not self.stop.is_set():
            await self.request(port, body, b"data: [DONE]\n\n\r\n0\r\n\r\n", whole=True)

    async def request(self, port, body, end, whole):
        begun = time.monotonic()
        kind = "stream" if whole else "request"
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            self.failures[f"{kind} refused: {error.strerror}"] += 1
            return
        try:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write((head + body).encode())
            response = await reader.read(-1)
            head, _, rest = response.partition(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
            length = fields.get(b"content-length")
            is_whole = len(rest) == int(length) if length else (b"\r\n" + rest).endswith(end)
            if not head.startswith(b"HTTP/1.1 200") or not is_whole:
                self.failures[f"{kind} not whole: {response[:80]!r} ... {response[-40:]!r}"] += 1
            if b"x-streamgauge-id" in fields:
                self.ids.append(fields[b"x-streamgauge-id"].decode())
        except OSError as error:
            self.failures[f"{kind} reset: {error.strerror}"] += 1
        finally:
            writer.close()
        if not whole:
            self.slowest = max(self.slowest, time.monotonic() - begun)


class Log:
    """The lines that all processes write to one pipe."""

    def __init__(self):
        self.end, self.pipe = os.pipe()
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        with open(self.end, encoding="utf-8", errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    self.lines.append(json.loads(line))

    def having(self, message):
        return [line for line in self.lines if message in line.get("message", "")]

    def wait_for(self, message, count):
        return until(message, lambda: found[count - 1] if len(found := self.having(message)) >= count else None, 60)


def configuration(folder, port, upstream):
    path = folder / "streamgauge.toml"
    path.write_text(
        f'[server]\nlisten = "127.0.0.1:{port}"\nworkers = 2\n[admin]\nlisten = ""\n[log]\nformat = "json"\naccess = "off"\n'
        f'[ledger]\npath = "usage.db"\n[upstreams.up]\nprovider = "other"\nurl = "http://127.0.0.1:{upstream}/v1"\n'
        'api_key = "none"\ndefault_model = "m"\n'
    )
    return path


def serve(folder, log, sockets=()):
    """Starts the program, with sockets from descriptor 3 on."""

    def pass_on():
        # Above all numbers that are passed, so that no copy overwrites a socket.
        copies = [os.dup2(number, 200 + at) for at, number in enumerate(sockets)]
        for at, number in enumerate(copies):
            os.dup2(number, 3 + at)
        os.environ["LISTEN_FDS"], os.environ["LISTEN_PID"] = str(len(sockets)), str(os.getpid())
        os.environ["LISTEN_FDNAMES"] = ":".join(["proxy"] * len(sockets))

    options = {"preexec_fn": pass_on, "close_fds": False} if sockets else {}
    return subprocess.Popen([BIN, "serve"], cwd=folder, stdin=subprocess.DEVNULL, stderr=log.pipe, **options)


def is_running(process):
    try:
        status = pathlib.Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    return "\nState:\tZ" not in status


def upgrades(folder, upstream, rate, count):
    """SIGUSR2 again and again, each to the process that the last one has started."""
    port, log = free_port(), Log()
    configuration(folder, port, upstream)
    first = serve(folder, log)
    log.wait_for("listening", 1)
    process, processes = first.pid, [first.pid]
    load = Load(port, rate, UPGRADED)
    try:
        for number in range(count):
            time.sleep(PAUSE)
            os.kill(process, signal.SIGUSR2)
            process = log.wait_for("replaced by the new process", number + 1)["process"]
            processes.append(process)
        time.sleep(PAUSE)
        result = load.end()
        os.kill(process, signal.SIGTERM)
        first.wait(PATIENCE)
        until("all processes end", lambda: True if not any(map(is_running, processes)) else None)
    finally:
        for left in filter(is_running, processes):
            os.kill(left, signal.SIGKILL)
    return result, log


def restarts(folder, upstream, rate, count):
    """Restarts between which only this program has the socket open."""
    port, log = free_port(), Log()
    configuration(folder, port, upstream)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    process = serve(folder, log, [listener.fileno()])
    load = Load(port, rate, RESTARTED)
    try:
        for number in range(count + 1):
            log.wait_for("listening", number + 1)
            time.sleep(PAUSE)
            if number == count:
                result = load.end()
            process.send_signal(signal.SIGTERM)
            if process.wait(60) != 0:
                raise SystemExit(f"FAILED: it ended with status {process.returncode}")
            if number < count:
                process = serve(folder, log, [listener.fileno()])
    finally:
        process.kill()
    return result, log


def check(name, count, run, rate, upstream):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        result, log = run(folder, upstream, rate, count)
        with contextlib.closing(sqlite3.connect(folder / "usage.db")) as ledger:
            records = [row[0] for row in ledger.execute("SELECT id FROM usage_records")]
    ids, failures = result["ids"], result["failures"]
    if sorted(ids) != sorted(records):
        failures["records"] = f"{len(records)} records of {len(ids)} requests, {len(set(ids) ^ set(records))} differ"
    errors = [line["message"] for line in log.lines if line.get("level") == "ERROR"]
    if errors:
        failures["errors in the log"] = errors[:5]
    print(
        f"{name}: {count} at {result['sent'] / result['time']:.0f} new connections a second, {len(ids)} requests of which the slowest"
        f" took {result['slowest']:.2f} s, {len(records)} records",
        flush=True,
    )
    for failure, times in failures.items():
        print(f"FAILED  {name}: {failure}: {times}", flush=True)
    return not failures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=200, help="new connections a second")
    parser.add_argument("--upgrades", type=int, default=4)
    parser.add_argument("--restarts", type=int, default=4)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))
    upstream = free_port()
    with started("simulator", [BIN, "simulate", "--listen", f"127.0.0.1:{upstream}", "--workers", "1"], upstream):
        well = [
            check("upgrades", options.upgrades, upgrades, options.rate, upstream),
            check("restarts", options.restarts, restarts, options.rate, upstream),
        ]
    if not all(well):
        sys.exit(1)
    print("upgrade checks: all well")


if __name__ == "__main__":
    main()
