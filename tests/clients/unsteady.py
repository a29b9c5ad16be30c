#!/usr/bin/env python3
"""Kills, stops and restarts the members of a group under SDKs, and checks that these see no error.

openai-python, openai-node and LiteLLM send requests without retries of their own. Meanwhile one of the two simulators of the group
is killed (SIGKILL) and started again, or stopped (SIGSTOP) and continued, in turn. Then the results, the proxy's records and the
simulators' lists of executed requests are compared:

* No request fails. The exception is a stream that had begun at a member that was killed: its record is `truncated`.
* Each request has one record.
* A member executes a request at most once, and only if the record has an attempt there that is not billed `no`. So a request that is
  executed twice has an attempt of the class `doubtful`.

--steps is the number of changes and --pause the shortest time between two, in seconds. STREAMGAUGE_BIN names the binary
(target/debug/streamgauge if unset). tests/run installs the clients under target/clients.
"""

import argparse
import collections
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from programs import ROOT, Proxy, accepts, free_port, simulator, until, upstream  # noqa: E402

INSTALLED = ROOT / "target/clients"
MEMBERS = ("a", "b")

# The configuration of docs/upstreams.md for members that end or hang, with shorter times.
GROUP = """
[groups.chat]
tiers = [["a", "b"]]

[groups.chat.retry]
on = ["retryable", "closed", "first_byte"]
first_byte = "1s"
budget = 1

[[routes]]
upstream = "chat"
"""

CLIENTS = {
    "openai-python": [str(INSTALLED / "venv/bin/python"), str(HERE / "unsteady_ask.py"), "openai"],
    "litellm": [str(INSTALLED / "venv/bin/python"), str(HERE / "unsteady_ask.py"), "litellm"],
    "openai-node": ["node", str(HERE / "unsteady_ask.mjs")],
}

# The requests that each client completes between two changes at least.
PROGRESS = 6

# The longest wait for that progress, and for a client to start, in seconds.
PATIENCE = 90


class Member:
    """A simulator that can be killed, stopped and started again at the same port. It lists what it executes in a file."""

    def __init__(self, name, folder):
        self.name, self.port, self.list = name, free_port(), folder / f"executed-{name}"
        self.child = None

    def start(self):
        command = simulator(self.port, "--executions", str(self.list))
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(f"{self.name} listens", lambda: accepts(self.port))

    def kill(self):
        self.child.kill()
        self.child.wait()

    def stop(self):
        self.child.send_signal(signal.SIGSTOP)

    def resume(self):
        self.child.send_signal(signal.SIGCONT)

    def executed(self):
        return collections.Counter(self.list.read_text().splitlines())


class Client:
    """A process that sends requests until its stdin is closed. Its lines are the results."""

    def __init__(self, name, url, errors):
        self.name, self.results = name, []
        env = {**os.environ, "UNSTEADY_URL": url, "CLIENTS_NODE": str(INSTALLED / "node"), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        self.child = subprocess.Popen(CLIENTS[name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=env)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            self.results.append(json.loads(line))

    def progresses(self):
        """Waits for more results."""
        until(f"{self.name} completes {PROGRESS} more requests", self.has(len(self.results) + PROGRESS), PATIENCE)

    def has(self, count):
        def probe():
            if self.child.poll() is not None:
                raise SystemExit(f"FAILED: {self.name} ended with status {self.child.returncode}")
            return True if len(self.results) >= count else None

        return probe

    def finish(self):
        self.child.stdin.close()
        self.child.wait(PATIENCE)
        self.reader.join(PATIENCE)


def changes(members):
    """One member after the other is out in both ways; the other one works meanwhile."""
    for member in itertools.cycle(members):
        yield from (member.kill, member.start, member.stop, member.resume)


def run(folder, steps, pause):
    members = [Member(name, folder) for name in MEMBERS]
    tables = "".join(upstream(member.port, member.name) for member in members) + GROUP
    proxy = Proxy(folder, tables)
    clients = []
    try:
        for member in members:
            member.start()
        with proxy.running(), open(folder / "errors", "w+", encoding="utf-8") as errors:
            clients = [Client(name, proxy.url, errors) for name in CLIENTS]
            for client in clients:
                client.progresses()
            # An even number, so that both members run at the end.
            for change in itertools.islice(changes(members), steps + steps % 2):
                change()
                begun = time.monotonic()
                for client in clients:
                    client.progresses()
                time.sleep(max(0, pause - (time.monotonic() - begun)))
            for client in clients:
                client.finish()
    finally:
        for process in [client.child for client in clients] + [member.child for member in members if member.child]:
            process.kill()
            process.wait()
    return clients, proxy.records(), {member.name: member.executed() for member in members}


def judge(clients, records, executed):
    """The mistakes, and a line for each client."""
    mistakes, of = [], collections.defaultdict(list)
    for record in records:
        of[record["user"]].append(record)
    ids = [result["id"] for client in clients for result in client.results]
    if len(set(ids)) != len(ids) or set(of) != set(ids) or len(records) != len(ids):
        mistakes.append(f"{len(ids)} requests, {len(records)} records of {len(of)}")
    for client in clients:
        cut = further = 0
        for result in client.results:
            [record] = of.get(result["id"], [{"outcome": "no record", "attempts": None}])[:1]
            further += record["attempts"] is not None
            is_cut = result["events"] > 0 and record["outcome"] == "truncated"
            cut += result["error"] is not None and is_cut
            if result["error"] is not None and not is_cut:
                mistakes.append(f"{client.name} {result['id']}: {result['error']}; {json.dumps(record)}")
        print(f"{client.name}: {len(client.results)} requests, {further} with several attempts, {cut} streams cut")
    twice = 0
    for id, [record, *_] in of.items():
        attempts = record["attempts"] or [{"upstream": record["upstream"], "billed": "yes"}]
        allowed = collections.Counter(attempt["upstream"] for attempt in attempts if attempt["billed"] != "no")
        found = {name: executed[name][id] for name in executed}
        twice += sum(found.values()) > 1
        if any(found[name] > allowed[name] for name in found) or sum(found.values()) == 0:
            mistakes.append(f"{id}: executed {found}, allowed {dict(allowed)}: {json.dumps(record)}")
    print(f"{twice} requests were executed twice, after a doubtful failure")
    return mistakes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--pause", type=float, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mistakes = judge(*run(pathlib.Path(folder), options.steps, options.pause))
    for mistake in mistakes[:20]:
        print(f"FAILED: {mistake}")
    print(f"unsteady members: {len(mistakes)} failed")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
