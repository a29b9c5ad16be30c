"""The clients of the soak, in a process of their own: many slow streams, or HTTP/2 streams that get no window.

Prints one JSON object a line for each phase. `load.py streams PORT COUNT SECONDS` or `load.py stalled PORT CONNECTIONS STREAMS SECONDS`.
"""

import asyncio
import json
import struct
import sys
import time

BODY = b'{"model":"sim:events=%d,pace=2s","stream":true,"messages":[{"role":"user","content":"hi"}]}'
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Frame types and settings of RFC 9113.
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
INITIAL_WINDOW_SIZE = 4


def say(**members):
    print(json.dumps(members), flush=True)


async def stream(port, body, begun):
    """Reads one stream to its end; true if it was complete."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
    try:
        status = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
        await reader.readuntil(b"data: ")
        begun()
        rest = await reader.readuntil(b"0\r\n\r\n")
        return status == b"200" and b"[DONE]" in rest
    finally:
        writer.close()


async def streams(port, count, seconds):
    body = BODY % max(seconds // 2, 2)
    running, all_run, started = 0, asyncio.Event(), time.monotonic()

    def begun():
        nonlocal running
        running += 1
        if running == count:
            all_run.set()

    tasks = []
    for _ in range(count):
        tasks.append(asyncio.create_task(stream(port, body, begun)))
        # At most a thousand at a time, so that the listening queue has room for them.
        if len(tasks) % 500 == 0:
            while running < len(tasks) - 500 and not any(task.done() and task.exception() for task in tasks):
                await asyncio.sleep(0.01)
    await all_run.wait()
    say(running=running, after_s=round(time.monotonic() - started, 1))
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    say(whole=sum(each is True for each in ended), of=count)


def frame(kind, flags, stream_id, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream_id) + payload


def literal(name, value):
    """A header field without indexing and without Huffman coding (RFC 7541, section 6.2.2), both shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def stalled(port, connections, streams_each, seconds):
    """Streams whose windows stay at zero, on connections that continue to read; returns the times until the proxy reset each."""
    body = BODY % 1000
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/v1/chat/completions"), (b":authority", b"127.0.0.1:%d" % port),
              (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    block = b"".join(literal(*field) for field in fields)
    resets, times, statuses = 0, [], 0

    async def connection():
        nonlocal resets, statuses
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)))
        for index in range(streams_each):
            stream_id = 2 * index + 1
            writer.write(frame(HEADERS, 4, stream_id, block) + frame(DATA, 1, stream_id, body))
        opened, left = time.monotonic(), streams_each
        while left:
            header = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(header[:3], "big"))
            kind, flags = header[3], header[4]
            if kind == SETTINGS and not flags & 1:
                writer.write(frame(SETTINGS, 1, 0))
            elif kind == HEADERS:
                statuses += 1
            elif kind == RST_STREAM:
                left -= 1
                resets += 1
                times.append(time.monotonic() - opened)
            elif kind == GOAWAY and payload[4:8] != bytes(4):
                raise ConnectionError(f"GOAWAY {payload!r}")

    await asyncio.wait([asyncio.create_task(connection()) for _ in range(connections)], timeout=seconds)
    say(resets=resets, of=connections * streams_each, heads=statuses, last_after_s=round(max(times, default=-1), 1))


if __name__ == "__main__":
    kind, *numbers = sys.argv[1:]
    asyncio.run({"streams": streams, "stalled": stalled}[kind](*map(int, numbers)))
