"""Responses that break HTTP, from an upstream of our own. Each has a token of its request.

No client may read another request's token, or see an incomplete response as complete. The next request is served.
"""

import asyncio
import itertools
import pathlib
import re
import tempfile

BODY = b'{"object":"chat.completion","choices":[],"token":"%s"}'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"

# The time limit of one exchange, in seconds; beyond it the proxy hangs.
PATIENCE = 15
PARALLEL = 32

STATUS_LINES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.1  200 OK", b"HTTP/1.1 200 OK\x00", b"HTTP/1.1 99 X", b"HTTP/1.1 1000 X", b"HTTP/1.1 2x0 OK",
    b"HTTP/1.1 -200 OK", b"HTTP/1.2 200 OK", b"HTTP/2.0 200 OK", b"HTTP/1.0 200 OK", b"http/1.1 200 OK", b"ICY 200 OK", b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 205 Reset", b"SSH-2.0-OpenSSH_9", b"",
]  # fmt: skip
LENGTHS = [
    b"Content-Length: %d", b"Content-Length: +%d", b"Content-Length: -%d", b"Content-Length: %d, %d", b"Content-Length: %d\r\nContent-Length: 3", b"Content-Length: 0x%x",
    b"Content-Length : %d", b"Content_Length: %d", b"Content-Length: %d\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding : chunked", b"X: y\r\n folded", b"X\x00: y",
    b"X: a\rb", b"\xff: y", b"X",
]  # fmt: skip
# The body after the head: %s is the body with its token.
BODIES = ["whole", "short", "long", "chunked", "chunked without an end", "chunked with a bad size", "none", "two responses"]


def variants():
    yield from itertools.product(STATUS_LINES, LENGTHS[:9:4], BODIES)
    yield from itertools.product(STATUS_LINES[:1], LENGTHS, BODIES)
    yield from itertools.product(STATUS_LINES[10:18], LENGTHS[8:10], BODIES)


def response(variant, token):
    """The bytes, and true if they end early."""
    line, length, kind = variant
    body = BODY % token
    count = length.count(b"%")
    head = line + b"\r\nContent-Type: application/json\r\n" + (length % ((len(body),) * count) if count else length) + b"\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    return head + {
        "whole": body, "short": body[:-5], "long": body + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen", "chunked": chunk + b"0\r\n\r\n",
        "chunked without an end": chunk, "chunked with a bad size": chunk + b"zz\r\n", "none": b"",
        "two responses": chunk + b"0\r\n\r\n" + GOOD % (6, b"stolen"),
    }[kind]  # fmt: skip


async def upstream(reader, writer, cases, closes):
    """Responds on kept connections until a bad response makes the proxy leave, or closes the connection itself, depending on the case."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", head, re.I)[1])
            await reader.readexactly(length)
            number = re.search(rb"x-case: (\d+)", head, re.I)
            if number is None:
                token = re.search(rb"x-token: (\w+)", head, re.I)[1]
                body = BODY % token
                writer.write(GOOD % (len(body), body))
                continue
            index = int(number[1])
            writer.write(response(cases[index], b"case%dend" % index))
            await writer.drain()
            if index % 2 == closes:
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def ask(port, header):
    """One request on a connection of its own: the head, the body's bytes, and true if the body ended properly."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    body = b'{"model":"m"}'
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n\r\n%s" % (len(body), header, body))
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.split()[1] in (b"204", b"304"):
            return head, b"", True
        if length := re.search(rb"content-length: (\d+)", head, re.I):
            try:
                return head, await reader.readexactly(int(length[1])), True
            except asyncio.IncompleteReadError as short:
                return head, short.partial, False
        if b"chunked" not in head.lower():
            return head, await reader.read(), True
        data = b""
        while True:
            size = await reader.readline()
            if not size.endswith(b"\r\n"):
                return head, data, False
            count = int(size, 16)
            data += await reader.readexactly(count)
            await reader.readexactly(2)
            if count == 0:
                return head, data, True
    except (asyncio.IncompleteReadError, ConnectionError):
        return b"", b"", False
    finally:
        writer.close()


async def attack(proxy_before):
    """The number of bad responses, and the list of faults."""
    cases, wrong = list(variants()), []
    for closes in (0, 1):
        server = await asyncio.start_server(lambda reader, writer: upstream(reader, writer, cases, closes), "127.0.0.1", 0)
        with tempfile.TemporaryDirectory() as at:
            proxy = proxy_before(server.sockets[0].getsockname()[1], pathlib.Path(at))
            loop = asyncio.get_running_loop()
            context = proxy.running()
            await loop.run_in_executor(None, context.__enter__)
            gate = asyncio.Semaphore(PARALLEL)

            async def one(index):
                async with gate:
                    variant = cases[index]
                    name = f"{variant} closed {index % 2 == closes}"
                    try:
                        head, body, ended = await asyncio.wait_for(ask(proxy.port, b"x-case: %d" % index), PATIENCE)
                        good = await asyncio.wait_for(ask(proxy.port, b"x-token: good%d" % index), PATIENCE)
                    except (TimeoutError, asyncio.TimeoutError):
                        wrong.append(f"{name}: no response")
                        return
                    # A body that ends with its connection has all received bytes.
                    if others := [token for token in re.findall(rb"case\d+end|good\d+", body) if token != b"case%dend" % index]:
                        wrong.append(f"{name}: read {others}")
                    if ended and head.startswith(b"HTTP/1.1 200") and variant[2] == "chunked without an end" and b"Content-Length" not in variant[1] and b"chunked" in variant[1]:
                        wrong.append(f"{name}: a cut response looked whole")
                    if ended and head.startswith(b"HTTP/1.1 200") and variant[2] == "short" and variant[1] == b"Content-Length: %d":
                        wrong.append(f"{name}: a short response looked whole")
                    if b"good%d" % index not in good[1] or b"stolen" in good[1] or not good[2]:
                        wrong.append(f"{name}: the next request got {good[0][:40]} {good[1][:60]}")

            await asyncio.gather(*map(one, range(len(cases))))
            await loop.run_in_executor(None, context.__exit__, None, None, None)
        server.close()
    return 2 * len(cases), wrong
