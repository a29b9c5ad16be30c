"""Asks questions with Python's clients: jobs come as JSON on stdin, results go as JSON lines to stdout.

A job is {"client", "url", "model", "key"}; a result adds "text", "calls" (the tools that were called and their arguments), the
"input" and "output" tokens that the client reports, null where it reports none, and "raised" (an exception in words, or null).
"""

import json
import sys

import anthropic_text
import langchain_text
import litellm_text
import openai_endpoints
import openai_text

MODULES = (openai_text, openai_endpoints, anthropic_text, langchain_text, litellm_text)
CLIENTS = {name: client for module in MODULES for name, client in module.CLIENTS.items()}


class Outcome:
    """The result of one or several requests."""

    def __init__(self):
        self.text, self.calls, self.input, self.output = "", [], None, None

    def count(self, input_tokens, output_tokens):
        self.input, self.output = (self.input or 0) + input_tokens, (self.output or 0) + output_tokens


def run(job):
    outcome, raised = Outcome(), None
    try:
        CLIENTS[job["client"]](job, outcome)
    except Exception as error:  # noqa: BLE001: any exception is what an application would see
        raised = f"{type(error).__name__}: {error}"[:300]
    return {**job, **vars(outcome), "raised": raised}


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print(json.dumps(list(CLIENTS)))
        sys.exit()
    for each in json.load(sys.stdin):
        print(json.dumps(run(each)), flush=True)
