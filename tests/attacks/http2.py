"""HTTP/2 with prior knowledge: fields that must not be translated to HTTP/1.1, and floods. The proxy keeps serving, in bounded memory."""

import asyncio
import pathlib
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4

# The resident memory that the floods may add, in MB.
MEMORY = 64

# The time limit of a flood that the proxy does not end, in seconds.
FLOOD = 2

BODY = b'{"model":"sim:events=1","messages":[]}'
USUAL = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/v1/chat/completions"), (b":authority", b"127.0.0.1"), (b"content-type", b"application/json")]

# Fields beside the usual ones, or instead of them. None of these requests may be forwarded.
MALFORMED = {
    "transfer-encoding": USUAL + [(b"transfer-encoding", b"chunked")],
    "connection": USUAL + [(b"connection", b"close")],
    "keep-alive": USUAL + [(b"keep-alive", b"1")],
    "proxy-connection": USUAL + [(b"proxy-connection", b"close")],
    "upgrade": USUAL + [(b"upgrade", b"h2c")],
    "te that is not trailers": USUAL + [(b"te", b"gzip")],
    "an upper-case name": USUAL + [(b"X-Up", b"y")],
    "a line break in a value": USUAL + [(b"x", b"a\r\nx-injected: y")],
    "a line feed in a value": USUAL + [(b"x", b"a\ny")],
    "a NUL in a value": USUAL + [(b"x", b"a\x00y")],
    "a line break in a name": USUAL + [(b"x\r\nx-injected", b"y")],
    "a colon in a name": USUAL + [(b"x:y", b"z")],
    "a blank in a name": USUAL + [(b"x y", b"z")],
    "a line break in the path": [(b":path", b"/v1/x HTTP/1.1\r\nx: y") if name == b":path" else (name, value) for name, value in USUAL],
    "a blank in the path": [(b":path", b"/v1/x y") if name == b":path" else (name, value) for name, value in USUAL],
    "no path": [field for field in USUAL if field[0] != b":path"],
    "an empty path": [(name, b"" if name == b":path" else value) for name, value in USUAL],
    "no method": [field for field in USUAL if field[0] != b":method"],
    "no scheme": [field for field in USUAL if field[0] != b":scheme"],
    "a line break in the method": [(name, b"GET /x HTTP/1.1\r\n\r\nPOST" if name == b":method" else value) for name, value in USUAL],
    "two paths": USUAL + [(b":path", b"/v1/models")],
    "a pseudo-header behind a field": USUAL + [(b":path", b"/x")],
    "an unknown pseudo-header": [(b":x", b"y")] + USUAL,
    "a response's pseudo-header": [(b":status", b"200")] + USUAL,
    "two lengths": USUAL + [(b"content-length", b"%d" % len(BODY)), (b"content-length", b"1")],
    "a length that is too small": USUAL + [(b"content-length", b"1")],
    "a length that is too large": USUAL + [(b"content-length", b"9999")],
    "a length that is no number": USUAL + [(b"content-length", b"+%d" % len(BODY))],
    "another host": USUAL + [(b"host", b"evil.example")],
}  # fmt: skip


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(fields):
    """Fields without indexing and without Huffman coding (RFC 7541, section 6.2.2), names and values below 127 bytes."""
    return b"".join(b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


def request(fields, stream=1):
    return frame(HEADERS, END_HEADERS, stream, block(fields)) + frame(DATA, END_STREAM, stream, BODY)


FLOODS = {
    "rapid reset": lambda n: b"".join(request(USUAL, 2 * i + 1) + frame(RST_STREAM, 0, 2 * i + 1, bytes(4)) for i in range(n * 100, n * 100 + 100)),
    "made you reset": lambda n: b"".join(request(USUAL, 2 * i + 1) + frame(WINDOW_UPDATE, 0, 2 * i + 1, bytes(4)) for i in range(n * 100, n * 100 + 100)),
    "pings": lambda n: frame(PING, 0, 0, bytes(8)) * 500,
    "settings": lambda n: frame(SETTINGS, 0, 0) * 500,
    "priorities": lambda n: frame(PRIORITY, 0, 1, bytes(5)) * 500,
    "empty data": lambda n: (frame(HEADERS, END_HEADERS, 1, block(USUAL)) if n == 0 else b"") + frame(DATA, 0, 1) * 500,
    "continuations": lambda n: (frame(HEADERS, 0, 1, block(USUAL)) if n == 0 else b"") + frame(CONTINUATION, 0, 1, b"\x00\x01x\x7e" + b"y" * 126) * 200,
    "window updates": lambda n: frame(WINDOW_UPDATE, 0, 0, b"\x00\x00\x00\x01") * 500,
    "unknown frames": lambda n: frame(0xFE, 0, 0, bytes(100)) * 500,
    "streams that never end": lambda n: b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, block(USUAL)) for i in range(n * 100, n * 100 + 100)),
}  # fmt: skip


