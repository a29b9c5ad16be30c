#!/usr/bin/env python3
"""Compares the requests for tokens with those of azure-identity, google-auth and botocore, parameter by parameter.

Both sides ask the same mock (mock.py) with the same identity. `SDK_ONLY` has the parameters that an SDK adds and that the token does
not depend on; any other difference fails. Further checks: an authority that signs real tokens (oauth2-mock-server), the metadata
address itself in a network namespace of its own, a clock that is moved, and no secret in the log or in records.

Needs the packages of requirements.txt, and package.json's under target/identities/node. STREAMGAUGE_BIN names the binary.
"""

import base64
import contextlib
import datetime
import glob
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from mock import Mock  # noqa: E402
from programs import ROOT, Proxy, free_port, started, until  # noqa: E402

TENANT, CLIENT, SECRET = "tenant-1", "11111111-2222-3333-4444-555555555555", "entra-secret-marker"
SCOPE = "https://cognitiveservices.azure.com/.default"
ROLE_ARN, SESSION = "arn:aws:iam::123456789012:role/r", "session-1"

# What SDKs add. Entra ID ignores client_info for applications; claims are for continuous access evaluation.
SDK_ONLY = {"client_info", "claims", "client-request-id", "return-client-request-id"}

checks = 0


def check(what, ours, theirs):
    """Fails if the two differ."""
    global checks
    checks += 1
    if ours != theirs:
        sys.exit(f"FAILED: {what}:\n  streamgauge: {ours}\n  SDK:         {theirs}")


def without(parameters, *names):
    return {name: value for name, value in parameters.items() if name not in SDK_ONLY | set(names)}


def variables(**values):
    """The environment of this process without the variables of clouds and proxies, and with these."""
    clouds = ("AWS_", "AZURE_", "IDENTITY_", "GCE_", "GOOGLE_", "MSI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(clouds) and "proxy" not in name.lower()}
    return {**kept, **values}


@contextlib.contextmanager
def environment(**values):
    """The same for this process itself, in which SDKs run."""
    before, changed = dict(os.environ), variables(**values)
    os.environ.clear()
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Asking:
    """One start of the proxy with an identity, and one chat completion."""

    def __init__(self, folder, tables, prefix=(), **values):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.proxy = Proxy(self.folder, tables)
        self.command = [*prefix, *self.proxy.command]
        self.environment = variables(**values)

    @contextlib.contextmanager
    def running(self):
        with started("the proxy", self.command, self.proxy.port, self.proxy.log, env=self.environment):
            yield self
        self.check_log()

    def chat(self):
        body = json.dumps({"model": "m", "messages": []}).encode()
        request = urllib.request.Request(f"{self.proxy.url}/v1/chat/completions", body, {"content-type": "application/json"})
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20).status

    def check_log(self):
        """Fails if the log or a record has a secret, or a part of a token."""
        global checks
        checks += 1
        for path in (self.proxy.log, self.proxy.file):
            text = path.read_text() if path.exists() else ""
            if "marker" in text or "bedrock-api-key" in text or "eyJ" in text or "PRIVATE KEY" in text:
                sys.exit(f"FAILED: {path.name} has a secret:\n{text}")


def ask(folder, mock, tables, **values):
    """The requests for a token of one start, and the request with it."""
    mock.requests.clear()
    with Asking(folder, tables, **values).running() as asking:
        check("status", asking.chat(), 200)
    chats = [request for request in mock.requests if request.path.endswith("/chat/completions")]
    return [request for request in mock.requests if request not in chats], chats[0]


def entra(mock, keys, certificate):
    """The table of an upstream. The service is plain HTTP at another port, the authority has TLS."""
    return (
        f'[upstreams.azure]\nurl = "{mock.url}"\ndefault_model = "m"\n[upstreams.azure.entra]\n{keys}\n'
        f'[[network.hosts]]\nurl = "{mock.url}"\ntls.ca = {{ file = "{certificate}" }}\n'
    )


