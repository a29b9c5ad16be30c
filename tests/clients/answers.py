"""Asks questions with Python's clients: jobs come as JSON on stdin, results go as JSON lines to stdout.

A job is {"client", "url", "model", "key"}; a result adds "text", "calls" (the tools that were called and their arguments), the
"input" and "output" tokens that the client reports, null where it reports none, and "raised" (an exception in words, or null).
"""

import json
import sys

import anthropic
import endpoints
import openai
import pydantic
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

QUESTION = "How does a stream gauge work?"
MESSAGES = [{"role": "user", "content": QUESTION}]
RESULT = "3 metres"
SCHEMA = {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"], "additionalProperties": False}
FUNCTION = {"name": "measure", "description": "Measures a river.", "parameters": SCHEMA}
CHAT_TOOLS = [{"type": "function", "function": FUNCTION}]
RESPONSES_TOOLS = [{"type": "function", **FUNCTION}]
MESSAGES_TOOLS = [{"name": "measure", "description": "Measures a river.", "input_schema": SCHEMA}]


class River(pydantic.BaseModel):
    """What structured output is parsed into."""

    name: str
    metres: int


class Answer:
    """What came of one or several requests."""

    def __init__(self):
        self.text, self.calls, self.input, self.output = "", [], None, None

    def count(self, input_tokens, output_tokens):
        self.input, self.output = (self.input or 0) + input_tokens, (self.output or 0) + output_tokens


# The SDK of OpenAI.


def openai_client(job):
    return openai.OpenAI(base_url=f"{job['url']}/v1", api_key=job["key"], max_retries=0, timeout=30)


def openai_chat(job, answer):
    done = openai_client(job).chat.completions.create(model=job["model"], messages=MESSAGES)
    answer.text = done.choices[0].message.content
    answer.count(done.usage.prompt_tokens, done.usage.completion_tokens)


def openai_stream(job, answer):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    for chunk in openai_client(job).chat.completions.create(model=job["model"], messages=MESSAGES, **options):
        for choice in chunk.choices:
            answer.text += choice.delta.content or ""
        if chunk.usage:
            answer.count(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)


def openai_stream_unasked(job, answer):
    """The commonest loop, which takes the first choice of every chunk. It must see no chunk more than without the proxy."""
    count = 0
    for count, chunk in enumerate(openai_client(job).chat.completions.create(model=job["model"], messages=MESSAGES, stream=True), 1):
        answer.text += chunk.choices[0].delta.content or ""
    answer.text += f" ({count} chunks, the last: {chunk.choices[0].finish_reason}, {chunk.usage})"


def openai_tools(job, answer):
    client, messages = openai_client(job), list(MESSAGES)
    for _ in range(2):
        done = client.chat.completions.create(model=job["model"], messages=messages, tools=CHAT_TOOLS)
        answer.count(done.usage.prompt_tokens, done.usage.completion_tokens)
        message = done.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or []:
            answer.calls.append([call.function.name, json.loads(call.function.arguments)])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": RESULT})
    answer.text = message.content


def openai_parse(job, answer):
    done = openai_client(job).chat.completions.parse(model=job["model"], messages=MESSAGES, response_format=River)
    answer.text = str(done.choices[0].message.parsed)
    answer.count(done.usage.prompt_tokens, done.usage.completion_tokens)


def openai_responses(job, answer):
    done = openai_client(job).responses.create(model=job["model"], input=QUESTION)
    answer.text = done.output_text
    answer.count(done.usage.input_tokens, done.usage.output_tokens)


def openai_responses_tools(job, answer):
    client, items = openai_client(job), list(MESSAGES)
    for _ in range(2):
        with client.responses.stream(model=job["model"], input=items, tools=RESPONSES_TOOLS) as stream:
            for _ in stream:
                pass
            done = stream.get_final_response()
        answer.count(done.usage.input_tokens, done.usage.output_tokens)
        for call in (item for item in done.output if item.type == "function_call"):
            answer.calls.append([call.name, json.loads(call.arguments)])
            items += [call.model_dump(exclude={"parsed_arguments"}, exclude_none=True)]
            items += [{"type": "function_call_output", "call_id": call.call_id, "output": RESULT}]
    answer.text = done.output_text


# The SDK of Anthropic.


def anthropic_client(job):
    return anthropic.Anthropic(base_url=job["url"], api_key=job["key"], max_retries=0, timeout=30)


def anthropic_messages(job, answer):
    done = anthropic_client(job).messages.create(model=job["model"], max_tokens=99, messages=MESSAGES)
    answer.text = done.content[0].text
    answer.count(done.usage.input_tokens, done.usage.output_tokens)


def anthropic_stream(job, answer):
    with anthropic_client(job).messages.stream(model=job["model"], max_tokens=99, messages=MESSAGES) as stream:
        answer.text = "".join(stream.text_stream)
        usage = stream.get_final_message().usage
        answer.count(usage.input_tokens, usage.output_tokens)


def anthropic_tools(job, answer):
    client, messages = anthropic_client(job), list(MESSAGES)
    for _ in range(2):
        with client.messages.stream(model=job["model"], max_tokens=99, messages=messages, tools=MESSAGES_TOOLS) as stream:
            done = stream.get_final_message()
        answer.count(done.usage.input_tokens, done.usage.output_tokens)
        calls = [block for block in done.content if block.type == "tool_use"]
        answer.calls += [[call.name, call.input] for call in calls]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULT} for call in calls]
        messages += [{"role": "assistant", "content": done.content}, {"role": "user", "content": results}]
    answer.text = done.content[0].text


