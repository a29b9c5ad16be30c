#!/usr/bin/env python3
"""Compares the JSON Schema of `streamgauge config schema` with the program's own verdicts.

The schema accepts everything that the program accepts: the examples, the snippets of the documentation (which tests/docs/run.py gives to the
program), and a list of other spellings. The schema refuses the mistakes that a look at one key shows; the program refuses all of
them. STREAMGAUGE_BIN names the binary. Runs with the Python of target/schema/venv, which tests/run makes.
"""

import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib

import jsonschema

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "docs"), str(HERE.parent / "support")]
from pages import ROOT, all_pages  # noqa: E402
from programs import BIN  # noqa: E402

TOOLS = pathlib.Path(sys.executable).parent
OPENAI = '[upstreams.openai]\napi_key = { value = "sk-1" }\n'
AZURE = '[upstreams.azure]\napi_key = { value = "k" }\nurl = "https://r"\n[[routes]]\npath = "/azure"\nupstream = "azure"\n[[routes]]\nupstream = "openai"\n'
PRICE = '[[prices]]\nmodel = "m"\ninput = 2\noutput = 8.5\n'
COLLECTOR = '[otlp]\nendpoint = "http://127.0.0.1:4318"\n'

ACCEPTED = [
    OPENAI,
    OPENAI + "[server]\nmax_request_bytes = 1000000\nmin_body_rate = 0\nworkers = 1024",
    OPENAI + '[server]\nmax_request_bytes = "32mib"\nmin_body_rate = "2KiB/s"\nmax_passing_bytes = "1GB"',
    OPENAI + '[server]\nmin_body_rate = ""\nwrite_timeout = ""\ndrain_timeout = "1m30s"\nheader_timeout = "007s"',
    OPENAI + '[server]\nlisten = "[::1]:0"\nhosts = ["a", "*.b"]\norigins = ["https://a", "app://x", "http://localhost:3000"]',
    OPENAI + '[admin]\nlisten = ""\ntoken = { value = "0123456789abcdef" }\n[log]\naccess = "off"\nformat = "json"',
    OPENAI + '[ledger]\npath = ""\njsonl = "-"\nretention = "730d"',
    OPENAI + '[ledger.postgres]\nurl = { value = "postgres://u@127.0.0.1/d" }\nbatch = 10000\nretention = "52w"',
    OPENAI + COLLECTOR + 'sample = 0\ncompression = "gzip"\nheaders = { a = "b", c = { value = "d" } }\nresource = { "e.f" = "g" }',
    OPENAI + '[network]\nproxy = "none"',
    OPENAI + '[network]\nproxy = "socks5h://proxy"',
    OPENAI + '[network.proxy]\nurl = "http://proxy:3128"\nbypass = ["10.0.0.0/8"]\nonly = []',
    OPENAI + '[[network.hosts]]\nurl = "https://api.openai.com"\ntimeouts = { idle = "1s", total = "" }',
    OPENAI + 'query = { a = "b", c = { value = "d" } }\nmodels = { "a.b c" = "m" }\nhttp = "2"\nkeep_alive_comments = ""',
    OPENAI + 'on_disconnect = "drain"\ndrain_limits = { seconds = 86400, bytes = 1, concurrent = 0 }\npool = { idle_timeout = "0s" }',
    OPENAI + AZURE + '[upstreams.azure.deployments]\n"gpt-4o" = "d"\n',
    OPENAI + AZURE.replace("[[", 'api_version = "2024-05-01-preview"\n[[', 1),
    OPENAI + PRICE + 'from = 2026-01-01\ncurrency = "EUR"\ntool_calls = { web_search = 10 }\nabove_input_tokens = 1',
    OPENAI + PRICE + 'from = "2026-01-01"\ncached_input = 0\ntier = "flex"',
    '[upstreams."a-b_c"]\nprovider = "other"\nurl = "http://127.0.0.1:1/v1"\napi_key = "none"\ndefault_model = "m"',
]

