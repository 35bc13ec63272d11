"""A small OpenID provider on loopback: real TLS, real keys, real codes; and whatever it is told to do wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.support.certificates import Authority

CLIENT, SECRET = "polyward", "a client's secret"


@dataclass
class Provider:
    """Its address, what it knows of whoever signs in next, and how its tokens differ from good ones."""

    issuer: str
    ca: Path
    claims: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)  # claims of the token that are not as they must be
    algorithm: str = "RS256"
    document: dict[str, Any] = field(default_factory=dict)  # of the discovery, likewise
    asked: dict[str, dict[str, str]] = field(default_factory=dict)  # by code
    rsa_key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    ec_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def sign_in(self, there: str) -> str:
        """What a person's browser does at the provider: signs in, and is sent back to the address that is returned."""
        query = dict(parse_qsl(urlsplit(there).query))
        assert query["client_id"] == CLIENT
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe(16)
        self.asked[code] = query
        return f"{query['redirect_uri']}?code={code}&state={query['state']}"

    def keys(self) -> dict[str, Any]:
        rsa_key = json.loads(RSAAlgorithm.to_jwk(self.rsa_key.public_key()))
        ec_key = json.loads(ECAlgorithm.to_jwk(self.ec_key.public_key()))
        return {"keys": [{**rsa_key, "kid": "rsa", "use": "sig"}, {**ec_key, "kid": "ec", "use": "sig"}]}

    def token(self, asked: dict[str, str]) -> str:
        """The statement for a code, signed as `algorithm` says; "HS256" takes the public key for a secret."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "subject-1",
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            **self.claims,
            **self.changed,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.algorithm == "none":
            return jwt.encode(claims, "", "none", headers={"kid": "rsa"})
        if self.algorithm == "HS256":
            return _signed_with_public_key(claims, json.dumps(self.keys()["keys"][0]).encode())
        if self.algorithm == "foreign":
            return jwt.encode(claims, rsa.generate_private_key(65537, 2048), "RS256", headers={"kid": "rsa"})
        if self.algorithm == "ES256":
            return jwt.encode(claims, self.ec_key, "ES256", headers={"kid": "ec"})
        return jwt.encode(claims, self.rsa_key, self.algorithm, headers={"kid": "rsa"})

    def answer(self, path: str, form: dict[str, str] | None, authorization: str) -> tuple[int, dict[str, Any]]:
        if path == "/.well-known/openid-configuration":
            ways = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
            known = {"issuer": self.issuer, **{name: self.issuer + way for name, way in ways.items()}}
            return 200, {**known, **self.document}
        if path == "/keys":
            return 200, self.keys()
        if path == "/token" and form is not None:
            asked = self.asked.pop(form["code"], None)
            basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            if asked is None or authorization != f"Basic {basic}" or form["redirect_uri"] != asked["redirect_uri"]:
                return 400, {"error": "invalid_grant"}
            challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
            if challenge.rstrip(b"=").decode() != asked["code_challenge"]:
                return 400, {"error": "invalid_grant"}
            return 200, {"id_token": self.token(asked), "access_token": "-", "token_type": "Bearer"}
        return 404, {}


@contextmanager
def oidc_provider(folder: Path) -> Iterator[Provider]:
    """Runs one; `folder` takes its certificate."""
    authority = Authority.create("Provider CA")
    for name, content in zip(("chain.pem", "key.pem"), authority.server(), strict=True):
        (folder / name).write_bytes(content)
    (folder / "provider-ca.pem").write_bytes(authority.pem)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._tell(*provider.answer(urlsplit(self.path).path, None, ""))

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(text).items()}
            self._tell(*provider.answer(self.path, form, self.headers.get("authorization", "")))

        def _tell(self, status: int, document: dict[str, Any]) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        provider = Provider(f"https://127.0.0.1:{server.server_port}", folder / "provider-ca.pem")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()


def _signed_with_public_key(claims: dict[str, Any], key: bytes) -> str:
    """By hand: libraries refuse to make such a token."""

    def encoded(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = encoded(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "rsa"}).encode())
    text = head + b"." + encoded(json.dumps(claims).encode())
    return (text + b"." + encoded(hmac.digest(key, text, "sha256"))).decode()
