#!/usr/bin/env python3
"""Thousands of slow streams on one worker, then HTTP/2 clients that give their streams no window.

Run by name, before an issue is closed: it takes some four minutes and does not belong to tests/run. STREAMGAUGE_BIN names the binary,
which should be a release build (target/release/streamgauge if unset). An argument divides all numbers. Load and simulator are processes of their own. For each
phase it prints the time until all streams ran, memory and open files of the proxy, the time of the slowest probe meanwhile,
and the time in which the proxy released everything. Exit status 1 if a stream was incomplete, a probe failed, a record is
missing, or files stayed open.
"""

import json
import os
import pathlib
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
BIN = os.environ.get("STREAMGAUGE_BIN", str(ROOT / "target/release/streamgauge"))
CORES = [{0}, {1}] if len(os.sched_getaffinity(0)) > 1 else [{0}, {0}]

# The duration of a phase's streams, in seconds.
SECONDS = 40
WRITE_TIMEOUT = 5

# The time within which the proxy must release connections and files after a phase, in seconds.
RECOVERY = 20


def listening(command, core, patterns):
    """Starts a program of ours on one core; returns it and the ports that its log names."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    os.sched_setaffinity(child.pid, core)
    ports, lines = {}, []
    for line in child.stderr:
        lines.append(line)
        for pattern in patterns:
            if match := re.search(pattern, line):
                ports[pattern] = int(match[1])
        if len(ports) == len(patterns):
            # The rest of the log is read and dropped.
            threading.Thread(target=child.stderr.read, daemon=True).start()
            return child, [ports[pattern] for pattern in patterns]
    raise SystemExit(f"FAILED: {command} did not start:\n{''.join(lines)}")


class Probes(threading.Thread):
    """Requests /healthz, /readyz and /metrics all the time; keeps the time of the slowest response."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.stopped, self.slowest, self.failures, self.count = port, threading.Event(), 0.0, [], 0
        self.start()

    def run(self):
        while not self.stopped.wait(0.1):
            for path in ("healthz", "readyz", "metrics"):
                begun = time.monotonic()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5) as response:
                        response.read()
                except OSError as error:
                    self.failures.append(f"/{path}: {error}")
                self.slowest, self.count = max(self.slowest, time.monotonic() - begun), self.count + 1

    def stop(self):
        self.stopped.set()
        self.join()


def memory(pid):
    """Resident memory now, in MB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def until(what, probe, patience):
    begun = time.monotonic()
    while not probe():
        if time.monotonic() - begun > patience:
            raise SystemExit(f"FAILED: {what}: not within {patience} s")
        time.sleep(0.05)
    return time.monotonic() - begun


def phase(name, http, load, seen):
    """One proxy, one load; `seen` judges the load's lines and returns what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        command = [BIN, "simulate", "--listen", "127.0.0.1:0", "--workers", "1"]
        simulator, (up,) = listening(command, CORES[1], [r"listening on http://[^:]+:(\d+)/"])
        config = pathlib.Path(folder, "streamgauge.toml")
        config.write_text(
            f'[server]\nlisten = "127.0.0.1:0"\nworkers = 1\nwrite_timeout = "{WRITE_TIMEOUT}s"\n[admin]\nlisten = "127.0.0.1:0"\n'
            f'[log]\nformat = "json"\nlevel = "info,streamgauge::access=off"\n[ledger]\npath = "{folder}/ledger.db"\n'
            f'[upstreams.up]\nprovider = "other"\nurl = "http://127.0.0.1:{up}/v1"\nhttp = "{http}"\napi_key = "none"\ndefault_model = "m"\n'
        )
        patterns = [r'"message":"listening","address":"[^"]+:(\d+)"', r'"message":"admin pages","address":"[^"]+:(\d+)"']
        proxy, (port, admin) = listening([BIN, "serve", "--config", str(config)], CORES[0], patterns)
        try:
            before = memory(proxy.pid), files(proxy.pid)
            probes = Probes(admin)
            command = [sys.executable, str(HERE / "load.py"), load[0], str(port), *map(str, load[1:])]
            clients = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            os.sched_setaffinity(clients.pid, CORES[1])
            lines, peak = [], (0, 0)
            watch = threading.Event()

            def watched():
                nonlocal peak
                while not watch.wait(0.25):
                    peak = max(peak[0], memory(proxy.pid)), max(peak[1], files(proxy.pid))

            watcher = threading.Thread(target=watched)
            watcher.start()
            for line in clients.stdout:
                lines.append(json.loads(line))
                print(f"  {name}: {line.strip()}", flush=True)
            clients.wait()
            watch.set()
            watcher.join()
            # Kept connections to the simulator may stay; clients' may not.
            recovery = until("files are given back", lambda: files(proxy.pid) <= before[1] + 1200, RECOVERY)
            probes.stop()
            after = memory(proxy.pid), files(proxy.pid)
        finally:
            proxy.terminate()
            status = proxy.wait(40)
            simulator.terminate()
            simulator.wait()
        rows = sqlite3.connect(f"{folder}/ledger.db").execute(
            "SELECT outcome, count(*) FROM usage_records GROUP BY outcome"
        ).fetchall()
    print(
        f"{name}: memory {before[0]:.1f} MB, at most {peak[0]:.1f}, then {after[0]:.1f}; open files {before[1]}, at most {peak[1]}, "
        f"then {after[1]}; {probes.count} probes, the slowest {probes.slowest * 1e3:.0f} ms; recovered in {recovery:.1f} s; records {rows}",
        flush=True,
    )
    wrong = seen(lines, dict(rows))
    wrong += [f"{len(probes.failures)} probes failed: {probes.failures[0]}"] if probes.failures else []
    wrong += [f"the proxy ended with status {status}"] if status else []
    return [f"{name}: {each}" for each in wrong]


def whole(count):
    def seen(lines, rows):
        last = lines[-1] if lines else {}
        wrong = [] if last.get("whole") == count else [f"not all streams came whole: {last}"]
        return wrong + ([] if rows.get("complete") == count else [f"records: {rows}"])

    return seen


def reset(count):
    def seen(lines, rows):
        last = lines[-1] if lines else {}
        wrong = [] if last.get("resets") == count else [f"not all stalled streams were reset: {last}"]
        return wrong + ([] if sum(rows.values()) >= count else [f"records: {rows}"])

    return seen


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{BIN}; at most {hard} open files a process", flush=True)
    share = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    http1, http2, connections = 9000 // share, 10_000 // share, 40 // share
    wrong = phase(f"{http1} streams, HTTP/1.1 on both sides", "1", ("streams", http1, SECONDS), whole(http1))
    wrong += phase(f"{http2} streams, HTTP/2 to the upstream", "2", ("streams", http2, SECONDS), whole(http2))
    stalled = ("stalled", connections, 100, 60)
    wrong += phase(f"{connections} x 100 HTTP/2 streams without a window", "1", stalled, reset(connections * 100))
    for each in wrong:
        print(f"FAILED: {each}")
    print("soak: " + ("all held" if not wrong else f"{len(wrong)} failed"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
