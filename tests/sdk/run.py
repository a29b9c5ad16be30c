#!/usr/bin/env python3
"""Runs the SDK checks through the proxy, then compares its usage records with the tallies of the simulators.

One simulator stands for each kind of upstream, and realtime.py for each that has realtime sessions; one proxy has a route to each. STREAMGAUGE_BIN names the binary
(target/debug/streamgauge if unset); SDK_PYTHON a Python that has openai, SDK_NODE a folder whose node_modules has it
(tests/run makes both under target/sdk). Without the proxy with --direct: the SDKs talk to the simulators.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from programs import PATIENCE, ROOT, Proxy, free_port, simulator, started, until, upstream  # noqa: E402

KEY = "sim-key-that-only-upstreams-see"
CLIENT_KEY = "sk-what-the-application-sends"
API_VERSION = "2024-10-21"

# The time limit of all checks of one SDK, in seconds.
CHECKS_TIMEOUT = 180

# upstream: provider, path of its URL, further configuration
UPSTREAMS = {
    "openai-up": ("openai", "/v1", ""),
    "azure-dated": ("azure", "", f'api_version = "{API_VERSION}"'),
    "azure-v1": ("azure", "", 'api_version = "v1"'),
    "other": ("other", "/v1", 'default_model = "sim"'),
}
REALTIME_UPSTREAMS = {
    "realtime": ("openai", "/v1", ""),
    "realtime-azure-dated": ("azure", "", f'api_version = "{API_VERSION}"'),
    "realtime-azure-v1": ("azure", "", 'api_version = "v1"'),
}
ALL_UPSTREAMS = {**UPSTREAMS, **REALTIME_UPSTREAMS}

# SDK, upstream, and the path of the SDK's requests below the upstream's own
PROXIED = [
    ("openai", "openai-up", "/v1"),
    ("openai", "azure-dated", "/v1"),
    ("azure", "azure-dated", ""),
    ("openai", "azure-v1", "/v1"),
    ("openai", "azure-v1", "/openai/v1"),
    ("openai", "other", "/v1"),
    ("openai", "realtime", "/v1"),
    ("openai", "realtime-azure-dated", "/v1"),
    ("azure", "realtime-azure-dated", ""),
    ("openai", "realtime-azure-v1", "/v1"),
    ("openai", "realtime-azure-v1", "/openai/v1"),
]
DIRECT = [
    ("openai", "openai-up", "/v1"),
    ("azure", "azure-dated", ""),
    ("openai", "azure-v1", "/openai/v1"),
    ("openai", "realtime", "/v1"),
    ("azure", "realtime-azure-dated", ""),
]

# The outcome in the record of a check; `complete` for all others whose response has status 200 or 101.
OUTCOMES = {"sim-cut": "truncated", "sim-cancel": "client_disconnected", "sim-error": "upstream_error"}


def tally(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/simulator/tally", timeout=PATIENCE) as response:
        return json.load(response)


def sdk_python():
    return os.environ.get("SDK_PYTHON", str(ROOT / "target/sdk/venv/bin/python"))


def service(name, port):
    """The command that replaces the upstream of this name."""
    if name in REALTIME_UPSTREAMS:
        return [sdk_python(), str(HERE / "realtime.py"), "--port", str(port), "--api-key", KEY]
    return simulator(port, "--api-key", KEY)


def target(name, client, upstream, base_url):
    checks = "realtime" if upstream in REALTIME_UPSTREAMS else "http"
    return {"name": name, "client": client, "base_url": base_url, "checks": checks}


def tables(simulators):
    """The upstreams of the proxy, and a route to each."""
    parts = []
    for name, (provider, path, more) in ALL_UPSTREAMS.items():
        parts.append(
            f'[upstreams.{name}]\nprovider = "{provider}"\nurl = "http://127.0.0.1:{simulators[name]}{path}"\n'
            f'api_key = {{ value = "{KEY}" }}\n{more}\n'
        )
        parts.append(f'[[routes]]\npath = "/{name}"\nupstream = "{name}"\n')
    return "\n".join(parts)


def run_checks(targets, key):
    """Runs both SDKs' checks; true if all passed."""
    environment = {**os.environ, "SDK_TARGETS": json.dumps(targets), "SDK_KEY": key}
    node = os.environ.get("SDK_NODE", str(ROOT / "target/sdk/node"))
    well = True
    for command in ([sdk_python(), str(HERE / "sdk.py")], ["node", str(HERE / "sdk.mjs")]):
        environment["SDK_NODE"] = node
        try:
            checks = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, timeout=CHECKS_TIMEOUT)
            well = checks.returncode == 0 and well
        except subprocess.TimeoutExpired:
            print(f"FAILED {command[-1]} took longer than {CHECKS_TIMEOUT} s", flush=True)
            well = False
    return well


def total(records, member):
    """The usage that the upstream reported, without our estimates."""
    return sum(record[member] or 0 for record in records if record["usage_source"] != "estimated")