def token_requests(mock):
    return [request for request in mock.requests if request.path.endswith("/oauth2/v2.0/token")]


def claims(token):
    import jwt

    return jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})


def check_entra(folder, certificate, rsa):
    import azure.identity
    import jwt
    from cryptography import x509

    with Mock(free_port(), certificate) as mock:
        common = f'tenant = "{TENANT}"\nclient = "{CLIENT}"\nauthority = "{mock.url}"\n'
        options = {"authority": mock.url, "disable_instance_discovery": True, "connection_verify": str(certificate)}

        (ours,), _ = ask(folder, mock, entra(mock, f'{common}secret = {{ value = "{SECRET}" }}', certificate))
        mock.requests.clear()
        azure.identity.ClientSecretCredential(TENANT, CLIENT, SECRET, **options).get_token(SCOPE)
        (theirs,) = token_requests(mock)
        check("client secret: path", ours.path, theirs.path)
        check("client secret: form", without(ours.form()), without(theirs.form()))

        keys = f'{common}by = "certificate"\ncertificate = {{ file = "{rsa}" }}\nprivate_key = {{ file = "{rsa}" }}'
        (ours,), _ = ask(folder, mock, entra(mock, keys, certificate))
        mock.requests.clear()
        azure.identity.CertificateCredential(TENANT, CLIENT, str(rsa), **options).get_token(SCOPE)
        (theirs,) = token_requests(mock)
        check("certificate: form", without(ours.form(), "client_assertion"), without(theirs.form(), "client_assertion"))
        (header, own), (their_header, their) = (claims(request.form()["client_assertion"]) for request in (ours, theirs))
        check("certificate: claims", {name: own[name] for name in ("aud", "iss", "sub")}, {name: their[name] for name in ("aud", "iss", "sub")})
        check("certificate: life", own["exp"] - own["iat"], their["exp"] - their["iat"])
        check("certificate: names of claims", set(own) - {"nbf"}, set(their) - {"nbf"})
        public = x509.load_pem_x509_certificate(rsa.read_bytes()).public_key()
        jwt.decode(ours.form()["client_assertion"], public, algorithms=["PS256"], audience=own["aud"])
        check("certificate: header", (header["alg"], header["typ"], "x5t#S256" in header), ("PS256", "JWT", True))
        print(f"azure-identity signs by {their_header['alg']} and names the certificate by {sorted(set(their_header) - {'alg', 'typ'})}")

        token = folder / "federated"
        token.write_text("federated-marker")
        values = {"AZURE_FEDERATED_TOKEN_FILE": str(token), "AZURE_CLIENT_ID": CLIENT, "AZURE_TENANT_ID": TENANT, "AZURE_AUTHORITY_HOST": mock.url}
        (ours,), _ = ask(folder, mock, entra(mock, "", certificate), **values)
        mock.requests.clear()
        azure.identity.WorkloadIdentityCredential(
            tenant_id=TENANT, client_id=CLIENT, token_file_path=str(token), **options
        ).get_token(SCOPE)
        (theirs,) = token_requests(mock)
        check("workload identity: form", without(ours.form()), without(theirs.form()))

    with Mock(free_port()) as mock:
        for name, values in [
            ("managed identity of a machine", {"AZURE_POD_IDENTITY_AUTHORITY_HOST": mock.url}),
            ("managed identity of App Service", {"IDENTITY_ENDPOINT": f"{mock.url}/msi/token", "IDENTITY_HEADER": "header-marker"}),
        ]:
            for client in ("", CLIENT):
                keys = f'client = "{client}"' if client else ""
                tables = f'[upstreams.azure]\nurl = "{mock.url}"\n[upstreams.azure.entra]\n{keys}\n'
                (ours,), _ = ask(folder, mock, tables, **values)
                mock.requests.clear()
                with environment(**values):
                    azure.identity.ManagedIdentityCredential(**({"client_id": client} if client else {})).get_token(SCOPE)
                theirs = [request for request in mock.requests if "resource=" in request.query][-1]
                check(f"{name}: path", ours.path, theirs.path)
                check(f"{name}: query", ours.parameters(), theirs.parameters())
                for header in ("metadata", "x-identity-header"):
                    check(f"{name}: {header}", ours.headers.get(header), theirs.headers.get(header))


