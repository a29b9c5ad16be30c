#!/usr/bin/env python3
"""Thousands of slow streams on one worker for ten minutes, while everything around them changes.

New streams arrive at a rate; one client in 50 leaves in mid-stream. Meanwhile one of the two upstreams is killed and started
again each four minutes, the configuration is changed and reloaded each 30 seconds, and records go to SQLite and to PostgreSQL.

    tests/soak/steady.py                                       # 9,000 streams, 50 new a second, 10 minutes; some 16 minutes
    tests/soak/steady.py --http 2 --streams 10000              # HTTP/2 to the upstreams
    tests/soak/steady.py --streams 300 --minutes 1 --kill 15   # a short form

STREAMGAUGE_BIN names the binary, which should be a release build (target/release/streamgauge if unset). Prints memory, CPU and
latencies. Exit status 1 if a stream of the upstream that lives broke, a request got no response, the records of a ledger differ
from what the clients saw, memory grew, or a reload failed.
"""

import argparse
import contextlib
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

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ.setdefault("STREAMGAUGE_BIN", str(ROOT / "target/release/streamgauge"))
sys.path.insert(0, str(HERE.parent / "support"))
from programs import BIN, accepts, free_port, postgres, simulator, started, until  # noqa: E402

PASSWORD = "a-password-of-the-soak"
CORES = [{0}, {1}] if len(os.sched_getaffinity(0)) > 1 else [{0}, {0}]
RELOAD_EACH = 30
SAMPLE_EACH = 5

