#!/usr/bin/env python3
"""Compares costs by imported prices with LiteLLM's `completion_cost` on 1,000 random responses.

An upstream that repeats what requests say stands behind the program. `prices import` reads the list in the litellm package for the
models in the ledger, the running program takes the prices over, and tells the cost of each response, which must be LiteLLM's to the
millionth of a dollar. Where LiteLLM charges what nothing in the list says, the program has no cost; EXPLAINED names these cases, and
the check fails on any other difference. STREAMGAUGE_BIN names the binary. Runs with the Python of target/prices/venv, which tests/run
makes.
"""

import http.client
import http.server
import json
import os
import pathlib
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm  # noqa: E402
from litellm.llms.anthropic.chat.transformation import AnthropicConfig  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
from programs import BIN, free_port, started, until  # noqa: E402

RECORDS, SEED = 1000, 22
LIST = pathlib.Path(litellm.__file__).parent / "model_prices_and_context_window_backup.json"

# Upstreams: the provider here, the beginning of LiteLLM's keys, and the number of models.
UPSTREAMS = {
    "openai": ("openai", "", 40), "azure": ("azure", "azure/", 25), "anthropic": ("anthropic", "", 15), "gemini": ("gemini", "gemini/", 20),
    "groq": ("other", "groq/", 8), "mistral": ("other", "mistral/", 10), "xai": ("other", "xai/", 12), "together_ai": ("other", "together_ai/", 8),
    "fireworks_ai": ("other", "fireworks_ai/", 8), "dashscope": ("other", "dashscope/", 15), "openrouter": ("other", "openrouter/", 10),
}  # fmt: skip

# Reasons for which a response has another cost than LiteLLM's, each with a test on the entry and the record.
EXPLAINED = {
    "the list has no price of this tier for a long input: LiteLLM takes the standard tier's, here the cost is unknown": (
        lambda entry, record: record["tier"] and record["ours"] is None and has_step(entry, record["input"])
        and not has_step(entry, record["input"], record["tier"])
    ),
    "the list has no price of this tier: LiteLLM takes the standard tier's, here the cost is unknown": (
        lambda entry, record: record["tier"] and record["ours"] is None
        and not any(f"_{record['tier']}" in key for key in entry if "cost_per_token" in key or "token_cost" in key)
    ),
    "the list has no price of cache writes of an hour: LiteLLM takes that of five minutes, here the cost is unknown": (
        lambda entry, record: record["write_1h"] and record["ours"] is None
        and not any("above_1hr" in key for key in entry)
    ),
}  # fmt: skip


def has_step(entry, tokens, tier=None):
    """Whether a key has a price above a threshold that the input exceeds."""
    end = f"_tokens_{tier}" if tier else "_tokens"
    for key in entry:
        part, _, rest = key.partition("_above_")
        if part and rest.endswith(end) and rest.removesuffix(end).rstrip("k").isdigit():
            words = rest.removesuffix(end)
            if tokens > int(words.rstrip("k")) * (1000 if words.endswith("k") else 1) - 1:
                return True
    return False


