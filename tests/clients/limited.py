#!/usr/bin/env python3
"""Checks that SDKs sleep as they are told when all members of a group are rate limited, and when a limit of their client has no room.

Both members of a group are simulators that refuse every request with 429. OpenAI's SDKs send a request up to three times:

* With limits of three seconds they sleep twice for so long, not for their own half a second, and then raise the error.
* With limits of five minutes that are known they raise the error at once, since the proxy tells them not to try again.

Behind a proxy whose clients have limits of their own:

* With a rate that has room after ten seconds they sleep for so long, and get their response.
* With a period that has no room before the next day they raise the error at once.

STREAMGAUGE_BIN names the binary (target/debug/streamgauge if unset). tests/run installs the SDKs under target/clients.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from programs import ROOT, Proxy, free_port, simulator, started, upstream  # noqa: E402

INSTALLED = ROOT / "target/clients"
CLIENTS = {
    "openai-python": [str(INSTALLED / "venv/bin/python"), str(HERE / "limited_ask.py")],
    "openai-node": ["node", str(HERE / "limited_ask.mjs")],
}

RATE, QUOTA = '{ requests = 6, per = "minute", burst = 1 }', '{ requests = 1, per = "month" }'

TABLES = '[groups.chat]\ntiers = [["a"], ["b"]]\n[[routes]]\nupstream = "chat"\n'

# The time limit of one client, in seconds.
PATIENCE = 120


def ask(name, url, model, key="unused"):
    env = {**os.environ, "LIMITED_URL": url, "LIMITED_MODEL": model, "LIMITED_KEY": key, "CLIENTS_NODE": str(INSTALLED / "node")}
    done = subprocess.run(CLIENTS[name], capture_output=True, text=True, timeout=PATIENCE, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"FAILED: {name} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def make_known(url, model):
    """Sends a request without an SDK: openai-node would sleep for the whole limit that the member itself announces."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Go."}]}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"content-type": "application/json"})
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=PATIENCE).close()


def limited_clients():
    """Clients of every SDK with a rate and with a period: tables, and keys by SDK."""
    tables, keys = "", {}
    for name in CLIENTS:
        keys[name] = {kind: f"sg-{name}-{kind}-0123456789" for kind in ("rate", "quota")}
        for kind, limit in (("rate", RATE), ("quota", QUOTA)):
            tables += f'[clients.{name}-{kind}]\nkey = {{ value = "{keys[name][kind]}" }}\nlimits = [{limit}]\n'
    return tables, keys


def check_own_limits(folder, port):
    """The results of SDKs whose client has a limit: what, found, is right."""
    tables, keys = limited_clients()
    proxy = Proxy(folder, upstream(port) + tables)
    config = folder / "streamgauge.toml"
    # Periods are read from the ledger.
    config.write_text(config.read_text().replace('path = ""', f"path = {json.dumps(str(folder / 'usage.db'))}"))
    with proxy.running():
        for name in CLIENTS:
            for kind in ("rate", "quota"):
                first = ask(name, proxy.url, "sim:events=1", keys[name][kind])
                then = ask(name, proxy.url, "sim:events=1", keys[name][kind])
                if kind == "rate":
                    is_right = then["status"] == 200 and 3 <= then["seconds"] < 30
                    yield name, "sleeps until its client's rate has room", then, is_right
                else:
                    is_right = then["status"] == 429 and then["code"] == "insufficient_quota" and then["seconds"] < 2
                    yield name, "does not sleep until the next month", then, is_right
                yield name, "gets a response before", first, first["status"] == 200


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as programs:
        ports = {member: free_port() for member in ("a", "b")}
        for member, port in ports.items():
            programs.enter_context(started(member, simulator(port), port))
        proxy = Proxy(pathlib.Path(folder), "".join(upstream(port, member) for member, port in ports.items()) + TABLES)
        programs.enter_context(proxy.running())
        for name in CLIENTS:
            # Limits are known by model, so that each client has models of its own.
            words = f"events={1 + list(CLIENTS).index(name)}"
            short = ask(name, proxy.url, f"sim:status=429,after=3s,{words}")
            make_known(proxy.url, long := f"sim:status=429,after=300s,{words}")
            again = ask(name, proxy.url, long)
            for what, found, is_right in [
                ("sleeps for the limit", short, short["status"] == 429 and 5.5 <= short["seconds"] < 30),
                ("does not sleep for a long limit", again, again["code"] == "upstreams_rate_limited" and again["seconds"] < 2),
            ]:
                print(f"{'ok    ' if is_right else 'FAILED'} {name} {what}: {found}")
                failed += not is_right
        (own := pathlib.Path(folder) / "own").mkdir()
        for name, what, found, is_right in check_own_limits(own, ports["a"]):
            print(f"{'ok    ' if is_right else 'FAILED'} {name} {what}: {found}")
            failed += not is_right
    print(f"limited SDKs: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
