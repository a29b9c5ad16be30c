#!/usr/bin/env python3
"""Checks that SDKs sleep as they are told when all members of a group are rate limited.

Both members of a group are simulators that refuse every request with 429. OpenAI's SDKs send a request up to three times:

* With limits of three seconds they sleep twice for so long, not for their own half a second, and then raise the error.
* With limits of five minutes that are known they raise the error at once, since the proxy tells them not to try again.

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

TABLES = '[groups.chat]\ntiers = [["a"], ["b"]]\n[[routes]]\nupstream = "chat"\n'

# The time limit of one client, in seconds.
PATIENCE = 120


def ask(name, url, model):
    env = {**os.environ, "LIMITED_URL": url, "LIMITED_MODEL": model, "CLIENTS_NODE": str(INSTALLED / "node")}
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
    print(f"limited members: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