# What the last samples of memory may be above the first ones of the steady state, and the MB that caches of a young process take.
MOST_GROWTH, YOUNG = 1.05, 5


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=9000)
    parser.add_argument("--rate", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kill", type=int, default=240, help="seconds between two restarts of an upstream")
    parser.add_argument("--http", choices=["1", "2"], default="1")
    return parser.parse_args()


def configuration(folder, ports, upstreams, database, http, price):
    tables = "".join(
        f'[upstreams.{name}]\nprovider = "other"\nurl = "http://127.0.0.1:{port}/v1"\nhttp = "{http}"\napi_key = "none"\ndefault_model = "sim"\n'
        for name, port in upstreams.items()
    )
    members = ", ".join(json.dumps(name) for name in upstreams)
    return (
        f'[server]\nlisten = "127.0.0.1:{ports[0]}"\nworkers = 1\n[admin]\nlisten = "127.0.0.1:{ports[1]}"\n'
        f'[log]\nformat = "json"\nlevel = "info,streamgauge::access=off"\n[ledger]\npath = "{folder}/ledger.db"\n'
        f'[ledger.postgres]\nurl = {{ value = "{database}" }}\n[[prices]]\nmodel = "sim*"\ninput = {price}\noutput = 1\n'
        f'[groups.pair]\ntiers = [[{members}]]\n[[routes]]\nupstream = "pair"\n{tables}'
    )


def memory(pid):
    """Resident memory in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def cpu(pid):
    """Seconds of CPU of all threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Every(threading.Thread):
    """Does something each few seconds until it is stopped. Its failures are kept."""

    def __init__(self, seconds, task):
        super().__init__(daemon=True)
        self.seconds, self.task, self.over, self.failures, self.count = seconds, task, threading.Event(), [], 0

    def run(self):
        while not self.over.wait(self.seconds):
            try:
                self.task()
                self.count += 1
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def stop(self):
        self.over.set()
        self.join()
        return self.failures


class Upstream:
    """A simulator that can be killed and started again on its port."""

    def __init__(self, port):
        self.port = port
        self.start()

    def start(self):
        self.child = subprocess.Popen(simulator(self.port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.sched_setaffinity(self.child.pid, CORES[1])
        until("the simulator listens", lambda: accepts(self.port))

    def restart(self):
        self.child.kill()
        self.child.wait()
        self.start()

    def stop(self):
        self.child.kill()
        self.child.wait()


def added_latency(metrics, streams):
    """The bound, in ms, that 99 % of events keep, without the first of each stream: a group holds it until an event decides."""
    name, buckets = "streamgauge_added_latency_seconds", {}
    for bound, count in re.findall(rf'^{name}_bucket{{[^}}]*le="([^"]+)"[^}}]*}} (\d+)', metrics, re.M):
        buckets[float(bound)] = buckets.get(float(bound), 0) + int(count)
    events = buckets[float("inf")] - streams
    return next(bound for bound in sorted(buckets) if buckets[bound] >= 0.99 * events) * 1e3, events


def postgres_rows(psql, database):
    """The number of records, 0 before the table exists."""
    query = "SELECT count(*) FROM usage_records"
    done = subprocess.run([psql, database, "-Atc", query], capture_output=True, text=True)
    return 0 if "does not exist" in done.stderr else int(done.stdout)


def verdict(end, outcomes):
    """What is wrong with the endings that clients saw, and with the records of them."""
    wrong, seen = [], {}
    for upstream, ending, count in end["endings"]:
        seen[ending] = seen.get(ending, 0) + count
        # A request that runs while its upstream is killed may have been executed, so that it is not repeated. Errors name no member.
        expected = ending in ("whole", "left") or (upstream, ending) in (("second", "broken"), ("none", "status 502"))
        if not expected:
            wrong.append(f"{count} streams of {upstream}: {ending}")
    # A client may leave in the moment in which its upstream is killed.
    pairs = [(["complete"], ["whole"]), (["client_disconnected", "truncated"], ["left", "broken"]), (["upstream_error"], ["status 502"])]
    for kinds, endings in pairs:
        records, streams = sum(outcomes.get(kind, 0) for kind in kinds), sum(seen.get(ending, 0) for ending in endings)
        if records != streams:
            wrong.append(f"{streams} streams {' or '.join(endings)}, {records} records {' or '.join(kinds)}")
    known = [kind for kinds, _ in pairs for kind in kinds]
    wrong += [f"{count} records {outcome}" for outcome, count in outcomes.items() if outcome not in known]
    return wrong


def growth(samples):
    """How far the memory of the last quarter is above that of the first one, by medians."""
    quarter = max(len(samples) // 4, 1)
    median = lambda part: sorted(part)[len(part) // 2]  # noqa: E731
    return median(samples[-quarter:]) / median(samples[:quarter])


def run(args, folder, stack):
    database = stack.enter_context(postgres(folder, PASSWORD))
    psql = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
    ports, upstreams = (free_port(), free_port()), {"first": free_port(), "second": free_port()}
    first, second = Upstream(upstreams["first"]), Upstream(upstreams["second"])
    stack.callback(first.stop)
    stack.callback(second.stop)
    config, prices = folder / "streamgauge.toml", iter(range(1, 10_000))

    def write():
        draft = folder / "draft.toml"
        draft.write_text(configuration(folder, ports, upstreams, database, args.http, next(prices)))
        draft.rename(config)

    def reload():
        write()
        command = [BIN, "reload", "--config", str(config)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"status {done.returncode}: {done.stdout}{done.stderr}")

    def metrics():
        return urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/metrics", timeout=10).read().decode()

    write()
    subprocess.run([BIN, "ledger", "migrate", "--config", str(config)], check=True, capture_output=True)
    ramp, seconds = args.streams // args.rate, int(args.minutes * 60)
    samples, wrong = [], []
    with started("the proxy", [BIN, "serve", "--config", str(config)], ports[0], folder / "proxy.log") as proxy:
        os.sched_setaffinity(proxy.pid, CORES[0])
        idle = memory(proxy.pid)
        command = [sys.executable, str(HERE / "arrivals.py"), *map(str, (ports[0], args.streams, args.rate, ramp + seconds))]
        clients = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(clients.pid, CORES[1])
        steady = lambda: ramp < time.monotonic() - begun < ramp + seconds  # noqa: E731
        begun = time.monotonic()
        sample = lambda: samples.append(memory(proxy.pid)) if steady() else None  # noqa: E731
        tasks = [Every(SAMPLE_EACH, sample), Every(args.kill, second.restart), Every(RELOAD_EACH, reload)]
        for task in tasks:
            task.start()
        end, most, used = None, 0, {}
        for line in clients.stdout:
            said = json.loads(line)
            if "endings" in said:
                end = said
                continue
            most = max(most, said["running"])
            if steady():
                used.setdefault("first", (time.monotonic(), cpu(proxy.pid)))
                used["last"] = (time.monotonic(), cpu(proxy.pid))
            if said["second"] % 60 < SAMPLE_EACH:
                print(f"  {said['second']:4} s: {said['running']} streams, {memory(proxy.pid):.1f} MB", flush=True)
        clients.wait()
        print(f"endings: {end['endings']}", flush=True)
        wrong += [failure for task in tasks for failure in task.stop()]
        text = metrics()
        rows = lambda: postgres_rows(psql, database)  # noqa: E731
        until("PostgreSQL has all records", lambda: rows() >= end["streams"] or None, 60)
        shipped = rows()
        after = memory(proxy.pid)
    outcomes = dict(
        sqlite3.connect(folder / "ledger.db").execute("SELECT outcome, count(*) FROM usage_records GROUP BY outcome").fetchall()
    )
    wrong += verdict(end, outcomes)
    if sum(outcomes.values()) != end["streams"] or shipped != end["streams"]:
        wrong.append(f"{end['streams']} requests, {sum(outcomes.values())} records in SQLite, {shipped} in PostgreSQL")
    if proxy.returncode:
        wrong.append(f"the proxy ended with status {proxy.returncode}")
    rise = growth(samples)
    if rise > MOST_GROWTH and max(samples) - min(samples) > YOUNG:
        wrong.append(f"memory grew by {rise - 1:.1%}")
    added, events = added_latency(text, end["streams"])
    (since, before), (until_, later) = used["first"], used["last"]
    print(f"requests: {end['streams']}, of {tasks[1].count} restarts and {tasks[2].count} reloads; at most {most} streams at a time")
    print(f"records: {outcomes}; in PostgreSQL: {shipped}")
    print(f"memory: {idle:.1f} MB idle, {max(samples):.1f} at most, {rise - 1:+.1%} in the steady state, {after:.1f} afterwards")
    print(f"CPU: {(later - before) / (until_ - since):.1%} of a core; added latency: p99 at most {added:.3g} ms of {events} events")
    print(f"first byte: p99 {end['first_byte_p99_s'] * 1e3:.0f} ms")
    return wrong


def main():
    args = arguments()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        with stack:
            wrong = run(args, pathlib.Path(folder), stack)
    for each in wrong:
        print(f"FAILED: {each}")
    print("steady: " + ("all held" if not wrong else f"{len(wrong)} failed"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