# Mistakes that one key alone shows.
REFUSED_BY_BOTH = [
    OPENAI + '[server]\nlistn = ""',
    OPENAI + "[serverr]",
    "listen = 1\n" + OPENAI,
    OPENAI + "[server]\nlisten = 8080",
    OPENAI + '[server]\nlisten = "localhost"',
    OPENAI + '[server]\nworkers = "2"',
    OPENAI + "[server]\nworkers = -1",
    OPENAI + "[server]\nworkers = 1.5",
    OPENAI + "[server]\nworkers = 4096",
    OPENAI + '[server]\nallow_anonymous = "yes"',
    OPENAI + "[server]\ndrain_timeout = 30",
    OPENAI + '[server]\ndrain_timeout = "30"',
    OPENAI + '[server]\ndrain_timeout = "1.5s"',
    OPENAI + '[server]\nheader_timeout = ""',
    OPENAI + '[server]\nmax_request_bytes = "32M"',
    OPENAI + "[server]\nmax_request_bytes = 0",
    OPENAI + '[server]\nmin_body_rate = "fast"',
    OPENAI + '[server]\nhosts = "a"',
    OPENAI + "[server]\nhosts = [1]",
    OPENAI + '[server]\norigins = ["a.example"]',
    OPENAI + "[server]\ntls = true",
    OPENAI + "[ledger]\npath = {}",
    OPENAI + "[ledger]\nretention = 90",
    OPENAI + "[ledger.postgres]\nbatch = 5",
    OPENAI + '[ledger.postgres]\nurl = { value = "postgres://u@127.0.0.1/d" }\nbatch = 10001',
    OPENAI + '[ledger.postgres]\nurl = "postgres://u:p@127.0.0.1/d"',
    OPENAI + '[log]\nformat = "xml"',
    OPENAI + COLLECTOR + "sample = 1.5",
    OPENAI + COLLECTOR + 'endpoints = ""',
    OPENAI + '[admin]\ntoken = "0123456789abcdef"',
    OPENAI + '[clients]\na = "sk"',
    OPENAI + '[clients."a b"]\nkey = { value = "0123456789abcdef" }',
    OPENAI + '[clients.a]\nkey = { env = "A", value = "0123456789abcdef" }',
    OPENAI + '[clients.a]\nkey = { evn = "A" }',
    OPENAI + "[network]\nproxy = 3128",
    OPENAI + '[network]\nproxy = "p:3128"',
    OPENAI + "[network.proxy]",
    OPENAI + "[[network.hosts]]",
    OPENAI + '[network]\nhosts = "a"',
    OPENAI + 'url = "api.openai.com"',
    OPENAI + 'http = "3"',
    OPENAI + "http = 2",
    OPENAI + 'include_usage = "yes"',
    OPENAI + 'timeouts = { conect = "1s" }',
    OPENAI + "timeouts = { connect = 1 }",
    OPENAI + "drain_limits = { seconds = 86401 }",
    OPENAI + 'pool = { max_idle = "many" }',
    OPENAI + "headers = { X-Team = 1 }",
    OPENAI + "models = { a = 1 }",
    OPENAI.replace("{ value", '"sk" # {'),
    "upstreams = 1",
    "[upstreams]\nopenai = 1",
    'routes = "x"\n' + OPENAI,
    "[routes]\n" + OPENAI,
    OPENAI + '[[routes]]\npath = "/a"',
    OPENAI + '[[routes]]\nupstream = "openai"\npath = "a"',
    OPENAI + '[[routes]]\nupstream = "openai"\npath = "/a/"',
    OPENAI + '[[routes]]\nupstream = "openai"\nmodel = ""',
    OPENAI + '[[prices]]\nmodel = "m"\ninput = 1',
    OPENAI + PRICE + 'currency = "usd"',
    OPENAI + PRICE + 'from = "01.01.2026"',
    OPENAI + PRICE + "cached = 1",
    OPENAI + PRICE + "cached_input = -1",
    OPENAI + PRICE + "tool_calls = { web = 1 }",
    OPENAI + AZURE.replace("[[", 'api_version = "2024"\n[[', 1),
]

