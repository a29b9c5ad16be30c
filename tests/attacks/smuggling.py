"""Requests whose framing two servers may read differently. Each hides a request for /smuggled, which no route leads to.

`payloads` yields (name, bytes). A backend must not see a request that has no usage record, whatever the proxy does.
"""

import itertools

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
JSON = b'{"model":"m"}'
TARGET = b"/v1/chat/completions"

TRANSFER_ENCODINGS = [
    b"Transfer-Encoding: chunked", b"transfer-encoding: CHUNKED", b"Transfer-Encoding:chunked", b"Transfer-Encoding:  chunked ",
    b"Transfer-Encoding:\tchunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked", b" Transfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked", b"X: y\rTransfer-Encoding: chunked", b"X: y\r\n Transfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding: chunked\x00", b"Transfer-Encoding: chunked\x0b", b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunkedx", b"Transfer-Encoding: chunk", b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: ", b"Transfer-Encoding: cow", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer_Encoding: chunked", b"Transfer-Encoding\x00: chunked", b"\x00Transfer-Encoding: chunked", b"Transfer-\xc3\x8bncoding: chunked",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", b"Connection: Content-Length\r\nTransfer-Encoding: chunked",
]  # fmt: skip
CONTENT_LENGTHS = [
    b"%d", b"+%d", b"-%d", b"0%d", b"%d ", b"%d,%d", b"%d, 0", b"0, %d", b"0x%x", b"%d.0", b"%d\x0b", b"\x0b%d", b"%d;", b'"%d"', b"%de0", b"99999999999999999999%d",
]  # fmt: skip
CHUNK_SIZES = [
    b"%x", b"0%x", b"+%x", b"-%x", b"0x%x", b"%x ", b" %x", b"%x\t", b"%x;", b"%x;a=b", b'%x;a="\r\n"', b"%x;\n", b"%x\n", b"%x\r", b"%x\x00", b"%x\x0b",
    b"ffffffffffffffff%x", b"1000000000000000%x", b"%xg", b"", b"%x,%x", b"%x;a\x00b", b"%x_0",
]  # fmt: skip
REQUEST_LINES = [
    b"POST  " + TARGET + b" HTTP/1.1", b"POST " + TARGET + b"  HTTP/1.1", b"POST\t" + TARGET + b" HTTP/1.1", b" POST " + TARGET + b" HTTP/1.1",
    b"POST " + TARGET + b" HTTP/1.1 ", b"POST " + TARGET + b" HTTP/1.2", b"POST " + TARGET + b" HTTP/2.0", b"POST " + TARGET + b" http/1.1",
    b"POST " + TARGET + b" HTTP/01.1", b"POST " + TARGET, b"POST " + TARGET + b"\x00 HTTP/1.1", b"POST " + TARGET + b" /smuggled HTTP/1.1",
    b"POST http://127.0.0.1" + TARGET + b" HTTP/1.1", b"POST //smuggled HTTP/1.1", b"POST /v1/../smuggled HTTP/1.1", b"POST /v1/%2e%2e/smuggled HTTP/1.1",
    b"POST /v1/..%2fsmuggled HTTP/1.1", b"POST /v1/..%5csmuggled HTTP/1.1", b"POST /v1/..\\smuggled HTTP/1.1", b"POST /v1/..;/smuggled HTTP/1.1",
    b"POST /v1/.%2e%3f/smuggled HTTP/1.1", b"POST /v1/..%23/smuggled HTTP/1.1", b"POST /v1/%252e%252e/smuggled HTTP/1.1", b"POST /v1/x%0d%0asmuggled HTTP/1.1",
    b"POST /v1/x%20HTTP/1.1%0d%0aX:%20y HTTP/1.1", b"\r\nPOST " + TARGET + b" HTTP/1.1", b"\nPOST " + TARGET + b" HTTP/1.1", b"GET " + TARGET + b" HTTP/1.1",
    b"HEAD " + TARGET + b" HTTP/1.1", b"DELETE " + TARGET + b" HTTP/1.1", b"CONNECT 127.0.0.1:1 HTTP/1.1", b"TRACE " + TARGET + b" HTTP/1.1",
    b"post " + TARGET + b" HTTP/1.1", b"PRI * HTTP/2.0", b"OPTIONS * HTTP/1.1",
]  # fmt: skip
ENDS_OF_LINES = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r\n"]


def head(line, *fields, end=b"\r\n"):
    return end.join([line, b"Host: 127.0.0.1", b"Content-Type: application/json", *fields]) + end + end


def post(*fields, version=b"1.1", end=b"\r\n"):
    return head(b"POST " + TARGET + b" HTTP/" + version, *fields, end=end)


