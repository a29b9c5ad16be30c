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


def openai_told(job, outcome):
    """Reads the headers of a response, and the comment of a stream, with which the proxy tells their use."""
    client, options = openai_client(job), {"model": job["model"], "messages": MESSAGES}
    raw = client.chat.completions.with_raw_response.create(**options)
    done, kinds = raw.parse(), ("input_tokens", "output_tokens")
    outcome.text, counts = done.choices[0].message.content, (done.usage.prompt_tokens, done.usage.completion_tokens)
    outcome.count(*counts)
    is_told = "x-streamgauge-id" in raw.headers
    told = [raw.headers.get(f"x-streamgauge-{name}") for name in ("input-tokens", "output-tokens")]
    if is_told and (told != [str(count) for count in counts] or not float(raw.headers["x-streamgauge-cost"])):
        raise ValueError(f"{raw.headers} beside {counts}")
    options |= {"stream": True, "stream_options": {"include_usage": True}}
    with client.chat.completions.with_streaming_response.create(**options) as response:
        lines = [line for line in response.iter_lines() if line]
    usage = json.loads(lines[-3 if is_told else -2].removeprefix("data: "))["usage"]
    counts = (usage["prompt_tokens"], usage["completion_tokens"])
    outcome.count(*counts)
    if is_told:
        comment = json.loads(lines[-2].removeprefix(": streamgauge "))
        if tuple(comment[kind] for kind in kinds) != counts or not float(comment["cost"]):
            raise ValueError(f"{comment} beside {counts}")
    outcome.text += f" {lines[-1]}"


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
    "openai-python chat, with the use told": openai_told,
    "openai-python chat, tools": openai_tools,
    "openai-python chat.parse": openai_parse,
    "openai-python responses": openai_responses,
    "openai-python responses.stream, tools": openai_responses_tools,
}
