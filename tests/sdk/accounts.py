"""Conversations of openai-python through a group of two accounts, which refuse each other's ids.

SDK_BASE_URL is the proxy, SDK_KEY the key to send. 60 turns: chains of previous_response_id with and without streams,
conversation objects, and items that carry encrypted reasoning. Each turn must be served at the first attempt by the
account of its conversation. Prints the number of turns of each account; exit status 1 if one failed.
"""

import collections
import os
import sys
import traceback

import openai

TURNS = 6
MODEL = "sim:events=4"
INCLUDE = ["reasoning.encrypted_content"]


class Served:
    """The accounts that served the turns of one conversation."""

    def __init__(self, tally):
        self.tally, self.account = tally, None

    def by(self, headers, turn):
        account, attempts = headers["x-streamgauge-upstream"], headers["x-streamgauge-attempts"]
        self.account = self.account or account
        if (account, attempts) != (self.account, "1"):
            raise AssertionError(f"turn {turn}: {account} at attempt {attempts}, expected {self.account} at the first")
        self.tally[account] += 1


def chain(client, served, number):
    """Each response continues the one before; in odd conversations it is streamed."""
    previous = openai.omit
    for turn in range(TURNS):
        arguments = {"model": MODEL, "input": f"Turn {turn} of {number}.", "previous_response_id": previous}
        if number % 2:
            with client.responses.with_streaming_response.create(**arguments, stream=True) as response:
                served.by(response.headers, turn)
                events = list(response.parse())
            previous = events[-1].response.id
        else:
            response = client.responses.with_raw_response.create(**arguments)
            served.by(response.headers, turn)
            previous = response.parse().id
    client.responses.retrieve(previous)
    client.responses.delete(previous)


def conversation(client, served, number):
    """The service keeps the turns."""
    made = client.conversations.with_raw_response.create()
    served.by(made.headers, 0)
    made = made.parse()
    for turn in range(1, TURNS):
        arguments = {"model": MODEL, "input": f"Turn {turn} of {number}.", "conversation": made.id}
        served.by(client.responses.with_raw_response.create(**arguments).headers, turn)
    items = client.conversations.items.list(made.id)
    if len(items.data) != 2 * (TURNS - 1):
        raise AssertionError(f"{len(items.data)} items")
    client.conversations.delete(made.id)


def stateless(client, served, number):
    """The client keeps the turns, with reasoning that only its account can decrypt."""
    items = []
    for turn in range(TURNS):
        items.append({"role": "user", "content": f"Turn {turn} of {number}."})
        arguments = {"model": MODEL, "input": items, "include": INCLUDE, "store": False}
        response = client.responses.with_raw_response.create(**arguments)
        served.by(response.headers, turn)
        items += [item.model_dump(exclude_none=True) for item in response.parse().output]


def main():
    client = openai.OpenAI(base_url=os.environ["SDK_BASE_URL"], api_key=os.environ["SDK_KEY"], max_retries=0)
    tally, well = collections.Counter(), True
    # 10 conversations of 6 turns.
    for number, talk in enumerate([chain] * 4 + [conversation] * 3 + [stateless] * 3):
        try:
            talk(client, Served(tally), number)
        except Exception:
            well = False
            print(f"FAILED accounts: {talk.__name__} {number}\n{traceback.format_exc()}")
    if well:
        print(f"ok accounts: {sum(tally.values())} turns stayed with their accounts: {dict(tally)}")
    return 0 if well and sum(tally.values()) == 10 * TURNS else 1


if __name__ == "__main__":
    sys.exit(main())