def anthropic_count(job, answer):
    done = anthropic_client(job).messages.count_tokens(model=job["model"], messages=MESSAGES)
    answer.text = str(done.input_tokens)


# LangChain. Its messages are the same for all services.


def measure(river: str) -> str:
    """Measures a river."""
    return RESULT


def langchain_openai(job, **options):
    return ChatOpenAI(model=job["model"], base_url=f"{job['url']}/v1", api_key=job["key"], max_retries=0, timeout=30, **options)


def langchain_anthropic(job):
    return ChatAnthropic(model_name=job["model"], base_url=job["url"], api_key=job["key"], max_retries=0, timeout=30)


def take(answer, message):
    answer.text = message.text
    answer.calls += [[call["name"], call["args"]] for call in message.tool_calls]
    if message.usage_metadata:
        answer.count(message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"])


def streamed(chat, messages):
    """All chunks as one message."""
    chunks = iter(chat.stream(messages))
    whole = next(chunks)
    for chunk in chunks:
        whole += chunk
    return whole


def langchain(chat, answer):
    take(answer, chat.invoke(QUESTION))


def langchain_stream(chat, answer):
    take(answer, streamed(chat, QUESTION))


def langchain_tools(chat, answer):
    bound, messages = chat.bind_tools([measure]), [HumanMessage(QUESTION)]
    for _ in range(2):
        message = streamed(bound, messages)
        take(answer, message)
        messages.append(message)
        messages += [ToolMessage(RESULT, tool_call_id=call["id"]) for call in message.tool_calls]


def langchain_structured(chat, answer):
    found = chat.with_structured_output(River, method="json_schema", include_raw=True).invoke(QUESTION)
    take(answer, found["raw"])
    answer.text = str(found["parsed"])


# LiteLLM as a client. It takes seconds to import, so that it is only where it is asked for.


def litellm_options(job, provider):
    import litellm

    litellm.suppress_debug_info = True
    base = f"{job['url']}/v1" if provider == "openai" else job["url"]
    return {"model": f"{provider}/{job['model']}", "api_base": base, "api_key": job["key"], "num_retries": 0, "timeout": 30}


def litellm_chat(job, answer, provider):
    import litellm

    done = litellm.completion(messages=MESSAGES, **litellm_options(job, provider))
    answer.text = done.choices[0].message.content
    answer.count(done.usage.prompt_tokens, done.usage.completion_tokens)


def litellm_stream(job, answer, provider):
    import litellm

    options = litellm_options(job, provider)
    for chunk in litellm.completion(messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **options):
        answer.text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        if usage := getattr(chunk, "usage", None):
            answer.count(usage.prompt_tokens, usage.completion_tokens)


def litellm_tools(job, answer, provider):
    import litellm

    messages = list(MESSAGES)
    for _ in range(2):
        done = litellm.completion(messages=messages, tools=CHAT_TOOLS, **litellm_options(job, provider))
        answer.count(done.usage.prompt_tokens, done.usage.completion_tokens)
        message = done.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or []:
            answer.calls.append([call.function.name, json.loads(call.function.arguments)])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": RESULT})
    answer.text = message.content


CLIENTS = {
    "openai-python chat": openai_chat,
    "openai-python chat, streamed": openai_stream,
    "openai-python chat, streamed, usage unasked": openai_stream_unasked,
    "openai-python chat, tools": openai_tools,
    "openai-python chat.parse": openai_parse,
    "openai-python responses": openai_responses,
    "openai-python responses.stream, tools": openai_responses_tools,
    "anthropic-python messages": anthropic_messages,
    "anthropic-python messages.stream": anthropic_stream,
    "anthropic-python messages.stream, tools": anthropic_tools,
    "anthropic-python count_tokens": anthropic_count,
    "langchain-python openai": lambda job, answer: langchain(langchain_openai(job), answer),
    "langchain-python openai, streamed": lambda job, answer: langchain_stream(langchain_openai(job, stream_usage=True), answer),
    "langchain-python openai, tools": lambda job, answer: langchain_tools(langchain_openai(job, stream_usage=True), answer),
    "langchain-python openai, structured": lambda job, answer: langchain_structured(langchain_openai(job), answer),
    "langchain-python openai responses, tools": lambda job, answer: langchain_tools(
        langchain_openai(job, use_responses_api=True), answer
    ),
    "langchain-python anthropic": lambda job, answer: langchain(langchain_anthropic(job), answer),
    "langchain-python anthropic, streamed": lambda job, answer: langchain_stream(langchain_anthropic(job), answer),
    "langchain-python anthropic, tools": lambda job, answer: langchain_tools(langchain_anthropic(job), answer),
    **endpoints.CLIENTS,
    "litellm openai": lambda job, answer: litellm_chat(job, answer, "openai"),
    "litellm openai, streamed": lambda job, answer: litellm_stream(job, answer, "openai"),
    "litellm openai, tools": lambda job, answer: litellm_tools(job, answer, "openai"),
    "litellm anthropic": lambda job, answer: litellm_chat(job, answer, "anthropic"),
    "litellm anthropic, streamed": lambda job, answer: litellm_stream(job, answer, "anthropic"),
    "litellm anthropic, tools": lambda job, answer: litellm_tools(job, answer, "anthropic"),
}


def run(job):
    answer, raised = Answer(), None
    try:
        CLIENTS[job["client"]](job, answer)
    except Exception as error:  # noqa: BLE001: any exception is what an application would see
        raised = f"{type(error).__name__}: {error}"[:300]
    return {**job, **vars(answer), "raised": raised}


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print(json.dumps(list(CLIENTS)))
        sys.exit()
    for each in json.load(sys.stdin):
        print(json.dumps(run(each)), flush=True)
