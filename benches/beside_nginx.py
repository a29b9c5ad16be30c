#!/usr/bin/env python3
"""streamgauge beside nginx: CPU of the proxy process per request and per event, in interleaved rounds.

    cargo build --release && benches/beside_nginx.py [--rounds 5] [--seconds 4]

One worker each, pinned to core 0; the simulator and the load share core 1. Both have the same job: a fixed upstream over
plain HTTP/1.1, `Host` and `Authorization` set, no buffering, keep-alive on both sides. The load is made by
`wrk` (requests) and by this script (streams), both from the Debian packages `nginx-light` and `wrk`.
CPU is user + system time of the proxy's processes, all threads, from /proc.
"""
import argparse, asyncio, os, pathlib, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BIN = TARGET / "release" / "streamgauge"
TICK = os.sysconf("SC_CLK_TCK")
BODY = '{"model":"sim:size=600","messages":[{"role":"user","content":"Hello"}]}'


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.025)
    sys.exit(f"nothing listens on {port}")


def cpu(pids):
    """Seconds of CPU that these processes have used so far, to the resolution of the scheduler's own clock."""
    total = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            total += int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1e9


def pin(core):
    return lambda: os.sched_setaffinity(0, {core})


def streamgauge(folder, upstream, port):
    config = folder / "streamgauge.toml"
    config.write_text(f"""
[server]
listen = "127.0.0.1:{port}"
workers = 1
[admin]
listen = ""
[ledger]
path = ""
jsonl = "{folder}/usage.jsonl"
[upstreams.up]
provider = "other"
url = "http://127.0.0.1:{upstream}/v1"
api_key = {{ value = "sk-bench" }}
default_model = "m"
""")
    log = open(folder / "log", "wb")
    p = subprocess.Popen([BIN, "serve", "--config", config, "--log", "warn"], stderr=log, preexec_fn=pin(0))
    wait_for(port)
    return [p], [p.pid]


def nginx(folder, upstream, port):
    config = folder / "nginx.conf"
    config.write_text(f"""
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 100000000;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://up;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host "127.0.0.1:{upstream}";
      proxy_set_header Authorization "Bearer sk-bench";
      proxy_buffering off;
      proxy_request_buffering on;
    }}
  }}
}}
""")
    p = subprocess.Popen(["nginx", "-c", config, "-p", folder], preexec_fn=pin(0), stderr=subprocess.DEVNULL)
    wait_for(port)
    children = pathlib.Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split()
    return [p], [p.pid, *map(int, children)]


def requests(port, pids, seconds, folder):
    """CPU per request at saturation, 32 connections; returns microseconds and requests per second."""
    script = folder / "post.lua"
    script.write_text(f"wrk.method='POST'\nwrk.headers['content-type']='application/json'\nwrk.body='{BODY}'\n")
    before = cpu(pids)
    out = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", "-c32", f"-d{seconds}s", "-s", script,
                          f"http://127.0.0.1:{port}/v1/chat/completions"], capture_output=True, text=True, check=True).stdout
    used = cpu(pids) - before
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"the load failed:\n{out}")
    count = int(next(l for l in out.splitlines() if "requests in" in l).split()[0])
    return used / count * 1e6, count / seconds


async def streams(port, pids, seconds, count=200, pace="10ms"):
    """CPU per event of so many streams with an event each 10 ms; returns microseconds and events per second."""
    body = ('{"model":"sim:events=1000000,pace=%s,size=200","stream":true,"messages":[]}' % pace).encode()
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n").encode()
    seen = 0

    class Stream(asyncio.Protocol):
        def data_received(self, data):
            nonlocal seen
            seen += data.count(b"\ndata: ") + data.startswith(b"data: ")

    loop = asyncio.get_running_loop()
    transports = []
    for _ in range(count):
        transport, _ = await loop.create_connection(Stream, "127.0.0.1", port)
        transport.write(head + body)
        transports.append(transport)
    await asyncio.sleep(1)
    start, before, seen = time.perf_counter(), cpu(pids), 0
    await asyncio.sleep(seconds)
    used, events, took = cpu(pids) - before, seen, time.perf_counter() - start
    for transport in transports:
        transport.abort()
    await asyncio.sleep(0.2)
    return used / events * 1e6, events / took


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=int, default=4)
    a = p.parse_args()
    for program in ("nginx", "wrk"):
        if not shutil.which(program):
            sys.exit(f"{program} is missing: apt-get install -y nginx-light wrk")
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o777)  # nginx drops its privileges
        upstream = free_port()
        running = [subprocess.Popen([BIN, "simulate", "--listen", f"127.0.0.1:{upstream}", "--workers", "1"],
                                    stderr=subprocess.DEVNULL, preexec_fn=pin(1))]
        wait_for(upstream)
        try:
            proxies = {}
            for label, start in (("streamgauge", streamgauge), ("nginx", nginx)):
                port = free_port()
                processes, pids = start(folder, upstream, port)
                running += processes
                proxies[label] = (port, pids)
            figures = {}
            for _ in range(a.rounds):
                for label, (port, pids) in proxies.items():
                    figures.setdefault(("request", label), []).append(requests(port, pids, a.seconds, folder))
                for label, (port, pids) in proxies.items():
                    figures.setdefault(("event", label), []).append(asyncio.run(streams(port, pids, a.seconds)))
            for what in ("request", "event"):
                ours, theirs = figures[what, "streamgauge"], figures[what, "nginx"]
                ratios = sorted(o[0] / t[0] for o, t in zip(ours, theirs))
                median = lambda rows, i: statistics.median(r[i] for r in rows)
                print(f"CPU per {what}: streamgauge {median(ours, 0):.2f} µs, nginx {median(theirs, 0):.2f} µs, "
                      f"ratio {statistics.median(ratios):.2f} (rounds {', '.join(f'{r:.2f}' for r in ratios)}); "
                      f"per second: {median(ours, 1):.0f} and {median(theirs, 1):.0f}")
        finally:
            for process in reversed(running):
                process.send_signal(signal.SIGTERM)
                process.wait()


if __name__ == "__main__":
    main()