# Rules between keys, and facts about the machine.
REFUSED_BY_THE_PROGRAM = [
    # A certificate can name a client without a key, and its keys can be stored.
    OPENAI + '[keys]\nfile = ""\n[clients.a]',
    "",
    OPENAI.replace('value = "sk-1"', 'env = "NOT_SET"'),
    OPENAI.replace('value = "sk-1"', 'file = "gone"'),
    OPENAI + '[server]\nlisten = "0.0.0.0:8080"',
    OPENAI + '[admin]\nlisten = "127.0.0.1:8080"',
    OPENAI + '[admin]\nledger = "postgres"',
    OPENAI + '[[routes]]\nupstream = "azure"',
    OPENAI + '[clients.a]\nkey = { value = "0123456789abcdef" }\n[clients.b]\nkey = { value = "0123456789abcdef" }',
    OPENAI + '[server]\nheader_timeout = "0s"',
    OPENAI + "headers = { Host = \"a\" }",
    OPENAI + 'api_version = "v1"',
    "[upstreams.openai]",
]

failures = []


def fail(place, reason):
    failures.append(place)
    print(f"FAILED  {place}: {reason}", flush=True)


def plain(value):
    """The value in JSON, as editors pass it to the schema."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def program(text, folder):
    """The output of `streamgauge check` if it refuses the text. The configuration uses free ports."""
    path = folder / "case.toml"
    path.write_text(text)
    result = subprocess.run(
        [BIN, "check", "--config", str(path)], cwd=folder, env={"PATH": os.environ["PATH"]}, text=True, capture_output=True, timeout=60
    )  # fmt: skip
    # Ports and folders of this machine are not mistakes of the text.
    lines = [line for line in result.stderr.splitlines() if line and "cannot listen" not in line and "configuration is" not in line]
    return [line for line in lines if not line.startswith("warning")] if result.returncode else []


def is_configuration(text):
    """False: another program's configuration, or a file of stored keys."""
    return not any(table in text for table in ("[model_providers", "[models.")) and not text.startswith("[[keys]]")


def main():
    described = subprocess.run([BIN, "config", "schema"], text=True, capture_output=True, check=True).stdout
    schema = json.loads(described)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    def refusal(text):
        error = jsonschema.exceptions.best_match(validator.iter_errors(plain(tomllib.loads(text))))
        return error and f"{error.json_path}: {error.message}"

    blocks = [block for page in all_pages() for block in page.blocks if block.language == "toml" and is_configuration(block.text)]
    examples = sorted((ROOT / "config/examples").glob("*.toml"))
    default = (ROOT / "config/default.toml").read_text()
    texts = [(str(block), block.text) for block in blocks] + [(path.name, path.read_text()) for path in examples]
    reference = "\n".join(line[1:] if line[:1] == "#" and line[1:2].strip() else line for line in default.splitlines())
    texts += [("config/default.toml", default), ("config/default.toml with all its keys", reference)]
    for place, text in texts:
        if reason := refusal(text):
            fail(place, f"the schema refuses it: {reason}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for text in ACCEPTED:
            if reason := refusal(text):
                fail(text, f"the schema refuses it: {reason}")
            if reason := program(text, folder):
                fail(text, f"the program refuses it: {reason}")
        for text in REFUSED_BY_BOTH + REFUSED_BY_THE_PROGRAM:
            if not program(text, folder):
                fail(text, "the program accepts it")
            if bool(refusal(text)) != (text in REFUSED_BY_BOTH):
                fail(text, f"the schema's verdict is the other one: {refusal(text)}")
        # An editor's language server checks whole files.
        (folder / "schema.json").write_text(described)
        for number, (_, text) in enumerate(texts):
            (folder / f"text{number}.toml").write_text(text)
        taplo = [TOOLS / "taplo", "check", "--schema", (folder / "schema.json").as_uri()]
        result = subprocess.run([*taplo, *sorted(folder.glob("text*.toml"))], text=True, capture_output=True, cwd=folder)
        if result.returncode:
            fail("taplo", result.stdout + result.stderr)
        (folder / "text.toml").write_text(REFUSED_BY_BOTH[0])
        if not subprocess.run([*taplo, folder / "text.toml"], capture_output=True, cwd=folder).returncode:
            fail("taplo", "takes an unknown key")
    if failures:
        print(f"FAILED: schema checks: {len(failures)}")
        return 1
    print(f"schema checks: {len(texts)} files and snippets, {len(ACCEPTED)} accepted, {len(REFUSED_BY_BOTH)} refused by both, all well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