def check_google(folder, rsa):
    import google.auth.compute_engine
    import google.auth.transport.requests
    import google.oauth2.service_account
    import jwt
    from cryptography import x509

    scope = "https://www.googleapis.com/auth/cloud-platform"
    transport = google.auth.transport.requests.Request()
    with Mock(free_port()) as mock:
        upstream = f'[upstreams.v]\nprovider = "other"\nurl = "{mock.url}/openapi"\ndefault_model = "m"\n[upstreams.v.google]\n'
        key = re.search(r"-----BEGIN PRIVATE KEY-----.*-----END PRIVATE KEY-----\n", rsa.read_text(), re.S)[0]
        account = {"type": "service_account", "client_email": "app@p.iam.gserviceaccount.com", "private_key_id": "k1", "private_key": key}
        account |= {"token_uri": f"{mock.url}/token"}
        file = folder / "service-account.json"
        file.write_text(json.dumps(account))
        (ours,), _ = ask(folder, mock, f'{upstream}credentials = {{ file = "{file}" }}\n')
        mock.requests.clear()
        google.oauth2.service_account.Credentials.from_service_account_info(account, scopes=[scope]).refresh(transport)
        (theirs,) = mock.requests
        check("service account: path", ours.path, theirs.path)
        check("service account: form", without(ours.form(), "assertion"), without(theirs.form(), "assertion"))
        (header, own), (their_header, their) = (claims(request.form()["assertion"]) for request in (ours, theirs))
        check("service account: header", header, their_header)
        check("service account: life", own["exp"] - own["iat"], their["exp"] - their["iat"])
        check("service account: claims", without(own, "exp", "iat"), without(their, "exp", "iat"))
        public = x509.load_pem_x509_certificate(rsa.read_bytes()).public_key()
        jwt.decode(ours.form()["assertion"], public, algorithms=["RS256"], audience=own["aud"])

        host = mock.url.removeprefix("http://")
        (ours,), _ = ask(folder, mock, upstream, GCE_METADATA_HOST=host)
        mock.requests.clear()
        # The module reads the variable when it is loaded.
        program = (
            "import google.auth.compute_engine as c, google.auth.transport.requests as r;"
            f"c.Credentials(scopes=[{scope!r}]).refresh(r.Request())"
        )
        subprocess.run([sys.executable, "-c", program], check=True, env=variables(GCE_METADATA_HOST=host), capture_output=True)
        theirs = [request for request in mock.requests if request.path.endswith("/token")][-1]
        check("metadata server: path", ours.path, theirs.path)
        check("metadata server: query", ours.parameters(), theirs.parameters())
        check("metadata server: flavor", ours.headers.get("metadata-flavor"), theirs.headers.get("metadata-flavor"))


def bedrock(mock):
    return (
        f'[upstreams.b]\nprovider = "other"\nurl = "{mock.url}/openai/v1"\ndefault_model = "m"\n'
        '[upstreams.b.aws]\nregion = "us-east-1"\n'
    )


