"""Client secrets, origins, keys and TLS: who is let in, and that no log says what they showed."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from assistant.access import Access
from assistant.config import Config, ConfigError, Secret, ServerConfig, load_config
from assistant.engines import LoadError
from assistant.http_common import ApiError
from assistant.metrics import wall
from assistant.server import serve
from tests.loopback import NamedEngines, serving
from tests.test_server import KEY, running

NOW = 1000.5
HOST = {"host": "conch.example"}


def access(key: str = KEY, **settings: Any) -> Access:
    return Access(ServerConfig(api_key=Secret(key), **settings))


def bearer(secret: str, **headers: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {secret}", **headers}


def refusal(gate: Access, headers: Mapping[str, str], now: float = NOW) -> tuple[int, str]:
    with pytest.raises(ApiError) as refused:
        gate.admit(headers, (), now)
    return refused.value.status, refused.value.code


# --- pure -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, ""])
def test_a_secret_begins_one_call_with_its_session(key: str) -> None:
    gate = access(key)
    session = {"instructions": "be brief"}
    secret, other = gate.issue(session, 60, NOW), gate.issue({}, 60, NOW)
    assert secret.expires_at == 1061
    assert secret.value != other.value
    offered = ["realtime", f"openai-insecure-api-key.{secret.value}"]
    assert gate.admit({}, offered, NOW + 60) == session
    assert refusal(gate, bearer(secret.value)) == (401, "client_secret_used")
    assert gate.admit({"api-key": other.value}, (), NOW) == {}


def test_an_expired_or_a_forged_secret_is_refused() -> None:
    gate = access()
    secret = gate.issue({}, 60, NOW).value
    assert refusal(gate, bearer(secret), NOW + 61) == (401, "client_secret_expired")
    flipped = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    for forged in (flipped, secret[:40], "ek_", "ek_%", "ek_ü", access().issue({}, 60, NOW).value):
        assert refusal(gate, bearer(forged)) == (401, "invalid_client_secret")
    assert gate.admit(bearer(secret), (), NOW) == {}


def test_a_secret_opens_calls_only_and_shows_nowhere() -> None:
    gate = access()
    secret = gate.issue({}, 60, NOW)
    with pytest.raises(ApiError, match="expected the server's API key, got another one"):
        gate.check(bearer(secret.value))
    gate.check(bearer(KEY))
    assert secret.value not in repr(secret)


def test_unused_secrets_are_bounded_and_make_room_as_they_expire() -> None:
    gate = access()
    for _ in range(1024):
        gate.issue({}, 60, NOW)
    with pytest.raises(ApiError, match="let some of them expire") as refused:
        gate.issue({}, 60, NOW)
    assert refused.value.status == 429
    assert gate.issue({}, 60, NOW + 61).expires_at == 1122


@pytest.mark.parametrize(
    ("origin", "without_key", "with_key"),
    [
        ("", True, True),
        ("http://127.0.0.1:8470", True, False),
        ("http://[::1]:3000", True, False),
        ("http://app.localhost", True, False),
        ("https://conch.example", False, True),
        ("https://CONCH.example", False, True),
        ("https://conch.example:444", False, False),
        ("https://app.example", True, True),
        ("http://app.example", False, False),
        ("https://app.example.evil", False, False),
        ("https://evil.example", False, False),
        ("null", False, False),
    ],
)
def test_which_pages_may_ask(origin: str, without_key: bool, with_key: bool) -> None:
    headers = {**HOST, **({"origin": origin} if origin else {}), **bearer(KEY)}
    for key, allowed in (("", without_key), (KEY, with_key)):
        gate = access(key, allowed_origins=("https://app.example/",))
        if allowed:
            gate.check(headers)
            assert gate.admit(headers, (), NOW) == {}
        else:
            assert refusal(gate, headers) == (403, "origin_not_allowed")
            with pytest.raises(ApiError, match="one of server.allowed_origins in Origin"):
                gate.check(headers)


def test_origins_come_from_a_list_or_from_text(tmp_path: Path) -> None:
    file = tmp_path / "conch.toml"
    file.write_text('[server]\nallowed_origins = ["https://a"]')
    assert load_config(file, {}, {}).server.allowed_origins == ("https://a",)
    environ = {"CONCH_SERVER_ALLOWED_ORIGINS": "https://a, https://b"}
    assert load_config(file, environ, {}).server.allowed_origins == ("https://a", "https://b")
    with pytest.raises(ConfigError, match="tls_key: expected a file beside server.tls_cert"):
        load_config(None, {}, {"server.tls_cert": "cert.pem"})


# --- over the wire ----------------------------------------------------------------------------


async def test_a_secret_from_http_to_the_call(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(api_key=Secret(KEY)) as server, httpx.AsyncClient() as client:
        url = f"http://{server.host}/v1/realtime/client_secrets"
        session = {"type": "realtime", "instructions": "be brief"}
        answer = await client.post(url, json={"session": session}, headers=bearer(KEY))
        assert answer.headers["cache-control"] == "no-store"
        made = answer.json()
        assert made["session"]["instructions"] == "be brief"
        assert made["session"]["audio"]["output"]["format"]["type"] == "audio/pcm"
        assert 50 < made["expires_at"] - wall() < 62
        protocols = ["realtime", f"openai-insecure-api-key.{made['value']}"]
        async with server.call(subprotocols=protocols) as call:
            assert call.subprotocol == "realtime"
            await call.send("hi")
            await call.recv()
        assert [call.session for call in server.calls] == [session]

        expired = server.server.service.access.issue({}, 60, wall() - 61).value
        for secret, code in (
            (made["value"], "client_secret_used"),
            (expired, "client_secret_expired"),
            (made["value"] + "AAAA", "invalid_client_secret"),
            ("sk-wrong", "invalid_api_key"),
        ):
            with pytest.raises(InvalidStatus) as refused:
                await server.call(subprotocols=[f"openai-insecure-api-key.{secret}"])
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body)["error"]["code"] == code
        with pytest.raises(InvalidStatus) as refused:
            await server.call(origin="https://evil.example", additional_headers=bearer(KEY))
        assert refused.value.response.status_code == 403
        answer = await client.post(url, headers=bearer(expired))
        assert answer.status_code == 401
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("assistant")]
    refusals = [line for line in ours if "127.0.0.1 was refused" in line]
    assert len(refusals) == 6
    assert "/v1/realtime/client_secrets from 127.0.0.1 was refused" in refusals[-1]
    everything = [r.getMessage() for r in caplog.records if "client" not in r.name]
    for secret in (KEY, made["value"], expired, "sk-wrong"):
        assert not any(secret in line for line in everything)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"expires_after": {"seconds": 9}}, ">= 10"),
        ({"expires_after": {"seconds": 7201}}, "<= 7200"),
        ({"expires_after": {"anchor": "used_at"}}, "used_at"),
        ({"session": {"type": "transcription"}}, "expected 'realtime'"),
        ({"session": {"audio": {"output": {"speed": 9}}}}, "session.audio.output.speed"),
        ({"session": json.loads('{"a":' * 70 + "1" + "}" * 70)}, "at most 64 levels"),
        ([], "expected a client secret request"),
    ],
)
async def test_a_bad_request_for_a_secret_says_what_was_expected(body: Any, message: str) -> None:
    async with running() as server, httpx.AsyncClient() as client:
        url = f"http://{server.host}/v1/realtime/client_secrets"
        answer = await client.post(url, json=body)
        assert answer.status_code == 400
        assert message in answer.json()["error"]["message"]


@pytest.mark.client
async def test_the_openai_client_makes_a_secret_and_calls_with_it() -> None:
    config = Config(server=ServerConfig(port=0, api_key=Secret(KEY)))
    async with serving(NamedEngines(), config) as server:
        base = f"http://{server.host}/v1"
        async with openai.AsyncOpenAI(base_url=base, api_key=KEY) as backend:
            made = await backend.realtime.client_secrets.create(
                expires_after={"anchor": "created_at", "seconds": 30},
                session={"type": "realtime", "instructions": "be brief", "tools": []},
            )
        assert made.value.startswith("ek_")
        assert made.session.type == "realtime"
        async with (
            openai.AsyncOpenAI(base_url=base, api_key=made.value) as page,
            page.realtime.connect(model="any") as call,
        ):
            created = await call.recv()
            assert created.type == "session.created"
            assert created.session.type == "realtime"
            assert created.session.instructions == "be brief"


async def test_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    config = Config(server=ServerConfig(port=0, tls_cert=str(cert), tls_key=str(key)))
    trusting = ssl.create_default_context(cafile=cert)
    async with serving(NamedEngines(), config) as server:
        async with connect(f"wss://{server.host}/v1/realtime", ssl=trusting) as call:
            assert json.loads(await call.recv())["type"] == "session.created"
        async with httpx.AsyncClient(verify=trusting) as client:
            assert (await client.get(f"https://{server.host}/healthz")).status_code == 200


def test_a_certificate_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    config = Config(server=ServerConfig(port=0, tls_cert=missing, tls_key=missing))
    with pytest.raises(LoadError, match="server.tls_cert, server.tls_key: .*none.pem"):
        serve(config)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "conch")])
    begins = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins.replace(year=2100))
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files
