"""An upstream that sends the beginning of a recorded stream and then closes its connection.

The request's header `x-cut` has the number of bytes; `x-cut: whole` sends all of it and ends the response properly.
The path names the recording.
"""

import http.server
import json
import pathlib
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
STREAMS = ROOT.parent / "shared" / "corpus" / "streams"

# The recording for the end of a path, and the terminal event of its stream: the cuts lie before that event.
RECORDINGS = {
    "/chat/completions": (
        "openai.chat-completions.fantasy.TestOpenAICommon-openai-gpt-4o-mini-tool-streaming.1.f2062583.sse",
        b"data: [DONE]",
    ),
    "/responses": (
        "openai.responses.openllmetry.test-responses-streaming-async-with-parent-span.1.8ef1cbac.sse",
        b"event: response.completed",
    ),
    "/messages": (
        "anthropic.messages.openllmetry.test-anthropic-prompt-caching-stream-legacy.0.6eecb6f5.sse",
        b"event: message_stop",
    ),
}


def recording(path):
    """The recorded stream for a request's path, and the position of its terminal event."""
    name, terminal = next(value for end, value in RECORDINGS.items() if path.endswith(end))
    stream = (STREAMS / name).read_bytes()
    return stream, stream.index(terminal)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        stream, _ = recording(self.path.split("?")[0])
        cut = self.headers["x-cut"]
        sent = stream if cut == "whole" else stream[: int(cut)]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        # Pieces of several sizes, so that the cut is at the beginning, in the middle and at the end of a chunk.
        for start in range(0, len(sent), 700):
            piece = sent[start : start + 700]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if cut == "whole":
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_):
        pass


def start():
    """Serves on a free port, from a thread that ends with the process; returns the port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def cuts(path, count):
    """`count` places before the terminal event: the first byte, event boundaries, and places within lines."""
    stream, end = recording(path)
    boundaries = [at + 2 for at in range(end) if stream[at : at + 2] == b"\n\n" and at + 2 < end]
    chosen = {0, 1, end - 1, boundaries[0], boundaries[-1], boundaries[0] - 1}
    step = end / (count - len(chosen))
    place = 0
    while len(chosen) < count:
        place += step / 3
        chosen.add(int(place * 7919) % end)
    return sorted(chosen)


if __name__ == "__main__":
    print(json.dumps({path: cuts(path, 20) for path in RECORDINGS}))
