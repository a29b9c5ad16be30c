"""OpenAI's SDK at the endpoints for text: one function for each way to ask."""

import json

import openai
from question import CHAT_TOOLS, MESSAGES, QUESTION, RESPONSES_TOOLS, RESULT, River


def openai_client(job):
    return openai.OpenAI(base_url=f"{job['url']}/v1", api_key=job["key"], max_retries=0, timeout=30)


def openai_chat(job, outcome):
    done = openai_client(job).chat.completions.create(model=job["model"], messages=MESSAGES)
    outcome.text = done.choices[0].message.content
    outcome.count(done.usage.prompt_tokens, done.usage.completion_tokens)


def openai_stream(job, outcome):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    for chunk in openai_client(job).chat.completions.create(model=job["model"], messages=MESSAGES, **options):
        for choice in chunk.choices:
            outcome.text += choice.delta.content or ""
        if chunk.usage:
            outcome.count(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)


def openai_stream_unasked(job, outcome):
    """The commonest loop, which takes the first choice of every chunk. It must not see more chunks than without the proxy."""
    count = 0
    for count, chunk in enumerate(openai_client(job).chat.completions.create(model=job["model"], messages=MESSAGES, stream=True), 1):
        outcome.text += chunk.choices[0].delta.content or ""
    outcome.text += f" ({count} chunks, the last: {chunk.choices[0].finish_reason}, {chunk.usage})"


def openai_tools(job, outcome):
    client, messages = openai_client(job), list(MESSAGES)
    for _ in range(2):
        done = client.chat.completions.create(model=job["model"], messages=messages, tools=CHAT_TOOLS)
        outcome.count(done.usage.prompt_tokens, done.usage.completion_tokens)
        message = done.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or []:
            outcome.calls.append([call.function.name, json.loads(call.function.arguments)])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": RESULT})
    outcome.text = message.content


def openai_parse(job, outcome):
    done = openai_client(job).chat.completions.parse(model=job["model"], messages=MESSAGES, response_format=River)
    outcome.text = str(done.choices[0].message.parsed)
    outcome.count(done.usage.prompt_tokens, done.usage.completion_tokens)


def openai_responses(job, outcome):
    done = openai_client(job).responses.create(model=job["model"], input=QUESTION)
    outcome.text = done.output_text
    outcome.count(done.usage.input_tokens, done.usage.output_tokens)


def openai_responses_tools(job, outcome):
    client, items = openai_client(job), list(MESSAGES)
    for _ in range(2):
        with client.responses.stream(model=job["model"], input=items, tools=RESPONSES_TOOLS) as stream:
            for _ in stream:
                pass
            done = stream.get_final_response()
        outcome.count(done.usage.input_tokens, done.usage.output_tokens)
        for call in (item for item in done.output if item.type == "function_call"):
            outcome.calls.append([call.name, json.loads(call.arguments)])
            items += [call.model_dump(exclude={"parsed_arguments"}, exclude_none=True)]
            items += [{"type": "function_call_output", "call_id": call.call_id, "output": RESULT}]
    outcome.text = done.output_text


CLIENTS = {
    "openai-python chat": openai_chat,
    "openai-python chat, streamed": openai_stream,
    "openai-python chat, streamed, usage unasked": openai_stream_unasked,
    "openai-python chat, tools": openai_tools,
    "openai-python chat.parse": openai_parse,
    "openai-python responses": openai_responses,
    "openai-python responses.stream, tools": openai_responses_tools,
}
