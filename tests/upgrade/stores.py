#!/usr/bin/env python3
"""Limits and stores through upgrades (SIGUSR2).

* With the ledger alone, a limit goes on where the earlier process stopped: of 60 requests before an upgrade and 60 after it, as many are
  served as the limit has.
* With Redis, requests come all the time, and never more are served than the limit has; the grants of the earlier processes come back.
* With PostgreSQL, each record is there once, whichever process has written it.

STREAMGAUGE_BIN names the binary (target/debug/streamgauge if unset). Needs Debian's redis and postgresql.
"""

import collections
import contextlib
import http.client
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "limits"), str(HERE.parent / "support")]
from programs import BIN, PATIENCE, accepts, free_port, postgres, simulator, started, until, upstream  # noqa: E402
from run import Log, is_running, serve  # noqa: E402
from shared import Redis  # noqa: E402

KEY = "alice-0123456789abcdef"
LIMIT = 100
THREADS = 4
UPGRADES = 2


class Proxy:
    """A proxy with a limit of requests, and the processes that take its place."""

    def __init__(self, folder, service, tables=""):
        folder.mkdir()
        self.folder, self.port, self.log = folder, free_port(), Log()
        (folder / "streamgauge.toml").write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\nworkers = 2\n[admin]\nlisten = ""\n[log]\nformat = "json"\naccess = "off"\n'
            f'[ledger]\npath = "usage.db"\n{upstream(service)}[clients.alice]\nkey = {{ value = "{KEY}" }}\n'
            f'limits = [{{ requests = {LIMIT}, per = "month" }}]\n{tables}'
        )
        if "[ledger.postgres]" in tables:
            subprocess.run([BIN, "ledger", "migrate"], cwd=folder, check=True, capture_output=True, timeout=PATIENCE)
        self.first = serve(folder, self.log)
        self.processes = [self.first.pid]
        until("the proxy listens", lambda: accepts(self.port))
        self.statuses, self.ids = collections.Counter(), []

    def ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        body = json.dumps({"model": "sim:events=2", "messages": []})
        connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {KEY}", "connection": "close"})
        response = connection.getresponse()
        response.read()
        connection.close()
        self.statuses[response.status] += 1
        self.ids.append(response.headers["x-streamgauge-id"])

    def upgrade(self):
        count = len(self.log.having("replaced by the new process"))
        os.kill(self.processes[-1], signal.SIGUSR2)
        self.processes.append(self.log.wait_for("replaced by the new process", count + 1)["process"])

    def rows(self):
        with contextlib.closing(sqlite3.connect(self.folder / "usage.db")) as ledger:
            return [row[0] for row in ledger.execute("SELECT id FROM usage_records")]

    def end(self):
        os.kill(self.processes[-1], signal.SIGTERM)
        self.first.wait(PATIENCE)
        until("all processes end", lambda: None if any(map(is_running, self.processes)) else True)

    def kill(self):
        for process in filter(is_running, self.processes):
            os.kill(process, signal.SIGKILL)


def check(name, found, expected):
    if found != expected:
        print(f"FAILED  {name}: {found}, and not {expected}", flush=True)
        return False
    return True


def with_ledger(proxy):
    """Requests before an upgrade, and after it."""
    for _ in range(60):
        proxy.ask()
    until("the records are written", lambda: True if len(proxy.rows()) == 60 else None)
    proxy.upgrade()
    # Until then it may accept a connection, whose request the new process gets to know within ten minutes.
    until("the earlier process ends", lambda: None if is_running(proxy.processes[0]) else True)
    for _ in range(60):
        proxy.ask()
    proxy.end()
    return [check("a limit of the ledger", dict(proxy.statuses), {200: LIMIT, 429: 120 - LIMIT})]


def with_stores(proxy, database):
    """Requests all the time. Grants of a process that ends come back, so that the limit is used up in the end."""
    stop = threading.Event()

    def load():
        while not stop.is_set():
            proxy.ask()
            time.sleep(0.02)

    threads = [threading.Thread(target=load) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(UPGRADES):
            until("requests are served", lambda served=proxy.statuses[200]: True if proxy.statuses[200] >= min(served + 20, LIMIT) else None)
            proxy.upgrade()
        until("the limit is used up", lambda: True if proxy.statuses[200] >= LIMIT else None)
        # Some that are refused.
        until("a request is refused", lambda: True if proxy.statuses[429] >= 20 else None)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    ids = sorted(proxy.ids)
    psql = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
    query = [psql, database, "--no-psqlrc", "--tuples-only", "--no-align", "--command", "SELECT id FROM usage_records ORDER BY id"]

    def shipped():
        return subprocess.run(query, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE).stdout.split()

    # The last process ships when the one before it has ended; if it ends first, the next start would.
    until("the records are shipped", lambda: True if len(shipped()) >= len(ids) else None)
    proxy.end()
    statuses = set(proxy.statuses)
    return [
        check("a limit of Redis", (proxy.statuses[200], statuses), (LIMIT, {200, 429})),
        check("records of the ledger", sorted(proxy.rows()) == ids, True),
        check("records of PostgreSQL", sorted(shipped()) == ids, True),
    ]


def main():
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, service = pathlib.Path(name), free_port()
        stack.enter_context(started("the simulator", simulator(service), service))
        database = stack.enter_context(postgres(folder, "a-password-of-this-test", "-c", "fsync=off"))
        redis = Redis(folder)
        stack.callback(redis.kill)
        tables = f'[redis]\nurl = {{ value = "redis://127.0.0.1:{redis.port}" }}\n[ledger.postgres]\nurl = {{ value = "{database}" }}\n'
        alone = Proxy(folder / "ledger", service)
        stack.callback(alone.kill)
        well = with_ledger(alone)
        both = Proxy(folder / "stores", service, tables)
        stack.callback(both.kill)
        well += with_stores(both, database)
    if not all(well):
        sys.exit(1)
    print(f"upgrade checks: limits and stores, {len(alone.ids) + len(both.ids)} requests, all well")


if __name__ == "__main__":
    main()
