"""The clients of the steady soak, in a process of their own: new streams at a rate, each as long as the others.

`arrivals.py PORT STREAMS RATE SECONDS`: RATE new streams a second for SECONDS, each so long that STREAMS run at a time, and never
more. One client in 50 leaves in the middle of its stream. Prints one JSON object a line: the number of running streams each five seconds,
and at the end the number of streams by upstream and ending.
"""

import asyncio
import collections
import json
import sys
import time

# The time between two events of a stream, in seconds.
PACE = 2
LEAVES_EACH = 50
REPORTS_EACH = 5


class Load:
    def __init__(self, port, streams, rate, seconds):
        self.port, self.streams, self.rate, self.seconds = port, streams, rate, seconds
        self.events = max(streams // rate // PACE, 2)
        self.running, self.endings, self.first_bytes = 0, collections.Counter(), []

    def body(self):
        return json.dumps(
            {
                "model": f"sim:events={self.events},pace={PACE}s",
                "stream": True,
                "messages": [{"role": "user", "content": "Measure the river."}],
            }
        ).encode()

    async def ending(self, number):
        """The upstream, and how the stream ended: whole, broken (without its last chunk), left, or a status other than 200."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 17)
        try:
            body = self.body()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\ncontent-type: application/json\r\n"
            begun = time.monotonic()
            writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            self.first_bytes.append(time.monotonic() - begun)
            headers = dict(field.lower().split(": ", 1) for field in fields if ": " in field)
            upstream, status = headers.get("x-streamgauge-upstream", "none"), status.split(" ")[1]
            if status != "200":
                return upstream, f"status {status}"
            # A client that leaves does so in the middle; the others stay beyond the end.
            stay = self.events * PACE / 2 if number % LEAVES_EACH == 0 else None
            try:
                rest = await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), stay)
            except asyncio.TimeoutError:
                return upstream, "left"
            except (asyncio.IncompleteReadError, ConnectionError):
                return upstream, "broken"
            return upstream, "whole" if b"[DONE]" in rest else "without its end"
        finally:
            writer.close()

    async def stream(self, number):
        self.running += 1
        try:
            self.endings[await self.ending(number)] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            self.endings["none", f"no response: {type(error).__name__}"] += 1
        finally:
            self.running -= 1

    async def report(self):
        begun = time.monotonic()
        while True:
            await asyncio.sleep(REPORTS_EACH)
            print(json.dumps({"second": round(time.monotonic() - begun), "running": self.running}), flush=True)

    async def run(self):
        report = asyncio.create_task(self.report())
        begun, tasks = time.monotonic(), []
        for number in range(self.rate * self.seconds):
            await asyncio.sleep(max(begun + number / self.rate - time.monotonic(), 0))
            while self.running >= self.streams:
                await asyncio.sleep(0.01)
            tasks.append(asyncio.create_task(self.stream(number)))
        await asyncio.gather(*tasks)
        report.cancel()
        times = sorted(self.first_bytes)
        endings = [[*key, count] for key, count in sorted(self.endings.items())]
        p99 = times[len(times) * 99 // 100] if times else None
        print(json.dumps({"streams": len(tasks), "endings": endings, "first_byte_p99_s": p99}), flush=True)


if __name__ == "__main__":
    asyncio.run(Load(*map(int, sys.argv[1:])).run())
