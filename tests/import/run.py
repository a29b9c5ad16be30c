#!/usr/bin/env python3
"""Imports configurations of LiteLLM's proxy, and compares where requests through both programs arrive.

Each file in configs/ is converted by `streamgauge import litellm`. The result must pass `check` with dummy secrets. Then LiteLLM's
proxy and the program serve the same names before an upstream that notes the URL and the model of each request: both must reach
the same ones. Providers for which LiteLLM translates are not compared. STREAMGAUGE_BIN names the binary. Runs with the Python of
target/clients/venv, which tests/run makes. With a word only files whose names have it.
"""

import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import tomllib
import urllib.error
import urllib.request

import yaml

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
from programs import BIN, free_port, started  # noqa: E402

LITELLM = str(pathlib.Path(sys.executable).parent / "litellm")
LITELLM_PATIENCE = 120
# The largest number of requests for a name: each must reach every member of a group.
MOST = 200
KEY = "sk-0123456789abcdef"
# Their requests are translated, so that they arrive at another path.
TRANSLATED = ("anthropic/", "gemini/", "vertex_ai/", "bedrock/", "ollama/")
# Their credentials are made by another service.
UNREACHABLE = {"entra"}
# URLs that LiteLLM's get_llm_provider does not tell.
URLS = {"openai": "https://api.openai.com/v1", "openrouter": "https://openrouter.ai/api/v1"}
# Settings that need services which are not there.
LEFT_OUT = ("redis_", "success_callback", "cache", "max_budget", "budget_duration")

failures = 0


def check(name, condition, reason=""):
    global failures
    failures += not condition
    print(f"{'ok      ' if condition else 'FAILED  '}{name}{'' if condition else ': ' + str(reason)}", flush=True)
    return condition