class Echo(http.server.BaseHTTPRequestHandler):
    """Responds with the JSON in the member `metadata.reply` of the request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        reply = body["metadata"]["reply"].encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


def configuration(listen, admin, echo):
    tables = [
        f'[server]\nlisten = "127.0.0.1:{listen}"\nworkers = 1\n[admin]\nlisten = "127.0.0.1:{admin}"\n[log]\nformat = "json"\n'
        '[clients.test]\nkey = { value = "sg-prices-0123456789" }\nresponse_cost = true\n'
    ]
    for name, (provider, _, _) in UPSTREAMS.items():
        url = f"http://127.0.0.1:{echo}" + ("" if provider in ("azure", "gemini") else "/v1")
        more = 'default_model = "m"\n' if provider == "other" else ""
        key = '"none"' if provider == "other" else '{ value = "k" }'
        tables.append(f'[upstreams.{name}]\nprovider = "{provider}"\nurl = "{url}"\napi_key = {key}\n{more}[[routes]]\npath = "/{name}"\nupstream = "{name}"\n')
    return "".join(tables)


def models(rng):
    """(upstream, key, model) of models that respond with text."""
    chosen = []
    for name, (_, prefix, count) in UPSTREAMS.items():
        is_of = lambda key, entry: entry.get("litellm_provider") == name and entry.get("mode") in ("chat", "responses", "embedding") and key.startswith(prefix) and (prefix or "/" not in key) and ":" not in key
        found = [(name, key, key[len(prefix):]) for key, entry in sorted(PRICES.items()) if is_of(key, entry)]
        chosen += rng.sample(found, min(count, len(found)))
    return chosen


def a_tier(rng, entry):
    """Mostly one that the list has."""
    known = [tier for tier in ("flex", "priority") if f"input_cost_per_token_{tier}" in entry]
    return rng.choice([None, None, *(known * 4), *rng.sample(["flex", "priority", None, None], 2)])


def usage(rng, name):
    """Random counts, small and large."""
    tokens = lambda most: int(10 ** rng.uniform(0, most))
    whole = tokens(6)
    cached = rng.choice([0, 0, rng.randrange(whole + 1)])
    counts = {"input": whole, "cached": cached, "output": tokens(4.5), "write": 0, "write_1h": 0}
    if name == "anthropic":
        counts["write"] = rng.choice([0, rng.randrange(whole - cached + 1)])
        counts["write_1h"] = rng.choice([0, 0, rng.randrange(counts["write"] + 1)])
    return counts


def reply(name, model, mode, counts, tier):
    """The endpoint, and the response of the service."""
    if name == "anthropic":
        hour = counts["write_1h"]
        use = {
            "input_tokens": counts["input"] - counts["cached"] - counts["write"], "output_tokens": counts["output"],
            "cache_read_input_tokens": counts["cached"], "cache_creation_input_tokens": counts["write"],
            "cache_creation": {"ephemeral_5m_input_tokens": counts["write"] - hour, "ephemeral_1h_input_tokens": hour},
            "service_tier": tier or "standard",
        }  # fmt: skip
        return "messages", {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": "end_turn", "usage": use}
    if mode == "embedding":
        total = counts["input"]
        return "embeddings", {"object": "list", "model": model, "data": [], "usage": {"prompt_tokens": total, "total_tokens": total}}
    use = {
        "prompt_tokens": counts["input"], "completion_tokens": counts["output"], "total_tokens": counts["input"] + counts["output"],
        "prompt_tokens_details": {"cached_tokens": counts["cached"]},
    }  # fmt: skip
    return "chat/completions", {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "service_tier": tier or "default",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}], "usage": use,
    }  # fmt: skip


def theirs(name, key, body, tier):
    """LiteLLM's cost."""
    if name == "anthropic":
        use = AnthropicConfig().calculate_usage(usage_object=body["usage"], reasoning_content=None)
        response = litellm.ModelResponse(model=body["model"], usage=use)
    elif body.get("object") == "list":
        response = litellm.EmbeddingResponse(model=body["model"], usage=litellm.Usage(**body["usage"]))
    else:
        response = litellm.ModelResponse(model=body["model"], usage=litellm.Usage(**body["usage"]))
    kind = "embedding" if body.get("object") == "list" else "completion"
    return litellm.completion_cost(
        completion_response=response, model=key, custom_llm_provider=name, service_tier=tier, call_type=kind
    )


class Client:
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def send(self, name, endpoint, body, tier):
        """The cost of the response here. None if it is unknown."""
        request = {"model": body["model"], "metadata": {"reply": json.dumps(body)}, "messages": [], "max_tokens": 1}
        if tier:
            request["service_tier"] = tier
        self.connection.request(
            "POST", f"/{name}/v1/{endpoint}", json.dumps(request),
            {"content-type": "application/json", "authorization": "Bearer sg-prices-0123456789"},
        )  # fmt: skip
        response = self.connection.getresponse()
        text = response.read()
        assert response.status == 200, (name, endpoint, response.status, text)
        cost = response.getheader("x-streamgauge-cost")
        return None if cost is None else float(cost.split()[0])


