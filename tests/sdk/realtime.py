#!/usr/bin/env python3
"""A realtime service for the SDK checks: sessions over WebSocket, as OpenAI and Azure have them, with a tally of its own.

It repeats the question word by word, followed by a sentence. One delta comes in fragments with a ping among them, and
continues only after the client's pong. GET /simulator/tally returns the reported usage, like the simulator's.
"""

import argparse
import collections
import http
import json
import threading
import urllib.parse

import websockets.sync.server
from websockets.exceptions import ConnectionClosed

SENTENCE = (
    "A stream gauge measures a river without ever holding any of it back, "
    "and knows afterwards exactly how much of the water went by."
)

# The longest wait for a pong.
PATIENCE = 20

# Path: the parameter that names the model, the name of the event that brings text, and the header and the prefix of the key.
FORMS = {
    "/v1/realtime": ("model", "response.output_text.delta", "authorization", "Bearer "),
    "/openai/v1/realtime": ("model", "response.output_text.delta", "api-key", ""),
    "/openai/realtime": ("deployment", "response.text.delta", "api-key", ""),
}

COUNTED = (
    "requests", "streams_cancelled", "responses_with_usage", "input_tokens", "output_tokens", "total_tokens",
    "cached_input_tokens", "input_audio_tokens", "output_audio_tokens",
)
TALLY = collections.Counter(dict.fromkeys(COUNTED, 0))
LOCK = threading.Lock()


def count(**more):
    with LOCK:
        TALLY.update(more)


def target_of(request):
    url = urllib.parse.urlsplit(request.path)
    return url.path, dict(urllib.parse.parse_qsl(url.query))


def admit(connection, request, key):
    """The response that refuses a session."""
    path, query = target_of(request)
    if path == "/simulator/tally":
        with LOCK:
            return connection.respond(http.HTTPStatus.OK, json.dumps(TALLY))
    if path not in FORMS:
        return connection.respond(http.HTTPStatus.NOT_FOUND, f"no such path: {path}\n")
    parameter, _, header, prefix = FORMS[path]
    keys = [(name, request.headers[name]) for name in ("authorization", "api-key") if name in request.headers]
    if keys != [(header, prefix + key)]:
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "not the key, or not alone\n")
    if parameter not in query:
        return connection.respond(http.HTTPStatus.BAD_REQUEST, f"no {parameter}\n")
    return None


def fragments(socket, message):
    """A message in three frames. The client must have sent its pong before the last is sent."""
    third = len(message) // 3
    yield message[:third]
    pong = socket.ping(b"are you there")
    yield message[third : 2 * third]
    if not pong.wait(PATIENCE):
        raise TimeoutError("no pong")
    yield message[2 * third :]


def usage_of(question, words, number):
    """Other numbers in each response, so that they cannot be confused."""
    asked, cached, heard, spoken = len(question.split()), number, 10 + number, 2 * number
    return {
        "total_tokens": asked + heard + words + spoken,
        "input_tokens": asked + heard,
        "output_tokens": words + spoken,
        "input_token_details": {
            "text_tokens": asked,
            "audio_tokens": heard,
            "image_tokens": 0,
            "cached_tokens": cached,
            "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": words, "audio_tokens": spoken},
    }


def respond(socket, delta_event, question, number):
    response = {"object": "realtime.response", "id": f"resp_{number}", "status": "in_progress", "output": [], "usage": None}
    socket.send(json.dumps({"type": "response.created", "event_id": "event_c", "response": response}))
    words = f"{question} {SENTENCE}".split(" ")
    for at, word in enumerate(words):
        place = {"response_id": response["id"], "item_id": "item_1", "output_index": 0, "content_index": 0}
        event = {"type": delta_event, "event_id": f"event_{at}", **place, "delta": word if at == 0 else f" {word}"}
        message = json.dumps(event)
        socket.send(fragments(socket, message) if at == 3 else message)
    usage = usage_of(question, len(words), number)
    done = {**response, "status": "completed", "usage": usage}
    # The usage must be counted before the client may have read it.
    count(
        responses_with_usage=number == 1,
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        total_tokens=usage["total_tokens"],
        cached_input_tokens=usage["input_token_details"]["cached_tokens"],
        input_audio_tokens=usage["input_token_details"]["audio_tokens"],
        output_audio_tokens=usage["output_token_details"]["audio_tokens"],
    )
    # The event with the usage comes in fragments too.
    socket.send(fragments(socket, json.dumps({"type": "response.done", "event_id": "event_d", "response": done})))


def session(socket):
    path, query = target_of(socket.request)
    parameter, delta_event, _, _ = FORMS[path]
    count(requests=1)
    about = {"type": "realtime", "object": "realtime.session", "id": "sess_1", "model": query[parameter]}
    socket.send(json.dumps({"type": "session.created", "event_id": "event_s", "session": about}))
    question, number = "", 0
    try:
        for message in socket:
            event = json.loads(message)
            if event["type"] == "conversation.item.create":
                question = event["item"]["content"][0]["text"]
            elif event["type"] == "response.create":
                number += 1
                respond(socket, delta_event, question, number)
            else:
                raise ValueError(f"an event that no check sends: {event}")
    except ConnectionClosed:
        # Ends without a closing handshake.
        count(streams_cancelled=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-key", required=True)
    arguments = parser.parse_args()

    def process_request(connection, request):
        return admit(connection, request, arguments.api_key)

    with websockets.sync.server.serve(
        session, "127.0.0.1", arguments.port, process_request=process_request
    ) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
