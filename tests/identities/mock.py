"""A place that issues tokens: it keeps the requests, and responds by the path."""

import datetime
import http.server
import json
import ssl
import threading
import urllib.parse

ROLE = "my-role"


def in_an_hour():
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    return end.strftime("%Y-%m-%dT%H:%M:%SZ")


def credentials():
    return {
        "Code": "Success",
        "LastUpdated": "2026-01-01T00:00:00Z",
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIAMOCK",
        "SecretAccessKey": "aws-secret-marker",
        "Token": "aws-session-marker",
        "Expiration": in_an_hour(),
    }


def sts():
    return (
        '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>'
        "<Credentials><AccessKeyId>ASIAMOCK</AccessKeyId><SecretAccessKey>aws-secret-marker</SecretAccessKey>"
        f"<SessionToken>aws-session-marker</SessionToken><Expiration>{in_an_hour()}</Expiration></Credentials>"
        "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )


class Request:
    def __init__(self, method, path, headers, body):
        self.method, self.headers, self.body = method, {name.lower(): value for name, value in headers}, body
        self.path, _, self.query = path.partition("?")

    def parameters(self):
        return dict(urllib.parse.parse_qsl(self.query, keep_blank_values=True))

    def form(self):
        return dict(urllib.parse.parse_qsl(self.body.decode(), keep_blank_values=True))


class Mock:
    """Listens on `port` of loopback, or on `address`. `certificate` is a file with a certificate and its key."""

    def __init__(self, port, certificate=None, address="127.0.0.1"):
        self.requests, self.issued, self.statuses = [], 0, []
        mock = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                request = Request(self.command, self.path, self.headers.items(), body)
                mock.requests.append(request)
                status, kind, text = mock.response(request)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(text.encode())))
                self.send_header("metadata-flavor", "Google")
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_PUT = serve

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((address, port), Handler)
        # Connections that the other side resets are none of the checks' business.
        self.server.handle_error = lambda *_: None
        scheme = "http"
        if certificate:
            scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{scheme}://{'localhost' if certificate else address}:{port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def response(self, request):
        path = request.path
        as_json = lambda value: (200, "application/json", json.dumps(value))
        if path.endswith("/chat/completions"):
            status = self.statuses.pop(0) if self.statuses else 200
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            return status, "application/json", json.dumps({"object": "chat.completion", "model": "m", "choices": [], "usage": usage})
        if path.endswith("/.well-known/openid-configuration"):
            tenant = f"{self.url}/{path.split('/')[1]}"
            return as_json(
                {
                    "issuer": f"{tenant}/v2.0",
                    "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{tenant}/oauth2/v2.0/token",
                }
            )
        if path == "/latest/api/token":
            return 200, "text/plain", "imds-session-marker"
        if path.endswith("/security-credentials/"):
            return 200, "text/plain", ROLE
        if path.endswith(ROLE) or path.startswith("/v1/credentials"):
            return as_json(credentials())
        if request.method == "POST" and "AssumeRole" in request.body.decode():
            # STS has two forms, and only the other one is JSON.
            if "json" in request.headers.get("accept", ""):
                return as_json({"AssumeRoleWithWebIdentityResponse": {}})
            return 200, "text/xml", sts()
        if path.endswith("/service-accounts/default/"):
            return as_json({"email": "app@p.iam.gserviceaccount.com", "scopes": [], "aliases": ["default"]})
        self.issued += 1
        token = {"access_token": f"token-marker-{self.issued}", "expires_in": "86399", "token_type": "Bearer"}
        if request.method == "POST" or path.startswith("/computeMetadata/"):
            token["expires_in"] = 3599
        token["expires_on"] = str(int(datetime.datetime.now().timestamp()) + 3599)
        return as_json(token)