def command(folder, *words):
    done = subprocess.run([BIN, *words], cwd=folder, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise SystemExit(f"FAILED: streamgauge {' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def rows(folder):
    with sqlite3.connect(f"file:{folder}/streamgauge.db?mode=ro", uri=True) as ledger:
        return ledger.execute("SELECT count(*) FROM usage_records").fetchone()[0]


def main():
    rng = random.Random(SEED)
    chosen = models(rng)
    echo = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=echo.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        listen, admin = free_port(), free_port()
        (folder / "streamgauge.toml").write_text(configuration(listen, admin, echo.server_port))
        with started("the program", [BIN, "serve"], listen, folder / "log", cwd=folder):
            check(folder, Client(listen), chosen, rng)
    echo.shutdown()


def check(folder, client, chosen, rng):
    zero = {"input": 1, "cached": 0, "output": 1, "write": 0, "write_1h": 0}
    for name, key, model in chosen:
        client.send(name, *reply(name, model, PRICES[key]["mode"], zero, None), None)
    until("the ledger has the models", lambda: True if rows(folder) == len(chosen) else None)
    others = [name for name, (provider, _, _) in UPSTREAMS.items() if provider == "other"]
    services = [word for name in others for word in ("--service", f"{name}={name}")]
    done = command(folder, "prices", "import", str(LIST), "--write", *services)
    left_out = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
    print(done.stderr, end="")
    again = command(folder, "prices", "import", str(LIST), *services)
    assert not again.stdout and "nothing has changed" in again.stderr, again
    priced = next((name, key, model) for name, key, model in chosen if name == "openai" and f"{model} (openai)" not in done.stderr)
    first = reply(priced[0], priced[2], PRICES[priced[1]]["mode"], {**zero, "input": 1000}, None)
    until("the program has the prices", lambda: client.send(priced[0], *first, None))

    reasons, equal, unexplained = Counter(), 0, []
    total = 0.0
    for _ in range(RECORDS):
        name, key, model = rng.choice(chosen)
        tier = a_tier(rng, PRICES[key])
        counts = usage(rng, name)
        entry = PRICES[key]
        if entry["mode"] == "embedding":
            counts["cached"], tier = 0, None
        endpoint, body = reply(name, model, entry["mode"], counts, tier)
        ours, cost = client.send(name, endpoint, body, tier), theirs(name, key, body, tier)
        record = {**counts, "tier": tier, "ours": ours, "theirs": cost, "key": key}
        total += ours or 0
        if ours is not None and abs(ours - cost) < 1e-6:
            equal += 1
        elif ours is None and (reason := next((line for line in left_out if f"{model} ({name})" in line or "others" in line and is_left(folder, name, model)), None)):
            reasons[reason.rsplit(": ", 1)[1].join(["left out: ", ""])] += 1
        elif reason := next((reason for reason, test in EXPLAINED.items() if test(entry, record)), None):
            reasons[reason] += 1
        else:
            unexplained.append(record)
    for record in unexplained[:20]:
        print(f"FAILED  {record}")
    for reason, count in reasons.most_common():
        print(f"{count:5}  {reason}")
    print(f"price checks: {RECORDS} responses, {equal} with LiteLLM's cost, {sum(reasons.values())} explained, {len(unexplained)} failed")
    sys.exit(len(unexplained) > 0)


def is_left(folder, name, model):
    """Whether the file has no price of a model whose name a message has left out."""
    text = (folder / "prices.toml").read_text()
    return f'model = "{model}"\nupstream = "{name}"\n' not in text


PRICES = json.loads(LIST.read_text())

if __name__ == "__main__":
    main()
