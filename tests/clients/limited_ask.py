"""Sends one request by openai-python with its own retries. Prints {"status", "code", "seconds"} of the error that it raises."""

import json
import os
import time

import openai

client = openai.OpenAI(base_url=os.environ["LIMITED_URL"] + "/v1", api_key=os.environ.get("LIMITED_KEY", "unused"), max_retries=2, timeout=60)
begun = time.monotonic()
try:
    client.chat.completions.create(model=os.environ["LIMITED_MODEL"], messages=[{"role": "user", "content": "Go."}])
    result = {"status": 200, "code": None}
except openai.APIStatusError as error:
    result = {"status": error.status_code, "code": error.code}
print(json.dumps({**result, "seconds": round(time.monotonic() - begun, 2)}))
