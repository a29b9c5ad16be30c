#!/usr/bin/env python3
"""Measures limits of tokens under agents that share one budget: how far it is exceeded, and how many requests are refused falsely.

40 agents stream through the real proxy from the simulator until the budget that they share is used up. The numbers of tokens are
lognormal: a median of some 10,000 in prompts, and of 600 in responses. 60 % of the requests say `max_tokens = 32000`. A refused
agent asks again three times, each 5 s later. Three policies, with the same requests:

* `refuse` and `cut`: the values of `at_limit`.
* `check first, charge afterwards`: the proxy only warns. Before a request each agent compares what has been charged with the budget,
  and it charges each request at its end.

The use is that of the records. A refusal is false if the request would have fitted into the budget, beside all that the requests
admitted before it used in the end. STREAMGAUGE_BIN names the binary (target/debug/streamgauge if unset).
"""

import contextlib
import http.client
import json
import pathlib
import random
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from programs import Proxy, free_port, simulator, started, until, upstream  # noqa: E402

AGENTS, BUDGET, SEED = 40, 2_000_000, 7
ASKS_AGAIN, PAUSE = 3, 5
TEXT = "A stream gauge measures the level of a river, and the flow of its water. "
CHARGED_LATE = "check first, charge afterwards"

# What `cut` may exceed the budget by: 1,024 tokens and the error of the expected input for each agent. The same is far below what
# `refuse` may, which the table shows.
MOST_OF_CUT = AGENTS * 1_024

# The part of the budget that is really used when the first request is refused. Holds that are too large refuse earlier.
LEAST_AT_FIRST = 0.95


class Budget:
    """The requests of one policy."""

    def __init__(self, url, charges_late):
        self.url, self.charges_late = url, charges_late
        self.lock = threading.Lock()
        self.admitted, self.refused = {}, []
        self.charged = 0

    def ask(self, prompt, output, says_most):
        """True if the request was admitted. `prompt` is the number of sentences."""
        at = time.monotonic()
        if self.charges_late and self.charged >= BUDGET:
            self.refused.append((at, prompt, output))
            return False
        body = {
            "model": "sim",
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": TEXT * prompt}],
            **({"max_tokens": 32_000} if says_most else {}),
        }
        # In a header, since the tokens per byte are learned by model.
        headers = {
            "content-type": "application/json",
            "authorization": "Bearer sg-agents-0123456789",
            "x-simulate": f"events={output},pace=1ms",
        }
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", json.dumps(body).encode(), headers)
        try:
            response = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            if error.code != 429:
                raise
            error.close()
            self.refused.append((at, prompt, output))
            return False
        with response:
            self.admitted[response.headers["x-streamgauge-id"]] = at, prompt
            # A stream that is cut ends without its last chunk.
            with contextlib.suppress(http.client.IncompleteRead):
                for line in response:
                    if b'"usage":{' in line:
                        usage = json.loads(line.removeprefix(b"data: "))["usage"]
                        with self.lock:
                            self.charged += usage["total_tokens"]
        return True

    def run_agent(self, number):
        chance = random.Random(SEED * 1_000 + number)
        left = ASKS_AGAIN
        while left:
            prompt, output = int(chance.lognormvariate(6.4, 0.5)), int(chance.lognormvariate(6.4, 0.8))
            says_most = chance.random() < 0.6
            while left and not self.ask(prompt, output, says_most):
                left -= 1
                time.sleep(PAUSE)


def measure(folder, port, at_limit):
    """Exceeding tokens, refusals, false refusals, and the part of the budget that was really used at the first refusal."""
    charges_late = at_limit == CHARGED_LATE
    tables = (
        f'[clients.agents]\nkey = {{ value = "sg-agents-0123456789" }}\nlimits = [{{ tokens = {BUDGET}, per = "month", '
        f'at_limit = "{"warn" if charges_late else at_limit}" }}]\n'
    )
    folder.mkdir()
    proxy = Proxy(folder, upstream(port) + tables)
    config = folder / "streamgauge.toml"
    # Periods are read from the ledger.
    config.write_text(config.read_text().replace('path = ""', f"path = {json.dumps(str(folder / 'usage.db'))}"))
    with proxy.running():
        budget = Budget(proxy.url, charges_late)
        agents = [threading.Thread(target=budget.run_agent, args=(number,)) for number in range(AGENTS)]
        for agent in agents:
            agent.start()
        for agent in agents:
            agent.join()

        def written():
            records = {record["id"]: record for record in proxy.records()}
            return records if all(id in records for id in budget.admitted) else None

        records = until("all records", written)
    used = {id: (records[id]["input_tokens"] or 0) + (records[id]["output_tokens"] or 0) for id in budget.admitted}

    def used_before(at):
        return sum(tokens for id, tokens in used.items() if budget.admitted[id][0] <= at)

    prompts = {budget.admitted[id][1]: records[id]["input_tokens"] for id in used if records[id]["input_tokens"]}
    per_sentence = sum(prompts.values()) / sum(prompts)
    false = sum(used_before(at) + prompt * per_sentence + output <= BUDGET for at, prompt, output in budget.refused)
    first = used_before(min(budget.refused)[0]) / BUDGET
    cut = sum(records[id]["outcome"] == "cut" for id in used)
    return sum(used.values()) - BUDGET, len(used), cut, len(budget.refused), false, first


def main():
    failed = 0
    print(f"{AGENTS} agents, a budget of {BUDGET:,} tokens")
    print("| policy | exceeded by | requests | cut | refused | refused though there was room | first refusal at |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as programs:
        port = free_port()
        programs.enter_context(started("the simulator", simulator(port), port))
        for at_limit in (CHARGED_LATE, "refuse", "cut"):
            more, requests, cut, refused, false, first = measure(pathlib.Path(folder) / at_limit.split()[0], port, at_limit)
            exceeded = f"{more:,} ({more / BUDGET:.1%})"
            print(f"| {at_limit} | {exceeded} | {requests} | {cut} | {refused} | {false} | {first:.0%} |", flush=True)
            if at_limit == "cut" and more > MOST_OF_CUT:
                failed += 1
                print("FAILED: cut exceeds its bound")
            if first < LEAST_AT_FIRST:
                failed += 1
                print(f"FAILED: {at_limit} refuses before the budget is used")
    return failed


if __name__ == "__main__":
    sys.exit(main())