class Noting(http.server.BaseHTTPRequestHandler):
    """Notes the path and the model of each request."""

    protocol_version = "HTTP/1.1"
    seen = set()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        # A deployment in the URL decides, whatever the body says.
        model = None if "/deployments/" in self.path else body.get("model")
        Noting.seen.add((self.path, model))
        if "embeddings" in self.path:
            reply = {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
            use = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": use, "service_tier": "default"}
        reply = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


def moved(text, port):
    """The text with all URLs at the noting upstream, which their hosts become a part of."""
    return re.sub(r"https?://([^/\s\"'}]+)", lambda url: f"http://127.0.0.1:{port}/{url[1].replace(':', '-')}", text)


def url_of(model):
    """The URL at which LiteLLM looks for a model without an api_base."""
    provider = model.split("/")[0] if "/" in model else "openai"
    return URLS.get(provider) or litellm.get_llm_provider(model)[3]


def dummies(toml):
    return {name: "redis://127.0.0.1/0" if name == "REDIS_URL" else f"{KEY}-{name}" for name in re.findall(r'env = "(\w+)"', toml)}


def imported(file, *options):
    return subprocess.run([BIN, "import", "litellm", str(file), *options], capture_output=True, text=True, timeout=30)


def convert(file, folder):
    """The configuration, which passes `check`. None if it does not."""
    done = imported(file)
    verdicts = [line.split(": ")[1:3] for line in done.stderr.splitlines()[:-1]]
    kinds = {kind for _, kind in verdicts}
    expected = 1 if kinds & {"by hand", "not here"} else 0
    known = kinds <= {"taken", "near", "by hand", "not here"}
    if not check(f"{file.name}: import", done.returncode == expected and known and done.stdout, done.stderr):
        return None
    strict = imported(file, "--strict")
    right = strict.returncode == expected and (strict.stdout == "") == bool(expected)
    check(f"{file.name}: --strict", right, strict.stderr)
    leaves = {re.sub(r"[^.]*\.", "", path) for path, _ in verdicts}
    check(f"{file.name}: each key has a verdict", not (missing := keys(yaml.safe_load(file.read_text())) - leaves), missing)
    path = folder / "streamgauge.toml"
    path.write_text(done.stdout)
    env = {"PATH": os.environ["PATH"], **dummies(done.stdout)}
    checked = subprocess.run([BIN, "check", "--config", str(path)], capture_output=True, text=True, env=env, cwd=folder, timeout=30)
    if not check(f"{file.name}: check", checked.returncode == 0, checked.stdout + checked.stderr + done.stdout):
        return None
    if "--with-secrets" not in done.stderr:
        return done.stdout
    copied = imported(file, "--with-secrets").stdout
    path.write_text(copied)
    again = subprocess.run([BIN, "check", "--config", str(path)], capture_output=True, text=True, env=env, cwd=folder, timeout=30)
    check(f"{file.name}: check --with-secrets", again.returncode == 0 and "{ value = " in copied, again.stderr)
    return done.stdout


def keys(config):
    """The names of the keys that must have verdicts, without those inside values."""
    found = set()
    for section in ("router_settings", "litellm_settings", "general_settings"):
        found |= {key for key, value in (config.get(section) or {}).items() if key != "model_group_alias"}
    for entry in config["model_list"]:
        found |= {key for key in entry["litellm_params"] if key not in ("extra_headers", "headers")}
        found |= set(entry.get("model_info") or {})
    return found


def names(config):
    """The names to ask for, with the endpoint."""
    asked = {}
    for entry in config["model_list"]:
        name, params = entry["model_name"], entry["litellm_params"]
        if params["model"].startswith(TRANSLATED) or name in UNREACHABLE or name.endswith("/*"):
            continue
        name = name if name != "*" else "gpt-4o"
        asked[name] = "embeddings" if "embed" in name else "chat/completions"
    for alias in (config.get("router_settings") or {}).get("model_group_alias") or {}:
        asked[alias] = "chat/completions"
    return asked


def reduced(config, port):
    """The configuration without what needs other services, at the noting upstream."""
    kept = {}
    for section, value in json.loads(moved(json.dumps(config, default=str), port)).items():
        if section in ("router_settings", "litellm_settings"):
            kept[section] = {key: inner for key, inner in value.items() if not key.startswith(LEFT_OUT)}
        elif section in ("model_list", "credential_list"):
            kept[section] = value
    for entry in kept["model_list"]:
        params = entry["litellm_params"]
        if not params["model"].startswith(TRANSLATED) and "litellm_credential_name" not in params:
            params.setdefault("api_base", moved(url_of(params["model"]) or "", port))
    kept["general_settings"] = {"master_key": KEY}
    return kept


def ours(toml, port):
    """The result at the noting upstream, without Redis."""
    values = tomllib.loads(toml)
    toml = re.sub(r"\[redis\]\nurl = [^\n]*\n", "", moved(toml, port))
    toml = re.sub(r"(\[upstreams\.[^\]]*tls\]\n)verification_mode = [^\n]*\n", "", toml)
    for name, upstream in values["upstreams"].items():
        if upstream.get("provider", name) == "openai" and "url" not in upstream:
            table = f"[upstreams.{name}]\n"
            toml = toml.replace(table, f'{table}url = "{moved(URLS["openai"], port)}"\n')
    return toml


def ask(url, key, name, endpoint):
    body = {"model": name, "input": "a"} if endpoint == "embeddings" else {"model": name, "messages": [{"role": "user", "content": "a"}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{url}/v1/{endpoint}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read()[:300]}"
    except OSError as error:
        return str(error)
    return None


def reached(url, key, name, endpoint, wanted=None):
    """What requests for a name reach; until that is `wanted`, if it is given."""
    Noting.seen = set()
    for _ in range(MOST if wanted is None or len(wanted) > 1 else 1):
        if error := ask(url, key, name, endpoint):
            return error
        if wanted is not None and Noting.seen == wanted:
            break
        if wanted is None and _ >= 39:
            break
    return Noting.seen


def compare(file, toml, folder, port):
    config = yaml.safe_load(file.read_text())
    asked = names(config)
    if not asked:
        return
    env = {**os.environ, **dummies(toml)}
    for variable in set(re.findall(r"os\.environ/(\w+)", file.read_text())):
        env[variable] = f"{KEY}-{variable}"
    env.pop("DATABASE_URL", None)
    source = folder / "litellm.yaml"
    source.write_text(json.dumps(reduced(config, port)))
    theirs, mine = free_port(), free_port()
    (folder / "ours.toml").write_text(ours(toml, port))
    theirs_env = {**env, "HOME": str(folder), "NO_DOCS": "True", "LITELLM_MASTER_KEY": KEY, "HF_HUB_OFFLINE": "1"}
    mine_env = {**env, "STREAMGAUGE_SERVER__LISTEN": f"127.0.0.1:{mine}", "STREAMGAUGE_ADMIN__LISTEN": "", "STREAMGAUGE_LEDGER__PATH": ""}
    key = tomllib.loads(toml).get("clients", {}).get("master", {}).get("key", {})
    key = dummies(toml).get(key.get("env"), KEY)
    command = [LITELLM, "--config", str(source), "--host", "127.0.0.1", "--port", str(theirs)]
    with (
        started("LiteLLM", command, theirs, folder / "litellm.log", LITELLM_PATIENCE, env=theirs_env),
        started("the program", [BIN, "serve", "--config", str(folder / "ours.toml")], mine, folder / "log", env=mine_env),
    ):
        for name, endpoint in asked.items():
            expected = reached(f"http://127.0.0.1:{theirs}", KEY, name, endpoint)
            found = reached(f"http://127.0.0.1:{mine}", key, name, endpoint, expected if isinstance(expected, set) else None)
            check(f"{file.name}: {name}", isinstance(expected, set) and expected and found == expected, f"LiteLLM {expected}, here {found}")


def main():
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Noting)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    files = [file for file in sorted((HERE / "configs").glob("*.yaml")) if word in file.name]
    for file in files:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            if toml := convert(file, folder):
                compare(file, toml, folder, upstream.server_port)
    upstream.shutdown()
    print(f"import checks: {len(files)} configurations, {failures} failed")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
