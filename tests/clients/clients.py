"""Reads streams with Python's SDKs: jobs come as JSON on stdin, results go as JSON lines to stdout.

A job is {"client", "url", "cut"}; a result adds "raised" (the exception's class, or null if the stream ended without one)
and "text" (the application's text before that).
"""

import json
import sys

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

QUESTION = [{"role": "user", "content": "How much goes by?"}]
MODEL = "recorded"


def openai_client(job):
    return openai.OpenAI(
        base_url=f"{job['url']}/v1", api_key="unused", max_retries=0, timeout=20, default_headers={"x-cut": job["cut"]}
    )


def openai_chat(job):
    stream = openai_client(job).chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    for chunk in stream:
        for choice in chunk.choices:
            yield choice.delta.content or ""


def openai_responses(job):
    for event in openai_client(job).responses.create(model=MODEL, input="How much goes by?", stream=True):
        if event.type == "response.failed":
            raise RuntimeError("response.failed")
        if event.type == "response.output_text.delta":
            yield event.delta


def openai_responses_helper(job):
    with openai_client(job).responses.stream(model=MODEL, input="How much goes by?") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                yield event.delta
        stream.get_final_response()


def anthropic_client(job):
    return anthropic.Anthropic(
        base_url=job["url"], api_key="unused", max_retries=0, timeout=20, default_headers={"x-cut": job["cut"]}
    )


def anthropic_messages(job):
    stream = anthropic_client(job).messages.create(model=MODEL, max_tokens=99, messages=QUESTION, stream=True)
    for event in stream:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            yield event.delta.text


def anthropic_helper(job):
    with anthropic_client(job).messages.stream(model=MODEL, max_tokens=99, messages=QUESTION) as stream:
        yield from stream.text_stream
        stream.get_final_message()


def langchain_openai(job):
    chat = ChatOpenAI(
        model=MODEL, base_url=f"{job['url']}/v1", api_key="unused", max_retries=0, timeout=20, default_headers={"x-cut": job["cut"]}
    )
    for chunk in chat.stream("How much goes by?"):
        yield chunk.text


def langchain_anthropic(job):
    chat = ChatAnthropic(
        model_name=MODEL, base_url=job["url"], api_key="unused", max_retries=0, timeout=20, default_headers={"x-cut": job["cut"]}
    )
    for chunk in chat.stream("How much goes by?"):
        yield chunk.text


CLIENTS = {
    "openai-python chat": openai_chat,
    "openai-python responses": openai_responses,
    "openai-python responses.stream": openai_responses_helper,
    "anthropic-python messages": anthropic_messages,
    "anthropic-python messages.stream": anthropic_helper,
    "langchain-python openai": langchain_openai,
    "langchain-python anthropic": langchain_anthropic,
}


def run(job):
    text, raised = "", None
    try:
        for piece in CLIENTS[job["client"]](job):
            text += piece
    except Exception as error:  # noqa: BLE001: any exception is what an application would see
        raised = type(error).__name__
    return {**job, "raised": raised, "text": text}


if __name__ == "__main__":
    for each in json.load(sys.stdin):
        print(json.dumps(run(each)), flush=True)
