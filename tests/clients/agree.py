#!/usr/bin/env python3
"""Asks each client with the proxy between and without it: both must give the same result, and the records must have the client's counts.

The upstreams are the simulator, LiteLLM's proxy with mock_response, and aimock of npm. STREAMGAUGE_BIN names the binary
(target/debug/streamgauge if unset). tests/run installs the rest under target/clients. With a word only clients whose names have
it. Exit status 1 if a client gets another response through the proxy, or counts other tokens than the records.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from programs import ROOT, Proxy, free_port, simulator, started, upstream  # noqa: E402

INSTALLED = ROOT / "target/clients"

# The time limit of all jobs of one language, and of LiteLLM's start, in seconds.
JOBS_TIMEOUT = 240
LITELLM_PATIENCE = 120

# The key of LiteLLM's proxy, which does not start without one. Only the upstream's side knows it.
LITELLM_KEY = "sk-0123456789abcdef0123456789abcdef"

# The clients of each upstream except the simulator.
LITELLM = [
    "openai-python chat", "openai-python chat, streamed", "openai-python chat, streamed, usage unasked",
    "openai-python responses", "anthropic-python messages", "langchain-python openai", "langchain-python openai, streamed",
    "langchain-node openai, streamed", "vercel-ai openai chat", "vercel-ai openai chat, streamed",
]
AIMOCK = [
    "openai-python chat", "openai-python chat, streamed", "openai-python chat, streamed, usage unasked", "openai-python chat, tools",
    "openai-python responses", "openai-python responses.stream, tools", "anthropic-python messages.stream, tools",
    "langchain-python openai, tools", "litellm openai, streamed", "vercel-ai openai chat, tools, streamed",
    "vercel-ai anthropic, tools",
]  # fmt: skip

# The client of the proxy gets the use of each response, which no SDK may notice.
KEY = "sg-agreeing-0123456789"
TABLES = f'[clients.agreeing]\nkey = {{ value = "{KEY}" }}\nresponse_cost = true\n[[prices]]\nmodel = "*"\ninput = 1\noutput = 4\n'

# Their responses have no usage; the last has no model either, by which its records could be found.
UNCOUNTED = {
    "anthropic-python count_tokens", "openai-python moderations", "openai-python speech", "openai-python transcriptions, srt",
    "openai-python files",
}  # fmt: skip
WITHOUT_MODEL = {"openai-python files"}

# These clients look at the same response several times. One record has its usage.
LOOKING = {"openai-python responses, stored", "openai-python responses, background"}

# No client may send requests to other machines.
ENV = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "CLIENTS_NODE": str(INSTALLED / "node"), "AI_SDK_LOG_WARNINGS": "false"}

PYTHON = [str(INSTALLED / "venv/bin/python"), str(HERE / "ask.py")]
NODE = ["node", str(HERE / "ask.mjs")]


def results(command, jobs):
    """The jobs' results, which come as lines of JSON; other lines are some library's."""
    if not jobs:
        return []
    done = subprocess.run(
        command, input=json.dumps(jobs), capture_output=True, text=True, timeout=JOBS_TIMEOUT, env=ENV, check=False
    )
    if done.returncode:
        raise SystemExit(f"FAILED: {command[-1]} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"client"')]


def names(command):
    done = subprocess.run([*command, "--list"], capture_output=True, text=True, timeout=JOBS_TIMEOUT, env=ENV, check=True)
    return json.loads(done.stdout)


@contextlib.contextmanager
def simulated(folder, clients):
    """Each client has a model of its own, by which its records are found, and each response another number of tokens."""
    port = free_port()
    with started("the simulator", simulator(port), port, folder / "simulator.log"):
        yield port, "unused", {client: f"sim-{at}:events={at + 3}" for at, client in enumerate(clients)}


@contextlib.contextmanager
def litellm(folder, clients):
    port, models = free_port(), {client: f"mocked-{at}" for at, client in enumerate(clients)}
    mocked = {"model": "openai/mocked", "api_key": "none", "mock_response": "A stream gauge measures a river."}
    config = {"model_list": [{"model_name": model, "litellm_params": mocked} for model in models.values()]}
    # JSON is valid YAML.
    file = folder / "litellm.yaml"
    file.write_text(json.dumps(config))
    command = [str(INSTALLED / "venv/bin/litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    env = {**ENV, "LITELLM_MASTER_KEY": LITELLM_KEY, "HOME": str(folder), "NO_DOCS": "True"}
    with started("LiteLLM", command, port, folder / "litellm.log", LITELLM_PATIENCE, env=env):
        yield port, LITELLM_KEY, models


@contextlib.contextmanager
def aimock(folder, clients):
    port, file = free_port(), folder / "fixtures.json"
    usage = {"input_tokens": 11, "output_tokens": 7, "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    call = {"name": "measure", "arguments": json.dumps({"river": "Danube"})}
    asks = {"userMessage": "gauge", "toolName": "measure", "hasToolResult": False}
    fixtures = [
        {"match": asks, "response": {"toolCalls": [call], "usage": usage}},
        {"match": {"userMessage": "gauge"}, "response": {"content": "A stream gauge measures a river.", "usage": usage}},
    ]
    file.write_text(json.dumps({"fixtures": fixtures}))
    command = ["node", str(INSTALLED / "node/node_modules/.bin/llmock"), "-p", str(port), "-f", str(file)]
    with started("aimock", command, port, folder / "aimock.log"):
        yield port, "unused", {client: f"model-{at}" for at, client in enumerate(clients)}


def mistakes(client, direct, proxied, records):
    """The faults of one client, in words."""
    for member in ("text", "calls", "raised", "input", "output"):
        if direct[member] != proxied[member]:
            yield f"{member}: {direct[member]!r} without the proxy, {proxied[member]!r} with it"
    if direct["raised"]:
        yield f"raised {direct['raised']}"
    if not direct["text"]:
        yield "no text"
    if not records and client not in WITHOUT_MODEL:
        yield "no record"
    for record in records:
        if record["status"] not in (101, 200) or record["outcome"] != "complete":
            yield f"a record has status {record['status']}, outcome {record['outcome']}"
    sources = sorted(record["usage_source"] for record in records)
    if client not in UNCOUNTED and (sources.count("reported") != 1 if client in LOOKING else set(sources) != {"reported"}):
        yield f"usage_source is {sources}"
    for member in ("input", "output"):
        recorded = sum(record[f"{member}_tokens"] or 0 for record in records)
        if proxied[member] is not None and proxied[member] != recorded:
            yield f"the client counts {proxied[member]} {member} tokens, the records {recorded}"


def is_of(record, model):
    """True if the record is of a request for the model, or of a later look at its response."""
    made_model = record["model"] if record["model_requested"] is None else None
    return record["model_requested"] == model or made_model == model.split(":")[0]


def check(name, service, clients, all_of):
    """Asks all clients of one upstream; returns how many passed and failed."""
    passed, failed = 0, 0
    with tempfile.TemporaryDirectory(dir=ROOT / "target", prefix="clients-") as at, contextlib.ExitStack() as stack:
        folder = pathlib.Path(at)
        port, key, models = stack.enter_context(service(folder, clients))
        proxy = Proxy(folder, upstream(port, key=f'{{ value = "{key}" }}') + TABLES)
        with proxy.running():
            targets = [(f"http://127.0.0.1:{port}", key), (proxy.url, KEY)]
            jobs = [
                {"client": client, "url": url, "model": models[client], "key": key} for client in clients for url, key in targets
            ]
            found = [each for command, known in all_of for each in results(command, [job for job in jobs if job["client"] in known])]
        records = proxy.records()
    at = {(each["client"], each["url"]): each for each in found}
    for client in clients:
        direct, proxied = (at[client, url] for url, _ in targets)
        own = [record for record in records if is_of(record, models[client])]
        wrong = list(mistakes(client, direct, proxied, own))
        tokens = "" if proxied["input"] is None else f", {proxied['input']} + {proxied['output']} tokens"
        print(f"{'FAILED' if wrong else 'ok    '} {client} at {name}: {len(own)} records{tokens}", flush=True)
        for line in wrong:
            print(f"       {line}")
        passed, failed = passed + (not wrong), failed + bool(wrong)
    return passed, failed


def main():
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    all_of = [(command, names(command)) for command in (PYTHON, NODE)]
    known = [name for _, of in all_of for name in of if word in name]
    totals = [
        check("the simulator", simulated, known, all_of),
        check("LiteLLM", litellm, [name for name in LITELLM if name in known], all_of),
        check("aimock", aimock, [name for name in AIMOCK if name in known], all_of),
    ]
    passed, failed = map(sum, zip(*totals))
    print(f"client checks: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
