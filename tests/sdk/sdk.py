"""The openai-python checks: typical uses of the SDK, against each target.

SDK_TARGETS is a JSON list of {"name", "client": "openai" | "azure", "base_url", "checks": "http" | "realtime"}; SDK_KEY is the
key to send. Behind every target is the simulator, or realtime.py, so that every text and count is known. Prints a line per check; exit status 1 if one failed.
"""

import json
import os
import struct
import sys
import threading
import traceback

import openai

SENTENCE = (
    "A stream gauge measures a river without ever holding any of it back, "
    "and knows afterwards exactly how much of the water went by."
)
WORDS = 24
QUESTION = [{"role": "user", "content": "How much goes by?"}]
INPUT_TOKENS = 4
API_VERSION = "2024-10-21"
PARALLEL = 16
SERVER_ERROR = "The server had an error"

CHECKS = {"http": [], "realtime": []}


def check(function):
    CHECKS["http"].append(function)
    return function


def realtime_check(function):
    CHECKS["realtime"].append(function)
    return function


def same(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: {found!r}, expected {expected!r}")


def raises(kind, function):
    try:
        function()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def usage_of(usage):
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens


def text_of(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


@check
def chat(client):
    response = client.chat.completions.create(model="sim-chat", messages=QUESTION)
    same(response.choices[0].message.content, SENTENCE, "text")
    same(usage_of(response.usage), (INPUT_TOKENS, WORDS, INPUT_TOKENS + WORDS), "usage")
    same(response.model, "sim-chat", "model")
    same(response.choices[0].finish_reason, "stop", "finish_reason")
    if not response._request_id.startswith("req_"):
        raise AssertionError(f"x-request-id: {response._request_id}")


@check
def chat_stream(client):
    chunks = list(client.chat.completions.create(model="sim-stream", messages=QUESTION, stream=True))
    same(text_of(chunks), SENTENCE, "text")
    same([chunk.usage for chunk in chunks if chunk.usage], [], "usage that was not asked for")
    same(len([chunk for chunk in chunks if chunk.choices]), WORDS + 2, "chunks with choices")


@check
def chat_stream_with_usage(client):
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="sim-usage", messages=QUESTION, stream=True, stream_options=options)
    )
    same(text_of(chunks), SENTENCE, "text")
    same(chunks[-1].choices, [], "choices of the last chunk")
    same(usage_of(chunks[-1].usage), (INPUT_TOKENS, WORDS, INPUT_TOKENS + WORDS), "usage")


@check
def responses(client):
    response = client.responses.create(model="sim-responses", instructions="Be brief.", input="How much goes by?")
    same(response.output_text, SENTENCE, "text")
    same((response.usage.input_tokens, response.usage.output_tokens), (6, WORDS), "usage")


@check
def responses_stream(client):
    events = list(client.responses.create(model="sim-responses-stream", input="How much goes by?", stream=True))
    same("".join(event.delta for event in events if event.type == "response.output_text.delta"), SENTENCE, "text")
    same(events[-1].type, "response.completed", "last event")
    same(events[-1].response.usage.total_tokens, 4 + WORDS, "total tokens")
    same([event.sequence_number for event in events], list(range(len(events))), "sequence numbers")


@check
def completions_stream(client):
    options = {"include_usage": True}
    chunks = list(
        client.completions.create(model="sim-legacy", prompt="How much?", stream=True, stream_options=options)
    )
    same("".join(choice.text for chunk in chunks for choice in chunk.choices), SENTENCE, "text")
    same(usage_of(chunks[-1].usage), (2, WORDS, 2 + WORDS), "usage")


@check
def embeddings(client):
    response = client.embeddings.create(model="sim-embeddings", input=["one", "two words"])
    same([len(item.embedding) for item in response.data], [1536, 1536], "dimensions")
    component = struct.unpack("<f", struct.pack("<f", response.data[0].embedding[0]))[0]
    same(round(component * component * 1536, 4), 1.0, "length of the vector")
    same((response.usage.prompt_tokens, response.usage.total_tokens), (3, 3), "usage")


@check
def models(client):
    same("sim" in [model.id for model in client.models.list()], True, "the model `sim` is listed")
    same(client.models.retrieve("sim").owned_by, "simulator", "owner")


