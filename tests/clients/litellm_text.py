"""LiteLLM as a client: one function for each way to ask."""

import json

import litellm
from question import CHAT_TOOLS, MESSAGES, RESULT

# Without this, LiteLLM prints advice on stdout.
litellm.suppress_debug_info = True


def litellm_options(job, provider):
    base = f"{job['url']}/v1" if provider == "openai" else job["url"]
    return {"model": f"{provider}/{job['model']}", "api_base": base, "api_key": job["key"], "num_retries": 0, "timeout": 30}


def litellm_chat(job, outcome, provider):
    done = litellm.completion(messages=MESSAGES, **litellm_options(job, provider))
    outcome.text = done.choices[0].message.content
    outcome.count(done.usage.prompt_tokens, done.usage.completion_tokens)


def litellm_stream(job, outcome, provider):
    options = litellm_options(job, provider)
    for chunk in litellm.completion(messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **options):
        outcome.text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        if usage := getattr(chunk, "usage", None):
            outcome.count(usage.prompt_tokens, usage.completion_tokens)


def litellm_tools(job, outcome, provider):
    messages = list(MESSAGES)
    for _ in range(2):
        done = litellm.completion(messages=messages, tools=CHAT_TOOLS, **litellm_options(job, provider))
        outcome.count(done.usage.prompt_tokens, done.usage.completion_tokens)
        message = done.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or []:
            outcome.calls.append([call.function.name, json.loads(call.function.arguments)])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": RESULT})
    outcome.text = message.content


CLIENTS = {
    "litellm openai": lambda job, outcome: litellm_chat(job, outcome, "openai"),
    "litellm openai, streamed": lambda job, outcome: litellm_stream(job, outcome, "openai"),
    "litellm openai, tools": lambda job, outcome: litellm_tools(job, outcome, "openai"),
    "litellm anthropic": lambda job, outcome: litellm_chat(job, outcome, "anthropic"),
    "litellm anthropic, streamed": lambda job, outcome: litellm_stream(job, outcome, "anthropic"),
    "litellm anthropic, tools": lambda job, outcome: litellm_tools(job, outcome, "anthropic"),
}