def chunks(size=b"%x", data=JSON, last=b"0\r\n\r\n"):
    count = size.count(b"%x")
    return (size % ((len(data),) * count) if count else size) + b"\r\n" + data + b"\r\n" + last


def payloads():
    # Two lengths: a body of chunks that ends early, or one by Content-Length that hides the rest.
    for index, (encoding, version) in enumerate(itertools.product(TRANSFER_ENCODINGS, [b"1.1", b"1.0"])):
        ended = chunks() + SMUGGLED
        for length in (len(JSON), len(ended), 0, 4):
            lengths = b"Content-Length: %d" % length
            yield f"te {index} cl {length} te first", post(encoding, lengths, version=version) + ended
            yield f"te {index} cl {length} cl first", post(lengths, encoding, version=version) + ended
        yield f"te {index} alone", post(encoding, version=version) + ended
    for index, length in enumerate(CONTENT_LENGTHS):
        for number in (len(JSON), len(JSON + SMUGGLED), 0):
            text = length % ((number,) * length.count(b"%"))
            yield f"cl {index} {number}", post(b"Content-Length: " + text) + JSON + SMUGGLED
            yield f"cl {index} {number} second", post(b"Content-Length: %d" % len(JSON), b"Content-Length: " + text) + JSON + SMUGGLED
            yield f"cl {index} {number} first", post(b"Content-Length: " + text, b"Content-Length: %d" % len(JSON)) + JSON + SMUGGLED
            yield f"cl {index} {number} space", post(b"Content-Length : " + text) + JSON + SMUGGLED
            yield f"cl {index} {number} underscore", post(b"Content_Length: " + text) + JSON + SMUGGLED
    chunked = b"Transfer-Encoding: chunked"
    for index, size in enumerate(CHUNK_SIZES):
        yield f"chunk size {index}", post(chunked) + chunks(size) + SMUGGLED
        yield f"chunk size {index} of the last", post(chunked) + chunks(last=(size % ((0,) * size.count(b"%")) if b"%" in size else size) + b"\r\n\r\n") + SMUGGLED
        yield f"chunk size {index} too small", post(chunked) + (size % ((1,) * size.count(b"%")) if b"%" in size else size) + b"\r\n" + JSON + b"\r\n0\r\n\r\n" + SMUGGLED
    for index, trailer in enumerate([b"Content-Length: 99", b"Transfer-Encoding: chunked", b"Host: evil", b"X", b"X : y", b"X: y\n", b" X: y", b"X: \x00", b"Authorization: x", b":x: y"]):
        yield f"trailer {index}", post(chunked) + chunks(last=b"0\r\n" + trailer + b"\r\n\r\n") + SMUGGLED
    for index, (first, second) in enumerate(itertools.product(ENDS_OF_LINES, ENDS_OF_LINES)):
        yield f"ends of chunk lines {index}", post(chunked) + b"%x" % len(JSON) + first + JSON + second + b"0\r\n\r\n" + SMUGGLED
        yield f"ends of the last chunk {index}", post(chunked) + chunks(last=b"0" + first + second) + SMUGGLED
    for index, end in enumerate(ENDS_OF_LINES):
        yield f"ends of the head {index}", post(b"Content-Length: %d" % len(JSON), end=end) + JSON + SMUGGLED
    for index, line in enumerate(REQUEST_LINES):
        yield f"request line {index}", head(line, b"Content-Length: %d" % len(JSON)) + JSON + SMUGGLED
        yield f"request line {index} with a hidden body", head(line, b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED
        yield f"request line {index} without a length", head(line) + SMUGGLED
    for index, field in enumerate(
        [
            b"Host: evil", b"Host: 127.0.0.1", b"Connection: close, Host", b"Connection: Content-Length", b"Connection: Transfer-Encoding", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
            b"Upgrade: \xa0h2c\r\nConnection: Upgrade", b"Upgrade: websocket, h2c\r\nConnection: Upgrade", b"Upgrade: TLS/1.0\r\nConnection: Upgrade", b"Expect: 100-continue", b"Expect: 100-continue, x", b"X\x00: y", b"X: \x00", b"X: a\rb", b"X: a\nContent-Length: 0",
            b"X-Original-URL: /smuggled", b"X-Rewrite-URL: /smuggled", b"X-HTTP-Method-Override: GET", b": x", b"X", b"\x0bX: y", b"X(y): z", b"Content-Length: 0, 0", b"Content-Length:",
        ]  # fmt: skip
    ):
        yield f"field {index}", post(field, b"Content-Length: %d" % len(JSON)) + JSON + SMUGGLED
        yield f"field {index} behind", post(b"Content-Length: %d" % len(JSON), field) + JSON + SMUGGLED