@check
def missing_model(client):
    error = raises(openai.NotFoundError, lambda: client.models.retrieve("nothing"))
    same(error.code, "model_not_found", "code")
    same("`nothing` does not exist" in error.message, True, error.message)


@check
def rate_limit(client):
    def ask():
        client.chat.completions.create(model="sim-limit:status=429", messages=QUESTION)

    error = raises(openai.RateLimitError, ask)
    same(error.response.headers["retry-after"], "1", "retry-after")
    same(error.response.headers["x-ratelimit-remaining-requests"], "0", "x-ratelimit-remaining-requests")


@check
def error_in_stream(client):
    seen = []

    def read():
        stream = client.chat.completions.create(model="sim-error:fault=error@6", messages=QUESTION, stream=True)
        seen.extend(stream)

    error = raises(openai.APIError, read)
    same(SERVER_ERROR in error.message, True, error.message)
    same(SENTENCE.startswith(text_of(seen)) and text_of(seen) != "", True, "text before the error")


@check
def cut_stream(client):
    seen = []

    def read():
        stream = client.chat.completions.create(model="sim-cut:fault=cut@6", messages=QUESTION, stream=True)
        seen.extend(stream)

    raises(openai.APIError, read)
    same(SENTENCE.startswith(text_of(seen)) and text_of(seen) != "", True, "text before the cut")


@check
def cancelled_stream(client):
    model = "sim-cancel:events=100000,pace=20ms"
    stream = client.chat.completions.create(model=model, messages=QUESTION, stream=True)
    first = [next(stream) for _ in range(4)]
    stream.close()
    same(SENTENCE.startswith(text_of(first)) and text_of(first) != "", True, "text before the end")


@check
def parallel_streams(client):
    model, results = "sim-parallel:events=50,pace=2ms,size=40", []

    def read():
        chunks = client.chat.completions.create(
            model=model, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(chunks)
        results.append((len(text_of(chunks)), usage_of(chunks[-1].usage)))

    threads = [threading.Thread(target=read) for _ in range(PARALLEL)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(results, [(50 * 40, (INPUT_TOKENS, 50, INPUT_TOKENS + 50))] * PARALLEL, "texts and usage")


def realtime_response(connection, question, number):
    """Asks in a session, and reads to the end of the response."""
    content = [{"type": "input_text", "text": question}]
    connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
    connection.response.create()
    same(connection.recv().type, "response.created", "first event")
    text = ""
    while (event := connection.recv()).type in ("response.output_text.delta", "response.text.delta"):
        text += event.delta
    same(event.type, "response.done", "last event")
    same(text, f"{question} {SENTENCE}", "text")
    usage, words = event.response.usage, len(question.split())
    expected = (words + 10 + number, words + WORDS + 2 * number)
    same((usage.input_tokens, usage.output_tokens), expected, "usage")
    same(usage.input_token_details.cached_tokens, number, "cached tokens")


@realtime_check
def realtime(client):
    with client.realtime.connect(model="sim-realtime") as connection:
        created = connection.recv()
        same((created.type, created.session.model), ("session.created", "sim-realtime"), "first event of the session")
        realtime_response(connection, "How much goes by?", 1)
        realtime_response(connection, "Is that \u2248 all of it?", 2)


def client_of(target):
    # A retry would hide a failure.
    common = {"api_key": os.environ["SDK_KEY"], "max_retries": 0, "timeout": 30}
    if target["client"] == "azure":
        # Without this option, the SDK opens WebSockets of Azure with TLS only.
        websockets = target["base_url"].replace("http://", "ws://") + "/openai"
        return openai.AzureOpenAI(
            azure_endpoint=target["base_url"], api_version=API_VERSION, websocket_base_url=websockets, **common
        )
    return openai.OpenAI(base_url=target["base_url"], **common)


def main():
    failures = 0
    for target in json.loads(os.environ["SDK_TARGETS"]):
        with client_of(target) as client:
            for function in CHECKS[target["checks"]]:
                name = f"openai-python {openai.__version__}: {target['name']}: {function.__name__}"
                try:
                    function(client)
                except Exception:
                    failures += 1
                    print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
                else:
                    print(f"ok {name}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
