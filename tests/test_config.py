from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec.structs import asdict

from assistant.config import Config, ConfigError, ServerConfig, is_loopback, load_config

ROOT = Path(__file__).parent.parent


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "conch.toml"
    path.write_text(text)
    return path


def test_later_sources_win(tmp_path: Path) -> None:
    path = write(tmp_path, "[server]\nport = 1\nmax_calls = 2\n[tts]\nspeed = 2\n")
    environ = {"CONCH_SERVER_PORT": "3", "CONCH_SERVER_MAX_CALLS": "5", "CONCH_MODELS": "/m"}
    config = load_config(path, environ, {"server.port": 4, "server.host": None})
    assert config.server == ServerConfig(port=4, max_calls=5)
    assert config.tts.speed == 2.0


def test_variables_of_others_are_left_alone() -> None:
    kubernetes = {"CONCH_SERVICE_HOST": "10.0.0.1", "CONCH_PORT": "tcp://x", "SERVER_PORT": "x"}
    assert load_config(None, kubernetes, {}) == Config()


@pytest.mark.parametrize(
    ("text", "key", "expected", "got"),
    [
        ("[server]\nport = '80'", "server.port", "expected int", "'80'"),
        ("[server]\nport = 70000", "server.port", "<= 65535", "70000"),
        ("[server]\nport = true", "server.port", "expected int", "True"),
        ("[server]\nmax_calls = 0", "server.max_calls", ">= 1", "0"),
        ("[llm]\nthreads = 0", "llm.threads", ">= 1", "0"),
        ("[turns]\nvad_threshold = 1.5", "turns.vad_threshold", "<= 1.0", "1.5"),
        ("[turns]\nvad_threshold = nan", "turns.vad_threshold", "float >= 0.0", "nan"),
        ("[turns]\npause_ms = -1", "turns.pause_ms", ">= 32", "-1"),
        ("[asr]\nmodel = ''", "asr.model", "length >= 1", "''"),
        ("[server]\nprot = 1", "server.prot", "expected one of host, port", ""),
        ("[sever]\nport = 1", "[sever]", "expected one of server, vad", ""),
        ("server = 1", "server", "expected a table", "1"),
        ("[server\nport = 1", "", "expected TOML", ""),
    ],
)
def test_a_wrong_file_names_file_key_expected_and_got(
    tmp_path: Path, text: str, key: str, expected: str, got: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {}, {})
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert key in message
    assert expected in message
    assert message.endswith(f"got {got}") or not got


def test_wrong_variable_flag_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"environment CONCH_ASR_THREADS: asr.threads: .*'two'"):
        load_config(None, {"CONCH_ASR_THREADS": "two"}, {})
    with pytest.raises(ConfigError, match=r"environment CONCH_ASR_THREAD: unknown key asr.thread"):
        load_config(None, {"CONCH_ASR_THREAD": "2"}, {})
    with pytest.raises(ConfigError, match=r"flag sever.port: unknown section 'sever'"):
        load_config(None, {}, {"sever.port": 1})
    with pytest.raises(ConfigError, match=r"none.toml: cannot read the configuration"):
        load_config(tmp_path / "none.toml", {}, {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "conch.example"])
def test_an_open_host_needs_a_key(host: str) -> None:
    with pytest.raises(ConfigError, match=r"--api-key or CONCH_SERVER_API_KEY"):
        load_config(None, {}, {"server.host": host})
    config = load_config(None, {"CONCH_SERVER_API_KEY": "k"}, {"server.host": host})
    assert config.server.api_key == "k"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    assert is_loopback(host)
    assert load_config(None, {}, {"server.host": host}).server.host == host


def test_keys_never_show(tmp_path: Path) -> None:
    environ = {"CONCH_SERVER_API_KEY": "hush-1", "CONCH_LLM_API_KEY": "hush-2"}
    config = load_config(None, environ, {})
    assert (config.server.api_key, config.llm.api_key) == ("hush-1", "hush-2")
    assert "hush" not in repr(config)
    assert repr(config).count("'***'") == 2
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "[llm]\napi_key = 123456"), {}, {})
    assert "123456" not in str(caught.value)
    assert "llm.api_key: expected str" in str(caught.value)


def test_the_documented_table_is_the_structs() -> None:
    text = (ROOT / "docs" / "config.md").read_text()
    rows = re.findall(r"^\| `([a-z_.]+)` \| `(.*?)` \|", text, flags=re.MULTILINE)
    actual = {
        f"{section}.{key}": json.dumps(value)
        for section, table in asdict(Config()).items()
        for key, value in asdict(table).items()
    }
    assert dict(rows) == actual
    assert len(rows) == len(actual)
