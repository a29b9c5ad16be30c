"""OpenAI's SDK at the endpoints beside those for text: one function for each, as in ask.py."""

import base64
import io
import time

import openai
from question import QUESTION

# The time limit of a response in the background, in seconds.
PATIENCE = 20


def client_of(job):
    return openai.OpenAI(base_url=f"{job['url']}/v1", api_key=job["key"], max_retries=0, timeout=30)


def sound():
    return ("sound.wav", io.BytesIO(b"RIFF" + bytes(40_000)))


def picture():
    return ("river.png", io.BytesIO(b"\x89PNG\r\n\x1a\n" + bytes(5_000)))


def moderations(job, outcome):
    done = client_of(job).moderations.create(model=job["model"], input=["one", "two"])
    outcome.text = str([result.flagged for result in done.results])


def images(job, outcome):
    done = client_of(job).images.generate(model=job["model"], prompt=QUESTION, n=2)
    outcome.text = f"{len(done.data)} {base64.b64decode(done.data[0].b64_json)[:4]}"
    outcome.count(done.usage.input_tokens, done.usage.output_tokens)


def images_streamed(job, outcome):
    for event in client_of(job).images.generate(model=job["model"], prompt=QUESTION, stream=True, partial_images=2):
        outcome.text += f"{event.type} "
        if event.type == "image_generation.completed":
            outcome.count(event.usage.input_tokens, event.usage.output_tokens)


def edits(job, outcome):
    done = client_of(job).images.edit(model=job["model"], image=picture(), prompt=QUESTION)
    outcome.text = str(len(done.data))
    outcome.count(done.usage.input_tokens, done.usage.output_tokens)


def speech(job, outcome):
    options = {"model": job["model"], "voice": "alloy", "input": QUESTION, "response_format": "wav"}
    with client_of(job).audio.speech.with_streaming_response.create(**options) as response:
        file = response.read()
    outcome.text = f"{file[:4]} {len(file)} bytes"


def transcription(job, outcome):
    done = client_of(job).audio.transcriptions.create(model=job["model"], file=sound())
    outcome.text = done.text
    outcome.count(done.usage.input_tokens, done.usage.output_tokens)


def transcription_streamed(job, outcome):
    for event in client_of(job).audio.transcriptions.create(model=job["model"], file=sound(), stream=True):
        if event.type == "transcript.text.delta":
            outcome.text += event.delta
        elif event.type == "transcript.text.done":
            outcome.count(event.usage.input_tokens, event.usage.output_tokens)


def transcription_srt(job, outcome):
    outcome.text = client_of(job).audio.transcriptions.create(model=job["model"], file=sound(), response_format="srt")


def files(job, outcome):
    client = client_of(job)
    file = client.files.create(file=("lines.jsonl", b"a line\n"), purpose="batch")
    content = client.files.content(file.id).read()
    found = client.files.retrieve(file.id).filename, file.id in [each.id for each in client.files.list()]
    deleted = client.files.delete(file.id).deleted
    outcome.text = f"{content} {found} {deleted} {file.id in [each.id for each in client.files.list()]}"


def stored(job, outcome):
    """Looking at a response again adds nothing."""
    client = client_of(job)
    done = client.responses.create(model=job["model"], input=QUESTION)
    again = client.responses.retrieve(done.id)
    items = client.responses.input_items.list(done.id)
    outcome.text = f"{again.output_text} {[item.content[0].text for item in items]}"
    outcome.count(done.usage.input_tokens, done.usage.output_tokens)
    client.responses.delete(done.id)


def background(job, outcome):
    """Counted once, at the first look that has the usage."""
    client = client_of(job)
    done = client.responses.create(model=job["model"], input=QUESTION, background=True)
    end = time.monotonic() + PATIENCE
    while done.status in ("queued", "in_progress") and time.monotonic() < end:
        done = client.responses.retrieve(done.id)
    outcome.text = client.responses.retrieve(done.id).output_text
    outcome.count(done.usage.input_tokens, done.usage.output_tokens)


def realtime(job, outcome):
    with client_of(job).realtime.connect(model=job["model"]) as session:
        content = [{"type": "input_text", "text": QUESTION}]
        session.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        session.response.create()
        for event in session:
            if event.type == "response.output_text.delta":
                outcome.text += event.delta
            elif event.type == "response.done":
                outcome.count(event.response.usage.input_tokens, event.response.usage.output_tokens)
                break


CLIENTS = {
    "openai-python moderations": moderations,
    "openai-python images": images,
    "openai-python images, streamed": images_streamed,
    "openai-python images.edit": edits,
    "openai-python speech": speech,
    "openai-python transcriptions": transcription,
    "openai-python transcriptions, streamed": transcription_streamed,
    "openai-python transcriptions, srt": transcription_srt,
    "openai-python files": files,
    "openai-python responses, stored": stored,
    "openai-python responses, background": background,
    "openai-python realtime": realtime,
}
