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


CLIENTS = {
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
}