async def connect(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE + frame(SETTINGS, 0, 0))
    return reader, writer


async def status(port, fields):
    """The status of the response, "reset", "goaway" or "closed"."""
    reader, writer = await connect(port)
    writer.write(request(fields))
    try:
        while True:
            head = await asyncio.wait_for(reader.readexactly(9), 10)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == SETTINGS and not head[4] & 1:
                writer.write(frame(SETTINGS, 1, 0))
            elif head[3] == HEADERS:
                # Statuses of the static table (RFC 7541, appendix A), or a literal.
                indexed = {0x88: 200, 0x8C: 400, 0x8D: 404, 0x8E: 500}
                return indexed.get(payload[0]) or int(bytes(payload[2:5]) if payload[1] == 3 else huffman(payload))
            elif head[3] == RST_STREAM:
                return "reset"
            elif head[3] == GOAWAY:
                return "goaway"
    except (asyncio.IncompleteReadError, ConnectionError):
        return "closed"
    finally:
        writer.close()


def huffman(payload):
    """Three digits in Huffman coding: 0, 1, 2 have five bits, the others six (RFC 7541, appendix B)."""
    bits = "".join(f"{byte:08b}" for byte in payload[2 : 2 + (payload[1] & 0x7F)])
    codes = {f"{n:05b}": str(n) for n in range(3)} | {f"{0x19 + n - 3:06b}": str(n) for n in range(3, 10)}
    digits = ""
    while len(digits) < 3:
        code = next(code for code in codes if bits.startswith(code))
        digits, bits = digits + codes[code], bits[len(code) :]
    return digits


async def flood(port, make):
    """Sends until the proxy ends the connection or `FLOOD` is over; reads only what is necessary."""
    reader, writer = await connect(port)
    loop = asyncio.get_running_loop()
    end, number = loop.time() + FLOOD, 0
    try:
        while loop.time() < end:
            writer.write(make(number))
            number += 1
            await asyncio.wait_for(writer.drain(), 0.5)
            await asyncio.sleep(0)
    except (TimeoutError, asyncio.TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()


def memory(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


async def attack(port, pid):
    """The number of attacks, and the list of faults."""
    wrong = []
    if (found := await status(port, USUAL)) != 200:
        wrong.append(f"a usual request gets {found}")
    for name, fields in MALFORMED.items():
        if (found := await status(port, fields)) not in (400, 403, 404, 405, "reset", "goaway", "closed"):
            wrong.append(f"{name}: {found}")
    before = memory(pid)
    for name, make in FLOODS.items():
        floods = [asyncio.create_task(flood(port, make)) for _ in range(4)]
        # Other clients are served meanwhile.
        if (found := await asyncio.wait_for(status(port, USUAL), 20)) != 200:
            wrong.append(f"during {name}: {found}")
        await asyncio.gather(*floods)
        if (grown := memory(pid) - before) > MEMORY:
            wrong.append(f"after {name}: {grown:.0f} MB more")
    return len(MALFORMED) + len(FLOODS), wrong
