"""LangChain: one function for each way to ask. Its messages are the same for all services."""

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from question import QUESTION, RESULT, River


def measure(river: str) -> str:
    """Measures a river."""
    return RESULT


def langchain_openai(job, **options):
    return ChatOpenAI(model=job["model"], base_url=f"{job['url']}/v1", api_key=job["key"], max_retries=0, timeout=30, **options)


def langchain_anthropic(job):
    return ChatAnthropic(model_name=job["model"], base_url=job["url"], api_key=job["key"], max_retries=0, timeout=30)


def take(outcome, message):
    outcome.text = message.text
    outcome.calls += [[call["name"], call["args"]] for call in message.tool_calls]
    if message.usage_metadata:
        outcome.count(message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"])


def streamed(chat, messages):
    """All chunks as one message."""
    chunks = iter(chat.stream(messages))
    whole = next(chunks)
    for chunk in chunks:
        whole += chunk
    return whole


def langchain(chat, outcome):
    take(outcome, chat.invoke(QUESTION))


def langchain_stream(chat, outcome):
    take(outcome, streamed(chat, QUESTION))


def langchain_tools(chat, outcome):
    bound, messages = chat.bind_tools([measure]), [HumanMessage(QUESTION)]
    for _ in range(2):
        message = streamed(bound, messages)
        take(outcome, message)
        messages.append(message)
        messages += [ToolMessage(RESULT, tool_call_id=call["id"]) for call in message.tool_calls]


def langchain_structured(chat, outcome):
    found = chat.with_structured_output(River, method="json_schema", include_raw=True).invoke(QUESTION)
    take(outcome, found["raw"])
    outcome.text = str(found["parsed"])


CLIENTS = {
    "langchain-python openai": lambda job, outcome: langchain(langchain_openai(job), outcome),
    "langchain-python openai, streamed": lambda job, outcome: langchain_stream(langchain_openai(job, stream_usage=True), outcome),
    "langchain-python openai, tools": lambda job, outcome: langchain_tools(langchain_openai(job, stream_usage=True), outcome),
    "langchain-python openai, structured": lambda job, outcome: langchain_structured(langchain_openai(job), outcome),
    "langchain-python openai responses, tools": lambda job, outcome: langchain_tools(
        langchain_openai(job, use_responses_api=True), outcome
    ),
    "langchain-python anthropic": lambda job, outcome: langchain(langchain_anthropic(job), outcome),
    "langchain-python anthropic, streamed": lambda job, outcome: langchain_stream(langchain_anthropic(job), outcome),
    "langchain-python anthropic, tools": lambda job, outcome: langchain_tools(langchain_anthropic(job), outcome),
}
