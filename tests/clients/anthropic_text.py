"""Anthropic's SDK: one function for each way to ask."""

import anthropic
from question import MESSAGES, MESSAGES_TOOLS, RESULT


def anthropic_client(job):
    return anthropic.Anthropic(base_url=job["url"], api_key=job["key"], max_retries=0, timeout=30)


def anthropic_messages(job, outcome):
    done = anthropic_client(job).messages.create(model=job["model"], max_tokens=99, messages=MESSAGES)
    outcome.text = done.content[0].text
    outcome.count(done.usage.input_tokens, done.usage.output_tokens)


def anthropic_stream(job, outcome):
    with anthropic_client(job).messages.stream(model=job["model"], max_tokens=99, messages=MESSAGES) as stream:
        outcome.text = "".join(stream.text_stream)
        usage = stream.get_final_message().usage
        outcome.count(usage.input_tokens, usage.output_tokens)


def anthropic_tools(job, outcome):
    client, messages = anthropic_client(job), list(MESSAGES)
    for _ in range(2):
        with client.messages.stream(model=job["model"], max_tokens=99, messages=messages, tools=MESSAGES_TOOLS) as stream:
            done = stream.get_final_message()
        outcome.count(done.usage.input_tokens, done.usage.output_tokens)
        calls = [block for block in done.content if block.type == "tool_use"]
        outcome.calls += [[call.name, call.input] for call in calls]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULT} for call in calls]
        messages += [{"role": "assistant", "content": done.content}, {"role": "user", "content": results}]
    outcome.text = done.content[0].text


def anthropic_count(job, outcome):
    done = anthropic_client(job).messages.count_tokens(model=job["model"], messages=MESSAGES)
    outcome.text = str(done.input_tokens)


CLIENTS = {
    "anthropic-python messages": anthropic_messages,
    "anthropic-python messages.stream": anthropic_stream,
    "anthropic-python messages.stream, tools": anthropic_tools,
    "anthropic-python count_tokens": anthropic_count,
}
