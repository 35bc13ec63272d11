"""An OpenID provider, spoken to with the authorisation code flow and PKCE (RFC 6749, RFC 7636, OpenID Connect Core).

What it says is believed only when it is signed with one of its published keys (RS256 or ES256; nothing else, whatever
the token's own header asks for), for us, by it, now, and as the answer to the question that this browser asked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt

from polyward_server.hub_file import OpenId
from polyward_server.people.users import ROLES

ALGORITHMS = ("RS256", "ES256")
ASKED_SECONDS = 600.0  # a person may take so long at the provider
MOST_ASKED, MOST_ASKED_OF_ADDRESS = 1000, 50
LEEWAY_SECONDS = 60
KEYS_SECONDS = 60.0  # the keys are not fetched more often than this, whatever key a token names


class NotVouched(Exception):
    """The provider does not vouch for this; the sentence is for the person."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that a browser took to the provider."""

    nonce: str
    verifier: str
    back: str
    to: str
    browser: str  # what the browser's cookie must hold
    address: str  # that asked
    until: float  # monotonic seconds


@dataclass(frozen=True, slots=True)
class Vouched:
    """Who somebody is, as the provider says."""

    name: str
    role: str
    subject: str


class Provider:
    """The provider of `hub.toml`. May be used from any thread."""

    def __init__(self, file: OpenId, secret: Path) -> None:
        self.file = file
        self._secret = secret
        self._client = httpx.Client(timeout=10.0, verify=_trusting(file.authority))
        self._lock = threading.Lock()
        self._asked: dict[str, Asked] = {}
        self._document: dict[str, Any] = {}
        self._keys: dict[str, dict[str, Any]] = {}
        self._fetched = 0.0

    def ask(self, back: str, to: str, address: str) -> tuple[str, str]:
        """Where the browser goes to sign in, and the cookie that it must bring back. `back` is our own address.

        Whoever asks without end pushes out their own questions first, and not those of others.
        """
        state, nonce, verifier, browser = (secrets.token_urlsafe(32) for _ in range(4))
        endpoint = self._endpoint("authorization_endpoint")
        with self._lock:
            now = time.monotonic()
            self._asked = {key: each for key, each in self._asked.items() if each.until > now}
            theirs = [key for key, each in self._asked.items() if each.address == address]  # the oldest first
            if len(theirs) >= MOST_ASKED_OF_ADDRESS or len(self._asked) >= MOST_ASKED:
                self._asked.pop(theirs[0] if theirs else next(iter(self._asked)))
            self._asked[state] = Asked(nonce, verifier, back, to, browser, address, now + ASKED_SECONDS)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self.file.client_id,
            "redirect_uri": back,
            "scope": "openid profile email",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", browser

    def answered(self, state: str, code: str, browser: str) -> tuple[Vouched, str]:
        """Who it is, and where they wanted to go. A state is good once. Raises `NotVouched`."""
        with self._lock:
            asked = self._asked.pop(state, None)
        is_late = asked is None or asked.until < time.monotonic()
        if asked is None or is_late or not hmac.compare_digest(asked.browser.encode(), browser.encode()):
            raise NotVouched("this sign-in was not begun here, or has been used or waited too long: begin again")
        claims = self._verified(self._token(code, asked))
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), asked.nonce.encode()):
            raise NotVouched("the provider's answer is to another question: begin again")
        return self._vouched(claims), asked.to

    def _vouched(self, claims: dict[str, Any]) -> Vouched:
        given = _claim(claims, self.file.role_claim)
        values = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        roles = [self.file.roles[value] for value in values if isinstance(value, str) and value in self.file.roles]
        if not roles:
            raise NotVouched("your account has no role in this hub: ask whoever runs it to give you one")
        name = _claim(claims, self.file.name_claim)
        if not isinstance(name, str):
            raise NotVouched(f"the provider does not tell your name ({self.file.name_claim})")
        subject = hashlib.sha256(f"{self.file.issuer}\n{claims['sub']}".encode()).hexdigest()
        return Vouched(name.lower(), max(roles, key=ROLES.index), subject)

    def _token(self, code: str, asked: Asked) -> str:
        """The signed statement that the provider gives for the code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": asked.back,
            "code_verifier": asked.verifier,
        }
        secret = self._secret.read_text(encoding="utf-8").strip() if self._secret.exists() else ""
        who = httpx.BasicAuth(self.file.client_id, secret)
        try:
            answer = self._client.post(self._endpoint("token_endpoint"), data=form, auth=who).raise_for_status()
            token = answer.json()["id_token"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            raise NotVouched("the provider did not confirm the sign-in: begin again") from None
        return str(token)

    def _verified(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise NotVouched("the provider's answer is not signed as it must be")
            key = jwt.PyJWK(self._key(str(header.get("kid", ""))), header["alg"])
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=self.file.client_id,
                issuer=self.file.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "aud", "iss", "sub", "nonce"]},
            )
        except jwt.PyJWTError:
            raise NotVouched("the provider's answer is not signed by it, or not for this hub, or too old") from None
        if isinstance(claims["aud"], list) and claims.get("azp", self.file.client_id) != self.file.client_id:
            raise NotVouched("the provider's answer is for another program")
        return claims

    def _key(self, identifier: str) -> dict[str, Any]:
        """The provider's key of this name; of its only one, if the token names none."""
        with self._lock:
            stale = time.monotonic() - self._fetched > KEYS_SECONDS
        if identifier not in self._keys and (stale or not self._keys):
            found = self._fetch(self._endpoint("jwks_uri")).get("keys", [])
            keys = {str(key.get("kid", "")): key for key in found if key.get("use", "sig") == "sig"}
            with self._lock:
                self._keys, self._fetched = keys, time.monotonic()
        if not identifier and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if identifier not in self._keys:
            raise NotVouched("the provider's answer is signed with a key that it does not publish")
        return self._keys[identifier]

    def _endpoint(self, name: str) -> str:
        """One of the addresses that the provider publishes."""
        if not self._document:
            document = self._fetch(f"{self.file.issuer.rstrip('/')}/.well-known/openid-configuration")
            if document.get("issuer") != self.file.issuer:
                raise NotVouched("the provider calls itself by another name than hub.toml")
            self._document = document
        address = str(self._document.get(name, ""))
        if not address.startswith("https://"):
            raise NotVouched(f"the provider publishes no safe {name}")
        return address

    def _fetch(self, address: str) -> dict[str, Any]:
        try:
            document = self._client.get(address).raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            raise NotVouched("the provider does not answer: try again, or sign in with a password") from None
        return document if isinstance(document, dict) else {}


def _claim(claims: dict[str, Any], path: str) -> object:
    """The claim of this name; dots lead into claims of claims."""
    if path in claims:
        return claims[path]
    found: object = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _trusting(authority: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)
