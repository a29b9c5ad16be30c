"""Sends requests by openai-python or LiteLLM, the argument, until stdin is closed.

A line of stdout for each: {"id", "error" (null if there was none), "events" (of a stream)}. UNSTEADY_URL is the proxy's.
"""

import itertools
import json
import os
import sys
import threading

MODEL = "sim:events=4,delay=40ms..120ms,pace=5ms"
THREADS = 3
# The longest silence of a response, which is longer than a member is stopped, in seconds.
TIMEOUT = 60

BASE = os.environ["UNSTEADY_URL"] + "/v1"


def openai_ask():
    import openai

    client = openai.OpenAI(base_url=BASE, api_key="unused", max_retries=0, timeout=TIMEOUT)

    def ask(id, stream, messages):
        return client.chat.completions.create(model=MODEL, messages=messages, stream=stream, user=id, extra_headers={"x-simulate-id": id})

    return ask


def litellm_ask():
    import litellm

    litellm.suppress_debug_info = True
    options = {"model": f"openai/{MODEL}", "api_base": BASE, "api_key": "unused", "num_retries": 0, "max_retries": 0, "timeout": TIMEOUT}

    def ask(id, stream, messages):
        # LiteLLM drops `user` for models that it does not know.
        more = {"extra_headers": {"x-simulate-id": id}, "extra_body": {"user": id}}
        return litellm.completion(messages=messages, stream=stream, **more, **options)

    return ask


def complete(ask, id, stream, result):
    """Sends one request, and reads its response to the end."""
    done = ask(id, stream, [{"role": "user", "content": f"Request {id}."}])
    if not stream:
        assert done.choices[0].finish_reason == "stop", done
        return
    reason = None
    for chunk in done:
        result["events"] += 1
        reason = (chunk.choices[0].finish_reason if chunk.choices else None) or reason
    assert reason == "stop", reason


def main():
    name = sys.argv[1]
    ask = {"openai": openai_ask, "litellm": litellm_ask}[name]()
    ended, line = threading.Event(), threading.Lock()

    def work(thread):
        for number in itertools.count():
            if ended.is_set():
                return
            result = {"id": f"{name}-{thread}-{number}", "error": None, "events": 0}
            try:
                complete(ask, result["id"], number % 2 == 1, result)
            except Exception as error:  # noqa: BLE001: any exception is what an application would see
                result["error"] = f"{type(error).__name__}: {error}"[:300]
            with line:
                print(json.dumps(result), flush=True)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
