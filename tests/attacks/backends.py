"""Ten servers that may stand behind the proxy. Each writes a line "METHOD TARGET" per request to a file.

`backends.py NAME PORT FILE` runs one of those in Python; `command` returns the command that starts each.
"""

import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
RESPONSE = b'{"object":"chat.completion","choices":[]}'

NAMES = [
    "nginx", "lighttpd", "node", "http.server", "uvicorn-h11", "uvicorn-httptools", "gunicorn", "aiohttp", "waitress", "tornado",
]  # fmt: skip

NGINX = """
daemon off; worker_processes 1; error_log /dev/null crit; pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
  log_format seen '$request_method $request_uri'; access_log {file} seen;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    location / {{ rewrite ^ /read break; proxy_pass http://127.0.0.1:{port}; }}
    location = /read {{ access_log off; default_type application/json; return 200 '{response}'; }}
  }}
}}
"""
LIGHTTPD = """
server.document-root = "{folder}"
server.port = {port}
server.bind = "127.0.0.1"
server.modules = ("mod_accesslog")
accesslog.filename = "{file}"
accesslog.format = "%r"
"""
NODE = """
const fs = require('node:fs');
const file = fs.openSync(process.argv[2], 'a');
require('node:http').createServer((request, response) => {
  fs.writeSync(file, `${request.method} ${request.url}\\n`);
  request.resume().on('end', () => response.setHeader('content-type', 'application/json').end(process.argv[3]));
}).listen(Number(process.argv[1]), '127.0.0.1');
"""


def command(name, port, file, folder):
    values = {"port": port, "file": file, "folder": folder, "response": RESPONSE.decode()}
    if name == "nginx":
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(**values))
        return [shutil.which("nginx", path="/usr/sbin:/usr/bin"), "-c", str(config), "-p", str(folder), "-e", "/dev/null"]
    if name == "lighttpd":
        config = folder / "lighttpd.conf"
        config.write_text(LIGHTTPD.format(**values))
        return [shutil.which("lighttpd", path="/usr/sbin:/usr/bin"), "-D", "-f", str(config)]
    if name == "node":
        return ["node", "-e", NODE, str(port), str(file), RESPONSE.decode()]
    if name == "gunicorn":
        arguments = ["-m", "gunicorn", "--chdir", str(HERE), "-b", f"127.0.0.1:{port}", "--env", f"SEEN={file}", "-w", "1", "--log-level", "critical"]
        return [sys.executable, *arguments, "--keep-alive", "5", "-k", "gthread", "backends:from_environment()"]
    return [sys.executable, str(HERE / "backends.py"), name, str(port), str(file)]


def wsgi(file):
    seen = open(file, "a", buffering=1)

    def application(environ, start_response):
        environ["wsgi.input"].read()
        target = environ.get("RAW_URI") or environ.get("REQUEST_URI")
        seen.write(f"{environ['REQUEST_METHOD']} {target}\n")
        start_response("200 OK", [("content-type", "application/json"), ("content-length", str(len(RESPONSE)))])
        return [RESPONSE]

    return application


def from_environment():
    import os

    return wsgi(os.environ["SEEN"])


def run_uvicorn(http, port, file):
    import uvicorn

    seen = open(file, "a", buffering=1)

    async def application(scope, receive, send):
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        seen.write(f"{scope['method']} {scope['raw_path'].decode('latin-1')}\n")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": RESPONSE})

    uvicorn.run(application, host="127.0.0.1", port=port, http=http, log_level="critical", lifespan="off")


def run_aiohttp(port, file):
    from aiohttp import web

    seen = open(file, "a", buffering=1)

    async def respond(request):
        await request.read()
        seen.write(f"{request.method} {request.raw_path}\n")
        return web.Response(body=RESPONSE, content_type="application/json")

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", respond)
    web.run_app(application, host="127.0.0.1", port=port, print=None, access_log=None)


def run_tornado(port, file):
    import asyncio

    import tornado.web

    seen = open(file, "a", buffering=1)

    class Handler(tornado.web.RequestHandler):
        SUPPORTED_METHODS = (*tornado.web.RequestHandler.SUPPORTED_METHODS, "QUERY")

        def prepare(self):
            seen.write(f"{self.request.method} {self.request.uri}\n")
            self.finish(RESPONSE)

    async def serve():
        tornado.web.Application([(".*", Handler)]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(serve())


def run_stdlib(port, file):
    import http.server

    seen = open(file, "a", buffering=1)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self):
            seen.write(f"{self.command} {self.path}\n")
            if "chunked" in self.headers.get("transfer-encoding", ""):
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    self.rfile.read(size + 2)
                while self.rfile.readline().strip():
                    pass
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(RESPONSE)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(RESPONSE)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = respond

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def run_waitress(port, file):
    import waitress

    waitress.serve(wsgi(file), host="127.0.0.1", port=port, _quiet=True)


def main(name, port, file):
    if name.startswith("uvicorn-"):
        run_uvicorn(name.removeprefix("uvicorn-"), port, file)
    else:
        {"aiohttp": run_aiohttp, "tornado": run_tornado, "http.server": run_stdlib, "waitress": run_waitress}[name](port, file)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