def check_key(request, access_key, secret, token):
    """Compares a key with the one that AWS's generator makes of the same credentials at the same time."""
    import aws_bedrock_token_generator
    import botocore.auth
    import botocore.credentials

    ours = request.headers["authorization"].removeprefix("Bearer ")
    url = base64.b64decode(ours.removeprefix("bedrock-api-key-")).decode()
    at = datetime.datetime.strptime(re.search(r"X-Amz-Date=(\w+)", url)[1], "%Y%m%dT%H%M%SZ")
    before, botocore.auth.get_current_datetime = botocore.auth.get_current_datetime, lambda **_: at
    try:
        credentials = botocore.credentials.Credentials(access_key, secret, token)
        theirs = aws_bedrock_token_generator.BedrockTokenGenerator().get_token(credentials, "us-east-1")
    finally:
        botocore.auth.get_current_datetime = before
    check("key of Bedrock", ours, theirs)


def check_aws(folder):
    import botocore.session
    import botocore.utils

    with Mock(free_port()) as mock:
        keys = {"AWS_ACCESS_KEY_ID": "AKIDMOCK", "AWS_SECRET_ACCESS_KEY": "aws-secret-marker"}
        requests, chat = ask(folder, mock, bedrock(mock), **keys)
        check("access key: requests", requests, [])
        check_key(chat, "AKIDMOCK", "aws-secret-marker", None)
        _, chat = ask(folder, mock, bedrock(mock), **keys, AWS_SESSION_TOKEN="aws/session+marker=")
        check_key(chat, "AKIDMOCK", "aws-secret-marker", "aws/session+marker=")

        file = folder / "web-identity"
        file.write_text("web-identity-marker")
        pod = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{mock.url}/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file)}
        web = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(file), "AWS_ROLE_ARN": ROLE_ARN, "AWS_ROLE_SESSION_NAME": SESSION}
        web |= {"AWS_ENDPOINT_URL_STS": mock.url}
        machine = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": mock.url}
        nothing = {"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_REGION": "us-east-1"}
        for name, values in [("web identity", web), ("container", pod), ("machine", machine)]:
            ours, chat = ask(folder, mock, bedrock(mock), **values)
            mock.requests.clear()
            with environment(**values, **nothing):
                session = botocore.session.Session()
                session.set_config_variable("region", "us-east-1")
                frozen = session.get_credentials().get_frozen_credentials()
            theirs = list(mock.requests)
            check(f"{name}: paths", [(one.method, one.path) for one in ours], [(one.method, one.path) for one in theirs])
            for one, other in zip(ours, theirs):
                check(f"{name}: form", one.form(), other.form())
                check(f"{name}: query", one.parameters(), other.parameters())
                for header in ("x-aws-ec2-metadata-token", "x-aws-ec2-metadata-token-ttl-seconds"):
                    check(f"{name}: {header}", one.headers.get(header), other.headers.get(header))
                if name == "container":
                    check(f"{name}: authorization", one.headers["authorization"], other.headers["authorization"])
            check_key(chat, frozen.access_key, frozen.secret_key, frozen.token)


def check_real_tokens(folder):
    """An authority that signs: the service gets the token that it can verify."""
    import jwt

    port = free_port()
    script = ROOT / "tests/identities/authority.mjs"
    node = ROOT / "target/identities/node"
    # Node looks for packages beside the script.
    (node / script.name).write_bytes(script.read_bytes())
    with started("the authority", ["node", str(node / script.name), str(port)], port, folder / "authority.log"), Mock(free_port()) as mock:
        authority = f"http://127.0.0.1:{port}"
        keys = f'tenant = "{TENANT}"\nclient = "{CLIENT}"\nsecret = {{ value = "{SECRET}" }}\nauthority = "{authority}"\n'
        tables = f'[upstreams.azure]\nurl = "{mock.url}"\ndefault_model = "m"\n[upstreams.azure.entra]\n{keys}'
        _, chat = ask(folder, mock, tables)
        token = chat.headers["authorization"].removeprefix("Bearer ")
        key = jwt.PyJWKClient(f"{authority}/jwks").get_signing_key_from_jwt(token)
        verified = jwt.decode(token, key.key, algorithms=["RS256"], options={"verify_aud": False})
        check("token of the authority", verified["exp"] > verified["iat"], True)


