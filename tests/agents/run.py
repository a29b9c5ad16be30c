#!/usr/bin/env python3
"""Codex (over HTTP and over a WebSocket) and Claude Code run a tool loop against the simulator, with the proxy and without it.

Each agent is told to say hello; the simulator has it run `echo` in its shell and then responds with text. STREAMGAUGE_BIN names
the binary (target/debug/streamgauge if unset). tests/run installs the agents under target/agents. The agents have a home of their own
and reach nothing but this machine. Exit status 1 if an agent does not finish, or counts other tokens than the records.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from programs import ROOT, Proxy, free_port, simulator, started, upstream  # noqa: E402

BINARIES = ROOT / "target/agents/node/node_modules/.bin"

# The time limit of one agent, in seconds. It takes three on a quiet machine.
TIMEOUT = 120

# The command that the simulator has the agents run, and its text after that.
ECHOED = "A stream gauge"
SAID = "A stream gauge measures a river without ever holding any of it back, and knows afterwards exactly how much of the water went by."

CODEX_CONFIG = """
model = "sim"
model_provider = "simulator"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.simulator]
name = "simulator"
base_url = "{url}/v1"
env_key = "AGENT_KEY"
wire_api = "responses"
supports_websockets = {websocket}
"""


def environment(home):
    """An environment without the user's settings. Requests to other machines end at a port on which nobody listens."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    return {
        "PATH": os.environ["PATH"], "HOME": str(home), "AGENT_KEY": "unused", "ANTHROPIC_API_KEY": "unused",
        "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere, "NO_PROXY": "127.0.0.1,localhost",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
    }  # fmt: skip


def run(command, home, env):
    work = home / "work"
    work.mkdir()
    done = subprocess.run(
        command, cwd=work, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    return done.stdout


def codex(home, url, websocket="false"):
    """Codex's echo, its text, and the tokens that it counts."""
    (home / "codex").mkdir()
    (home / "codex/config.toml").write_text(CODEX_CONFIG.format(url=url, websocket=websocket))
    options = ["exec", "--skip-git-repo-check", "--json", "--dangerously-bypass-approvals-and-sandbox"]
    command = [str(BINARIES / "codex"), *options, "Say hello."]
    out = run(command, home, {**environment(home), "CODEX_HOME": str(home / "codex")})
    events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    echoed = [item["aggregated_output"].strip() for item in items if item["type"] == "command_execution"]
    said = [item["text"] for item in items if item["type"] == "agent_message"]
    usage = next(event["usage"] for event in events if event["type"] == "turn.completed")
    return echoed, said, (usage["input_tokens"], usage["output_tokens"])


def codex_websocket(home, url):
    """The same. All its requests are one session."""
    return codex(home, url, "true")


def claude(home, url):
    """The same."""
    options = ["--print", "--output-format", "json", "--verbose", "--allowedTools", "Bash"]
    command = [str(BINARIES / "claude"), *options, "--", "Say hello."]
    out = run(command, home, {**environment(home), "ANTHROPIC_BASE_URL": url})
    events = json.loads(out)
    blocks = [block for event in events if event["type"] == "user" for block in event["message"]["content"]]
    echoed = [block["content"].strip() for block in blocks if block["type"] == "tool_result"]
    result = next(event for event in events if event["type"] == "result")
    return echoed, [result["result"]], (result["usage"]["input_tokens"], result["usage"]["output_tokens"])


# Each agent, and the method and the endpoint of its requests.
AGENTS = {
    "codex": (codex, "POST", "responses"),
    "codex, websocket": (codex_websocket, "GET", "responses"),
    "claude-code": (claude, "POST", "messages"),
}


def mistakes(found, method, records):
    """`found`: the results of the agent without the proxy and with it."""
    for name, (echoed, said, _) in found.items():
        if echoed != [ECHOED] or said != [SAID]:
            yield f"{name}: echoed {echoed}, said {said}"
    # Codex leaves a WebSocket without a closing handshake.
    ends = {"complete"} if method == "POST" else {"complete", "client_disconnected"}
    if any(record["outcome"] not in ends or record["usage_source"] != "reported" for record in records):
        yield f"records: {[(record['outcome'], record['usage_source'], record['error']) for record in records]}"
    recorded = tuple(sum(record[member] or 0 for record in records) for member in ("input_tokens", "output_tokens"))
    if len(records) < (2 if method == "POST" else 1) or found["proxy"][2] != recorded:
        yield f"the agent counts {found['proxy'][2]} tokens, the {len(records)} records {recorded}"


def check(agent, method, endpoint, folder):
    port = free_port()
    with started("the simulator", simulator(port), port, folder / "simulator.log"):
        proxy, found = Proxy(folder, upstream(port)), {}
        with proxy.running():
            for way, url in {"direct": f"http://127.0.0.1:{port}", "proxy": proxy.url}.items():
                home = folder / way
                home.mkdir()
                found[way] = agent(home, url)
    records = [record for record in proxy.records() if (record["method"], record["endpoint"]) == (method, endpoint)]
    return list(mistakes(found, method, records)), f"{len(records)} records, {' + '.join(map(str, found['proxy'][2]))} tokens"


def main():
    failed = 0
    for name, (agent, method, endpoint) in AGENTS.items():
        with tempfile.TemporaryDirectory(dir=ROOT / "target", prefix="agents-") as folder:
            try:
                wrong, shown = check(agent, method, endpoint, pathlib.Path(folder))
            except (RuntimeError, subprocess.TimeoutExpired, StopIteration, KeyError, ValueError) as error:
                wrong, shown = [f"{type(error).__name__}: {error}"], ""
        failed += bool(wrong)
        print(f"{'FAILED' if wrong else 'ok    '} {name}: {shown}", flush=True)
        for line in wrong:
            print(f"       {line}")
    print(f"agent checks: {len(AGENTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
