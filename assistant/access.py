"""Who may use the server: holders of its key, of a client secret, and pages that may ask.

A client secret lets a browser begin one call without ever seeing the key. It is a random name
and the time at which it expires, signed (HMAC-SHA256) with a key that this process made for
itself; what it says of its session is kept here until it is used. So a secret proves by itself
that it was made here, and is looked up only then. A restart forgets all of them.
No clock here: `now` is in seconds since 1970.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import math
import reprlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from assistant.config import ServerConfig
from assistant.http_common import ApiError

KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""How a browser, which can set no headers on a websocket, presents what it has."""
_PREFIX = "ek_"
_NAME, _EXPIRY, _SIGNATURE = 20, 8, 32
"""Bytes of a secret's parts; together a multiple of three, for base64 without padding."""
_MOST = 1024
"""Secrets that wait to be used."""


@dataclass(frozen=True, slots=True)
class ClientSecret:
    value: str
    expires_at: int
    """Seconds since 1970."""

    def __repr__(self) -> str:
        return f"ClientSecret('***', expires_at={self.expires_at})"


class Access:
    """Lets requests pass, or raises ApiError; what it says never holds what was presented."""

    def __init__(self, server: ServerConfig) -> None:
        self._key = str(server.api_key)
        self._origins = {origin.rstrip("/").lower() for origin in server.allowed_origins}
        self._signing = secrets.token_bytes(32)
        self._unused: dict[bytes, dict[str, Any]] = {}
        """What each secret that was not used yet says of its session."""

    def check(self, headers: Mapping[str, str]) -> None:
        """Let a holder of the server's key pass; where there is none, everybody near."""
        self.check_origin(headers)
        given = _presented(headers, ())
        if self._key and not self._has_key(given):
            raise _unknown(given)

    def admit(
        self, headers: Mapping[str, str], subprotocols: Sequence[str], now: float
    ) -> dict[str, Any]:
        """Let a call pass; answers what its client secret says of the session.

        The secret is used up by that, whatever becomes of the call."""
        self.check_origin(headers)
        given = _presented(headers, subprotocols)
        if self._has_key(given):
            return {}
        for candidate in given:
            if candidate.startswith(_PREFIX):
                return self._redeem(candidate, now)
        if self._key:
            raise _unknown(given)
        return {}

    def issue(self, session: dict[str, Any], seconds: int, now: float) -> ClientSecret:
        """A secret for one call, whose session begins with `session`."""
        self._unused = {body: kept for body, kept in self._unused.items() if _expiry(body) > now}
        if len(self._unused) >= _MOST:
            message = f"{_MOST} client secrets wait to be used; let some of them expire"
            raise ApiError(429, message, code="too_many_client_secrets")
        expires_at = math.ceil(now) + seconds
        body = secrets.token_bytes(_NAME) + expires_at.to_bytes(_EXPIRY)
        self._unused[body] = session
        value = base64.urlsafe_b64encode(body + self._signature(body)).decode()
        return ClientSecret(_PREFIX + value, expires_at)

    def _redeem(self, secret: str, now: float) -> dict[str, Any]:
        try:
            token = base64.urlsafe_b64decode(secret.removeprefix(_PREFIX))
        except (binascii.Error, ValueError):
            token = b""
        body, signature = token[:-_SIGNATURE], token[-_SIGNATURE:]
        if not hmac.compare_digest(signature, self._signature(body)):
            message = "expected a client secret of this server, got another one"
            raise ApiError(401, message, code="invalid_client_secret")
        if now >= _expiry(body):
            message = f"the client secret expired {now - _expiry(body):.0f} s ago"
            raise ApiError(401, message, code="client_secret_expired")
        session = self._unused.pop(body, None)
        if session is None:
            message = "the client secret has been used; each begins one call"
            raise ApiError(401, message, code="client_secret_used")
        return session

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._signing, body, hashlib.sha256)

    def _has_key(self, given: Sequence[str]) -> bool:
        # Every candidate is compared, each in constant time.
        matches = [hmac.compare_digest(one.encode(), self._key.encode()) for one in given]
        return bool(self._key) and any(matches)

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises ApiError for a page that may not ask.

        Browsers name the page that asks in Origin; other clients send none.

        Without a key the danger is any page that the user happens to have open, under a name
        that its owner may let point here: then only names of this machine are trusted. With a
        key, a page that the server itself gave out may ask."""
        origin = headers.get("origin", "").lower()
        if not origin or origin in self._origins:
            return
        if self._key:
            allowed = urlsplit(origin).netloc == headers.get("host", "").lower()
        else:
            allowed = _is_local(urlsplit(origin).hostname or "")
        if not allowed:
            whose = "this server's own page" if self._key else "a page of this machine"
            message = f"expected {whose} or one of server.allowed_origins in Origin, got "
            raise ApiError(403, message + reprlib.repr(origin), code="origin_not_allowed")


def _presented(headers: Mapping[str, str], subprotocols: Sequence[str]) -> list[str]:
    given = [headers.get("api-key", ""), headers.get("authorization", "").removeprefix("Bearer ")]
    offered = [name for name in subprotocols if name.startswith(KEY_SUBPROTOCOL)]
    return given + [name.removeprefix(KEY_SUBPROTOCOL) for name in offered]


def _unknown(given: Sequence[str]) -> ApiError:
    came = "another one" if any(given) else "none"
    return ApiError(401, f"expected the server's API key, got {came}", code="invalid_api_key")


def _expiry(body: bytes) -> int:
    return int.from_bytes(body[-_EXPIRY:])


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