def check_moved_clock(folder):
    """A clock that runs 60 times as fast: a refused token that is older than a minute is renewed; and one that is ten years ahead."""
    library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not library:
        sys.exit("FAILED: faketime is not installed")
    with Mock(free_port()) as mock:
        keys = f'tenant = "{TENANT}"\nclient = "{CLIENT}"\nsecret = {{ value = "{SECRET}" }}\nauthority = "{mock.url}"\n'
        tables = f'[upstreams.azure]\nurl = "{mock.url}"\ndefault_model = "m"\n[upstreams.azure.entra]\n{keys}'
        with Asking(folder, tables, LD_PRELOAD=library[0], FAKETIME="+0 x60").running() as asking:
            check("fast clock: status", asking.chat(), 200)
            first = mock.requests[-1].headers["authorization"]
            issued = mock.issued

            def renewed():
                mock.statuses.append(401)
                with contextlib.suppress(urllib.error.HTTPError):
                    if asking.chat() == 200:
                        return True
                return None

            until("a refused token is renewed", renewed)
            check("fast clock: another token", mock.requests[-1].headers["authorization"] == first, False)
            check("fast clock: requests for tokens", mock.issued > issued, True)
    with Mock(free_port()) as mock:
        values = {"AWS_ACCESS_KEY_ID": "AKIDMOCK", "AWS_SECRET_ACCESS_KEY": "aws-secret-marker"}
        mock.requests.clear()
        with Asking(folder, bedrock(mock), LD_PRELOAD=library[0], FAKETIME="+3653d", **values).running() as asking:
            check("late clock: status", asking.chat(), 200)
        key = mock.requests[-1].headers["authorization"].removeprefix("Bearer bedrock-api-key-")
        year = int(re.search(r"X-Amz-Date=(\d{4})", base64.b64decode(key).decode())[1])
        check("late clock: year of the signature", year, (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(3653)).year)


def check_machine(folder):
    """The metadata address itself. Runs in a network namespace of its own."""
    for command in (["ip", "link", "set", "lo", "up"], ["ip", "address", "add", "169.254.169.254/32", "dev", "lo"]):
        subprocess.run(command, check=True)
    with Mock(80, address="169.254.169.254") as metadata, Mock(free_port()) as mock:
        # A proxy that must not be used.
        values = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
        tables = f'[upstreams.azure]\nurl = "{mock.url}"\ndefault_model = "m"\n[upstreams.azure.entra]\nby = "managed_identity"\n'
        for name, tables in [("Azure", tables), ("AWS", bedrock(mock))]:
            metadata.requests.clear()
            with Asking(folder, tables, **values).running() as asking:
                check(f"metadata address for {name}: status", asking.chat(), 200)
            check(f"metadata address for {name}: asked", bool(metadata.requests), True)
            host = {request.headers["host"] for request in metadata.requests}
            check(f"metadata address for {name}: host", host, {"169.254.169.254"})


def certificate_of(folder, name, subject):
    """A certificate with an RSA key, both in one file."""
    path = folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={subject}"]
        + ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key"), "-out", str(folder / "certificate")],
        check=True,
        capture_output=True,
    )
    path.write_text((folder / "certificate").read_text() + (folder / "key").read_text())
    return path


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if "--machine" in sys.argv:
            check_machine(folder)
        else:
            rsa = certificate_of(folder, "application", "app")
            check_entra(folder, certificate_of(folder, "authority", "localhost"), rsa)
            check_google(folder, rsa)
            check_aws(folder)
            check_real_tokens(folder)
            check_moved_clock(folder)
            inside = ["unshare", "--net", *(["--user", "--map-root-user"] if os.geteuid() else [])]
            subprocess.run([*inside, sys.executable, __file__, "--machine"], check=True)
    where = " in a network namespace" if "--machine" in sys.argv else ""
    print(f"identity checks{where}: {checks} passed")


main()