def mistakes_of_records(records, tallies):
    """Compares the records with the tallies; yields the faults, in words."""
    by_upstream = collections.defaultdict(list)
    for record in records:
        by_upstream[record["upstream"]].append(record)
    ids = collections.Counter(record["id"] for record in records)
    yield from (f"record {id} was written {count} times" for id, count in ids.items() if count > 1)
    yield from (f"a record names the upstream {name}" for name in by_upstream if name not in ALL_UPSTREAMS)
    for name, (provider, _, _) in ALL_UPSTREAMS.items():
        found, said = by_upstream[name], tallies[name]
        pairs = [
            ("records", len(found), said["requests"]),
            ("input tokens", total(found, "input_tokens"), said["input_tokens"]),
            ("output tokens", total(found, "output_tokens"), said["output_tokens"]),
            ("total tokens", total(found, "total_tokens"), said["total_tokens"]),
            ("records with usage", sum(record["usage_source"] == "reported" for record in found), said["responses_with_usage"]),
            ("cancelled", sum(record["outcome"] == "client_disconnected" for record in found), said["streams_cancelled"]),
            ("providers", {record["provider"] for record in found}, {provider}),
        ]
        if name in REALTIME_UPSTREAMS:
            details = ("cached_input_tokens", "input_audio_tokens", "output_audio_tokens")
            pairs.extend((detail, total(found, detail), said[detail]) for detail in details)
            members = ("endpoint", "status", "outcome", "stream", "model_requested", "model", "usage_source")
            kinds = {tuple(record[member] for member in members) for record in found}
            expected = ("realtime", 101, "complete", True, "sim-realtime", "sim-realtime", "reported")
            pairs.append(("sessions", kinds, {expected}))
        for what, ours, theirs in pairs:
            if ours != theirs:
                yield f"{name}: {what}: the proxy has {ours}, the simulator {theirs}"
    for record in records:
        check = (record["model_requested"] or "").split(":")[0]
        expected = OUTCOMES.get(check, "complete")
        if record["status"] in (101, 200) and record["outcome"] != expected:
            yield f"{record['upstream']} {record['endpoint']} {check}: {record['outcome']}, expected {expected}"
        # This includes requests whose client did not ask for usage, and got none.
        is_chat = record["stream"] and record["endpoint"] in ("chat/completions", "completions")
        if is_chat and record["outcome"] == "complete" and record["usage_source"] != "reported":
            yield f"{record['upstream']} {record['endpoint']} {check}: usage is {record['usage_source']}, expected reported"
        if check == "sim-limit" and record["status"] != 429:
            yield f"{record['upstream']} {check}: status {record['status']}, expected 429"


def through_the_proxy(simulators, folder):
    proxy = Proxy(folder, tables(simulators), "workers = 2\n")
    targets = [
        target(f"{client} client, {upstream}{path}", client, upstream, f"{proxy.url}/{upstream}{path}")
        for client, upstream, path in PROXIED
    ]
    with proxy.running():
        well = run_checks(targets, CLIENT_KEY)

        def all_written():
            expected = sum(tally(simulators[name])["requests"] for name in simulators)
            return len(proxy.records()) >= expected or None

        with contextlib.suppress(SystemExit):
            until("all records are written", all_written)
    # The proxy has drained and stopped: no more records will be written.
    written = proxy.records()
    mistakes = list(mistakes_of_records(written, {name: tally(simulators[name]) for name in simulators}))
    shown = "".join(file.read_text() for file in (proxy.file, proxy.log) if file.exists())
    for secret in (KEY, CLIENT_KEY):
        if secret in shown:
            mistakes.append("a key stands in the records or in the log")
    for mistake in mistakes:
        print(f"FAILED records: {mistake}")
    if not mistakes:
        print(f"ok {len(written)} usage records, one for each request, with the tokens that the simulators reported")
    else:
        print("the end of the proxy's log:", *proxy.log.read_text().splitlines()[-20:], sep="\n")
    return well and not mistakes


def between_accounts(folder):
    """Conversations through a group of two accounts, without and with clients; true if all stayed at their account."""
    well = True
    with contextlib.ExitStack() as stack:
        parts = []
        for name in ("one", "two"):
            port = free_port()
            command = simulator(port, "--account", name)
            stack.enter_context(started(f"the account {name}", command, port, folder / f"account-{name}.log"))
            parts.append(upstream(port, name))
        parts.append('[groups.accounts]\ntiers = [["one", "two"]]\nbalance = "weight"\nsticky = []\n[[routes]]\nupstream = "accounts"\n')
        client = f'[clients.app]\nkey = {{ value = "{CLIENT_KEY}" }}\n'
        for name, tables in (("open", parts), ("clients", [*parts, client])):
            place = folder / name
            place.mkdir()
            proxy = Proxy(place, "\n".join(tables), "workers = 2\n")
            environment = {**os.environ, "SDK_BASE_URL": f"{proxy.url}/v1", "SDK_KEY": CLIENT_KEY}
            command = [sdk_python(), str(HERE / "accounts.py")]
            with proxy.running():
                checks = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, timeout=CHECKS_TIMEOUT)
            well = checks.returncode == 0 and well
    return well


def without_the_proxy(simulators):
    targets = [
        target(f"simulator, {upstream}", client, upstream, f"http://127.0.0.1:{simulators[upstream]}{path}")
        for client, upstream, path in DIRECT
    ]
    well = run_checks(targets, KEY)
    # One cancelled stream for each SDK; the simulator notices at once or when it next writes.
    streaming = [upstream for _, upstream, _ in DIRECT if upstream in UPSTREAMS]
    for upstream in streaming if well else []:
        until(f"{upstream} sees two cancelled streams", lambda: tally(simulators[upstream])["streams_cancelled"] == 2 or None)
    return well


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--direct", action="store_true", help="leave the proxy out")
    arguments = parser.parse_args()
    (ROOT / "target").mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "target", prefix="sdk-run-")))
        simulators = {}
        for name in ALL_UPSTREAMS:
            port = simulators[name] = free_port()
            stack.enter_context(started(f"the simulator for {name}", service(name, port), port, folder / f"{name}.log"))
        if arguments.direct:
            well = without_the_proxy(simulators)
        else:
            well = through_the_proxy(simulators, folder)
            well = between_accounts(folder) and well
    print("SDK checks: all well" if well else "SDK checks: FAILED", flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
