"""The command line: what a user reads when things go well, and in one line when they do not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from assistant import audiofile
from assistant.cli import app
from assistant.models import Catalogue
from speech.interfaces import RATE, Audio, Speech, SpeechError, Transcript, Voice

COMMANDS = (
    "serve",
    "wyoming",
    "call",
    "kiosk",
    "demo",
    "say",
    "transcribe",
    "chat",
    "replay",
    "models",
)


@pytest.fixture(autouse=True)
def _no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "200")


def conch(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="conch")


def failure(*arguments: str) -> str:
    """The one line that a failing command leaves, all of it on standard error."""
    result = conch(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("conch: ")
    return line


def test_help_names_every_command() -> None:
    result = conch("--help")
    assert result.exit_code == 0
    assert [command for command in COMMANDS if command not in result.stdout] == []


def test_help_loads_no_slow_library() -> None:
    code = (
        "import sys; from assistant.cli import app; app(['--help'], standalone_mode=False);"
        "sys.exit(', '.join({'numpy', 'onnxruntime', 'starlette', 'torch'} & {*sys.modules}) or 0)"
    )
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_usage_error_exits_with_two() -> None:
    assert conch("serve", "--port", "many").exit_code == 2
    assert conch("models", "fetch", "--source", "moon").exit_code == 2
    assert conch("say", "Hello.", "-o", "hello.txt").exit_code == 2


def test_a_setting_out_of_range_is_named() -> None:
    line = failure("serve", "--port", "70000")
    assert "server.port" in line
    assert "70000" in line


def test_an_address_that_others_reach_needs_a_key() -> None:
    assert "API key" in failure("serve", "--host", "0.0.0.0")


def test_a_config_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere.toml" in failure("chat", "--config", str(tmp_path / "nowhere.toml"))


def test_a_recording_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nothing.wav"
    assert failure("transcribe", str(missing)) == f"conch: {missing}: No such file or directory"


def test_a_recording_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.wav").write_text("Dear Conch,")
    assert "letter.wav: expected WAV, FLAC, Ogg or MP3" in failure(
        "transcribe", str(tmp_path / "letter.wav")
    )


def test_models_list_shows_every_model_as_not_here() -> None:
    catalogue = Catalogue.load()
    result = conch("models", "list")
    assert result.exit_code == 0
    rows = [line for line in result.stdout.splitlines() if "│" in line]
    for name in catalogue.names():
        (row,) = (row for row in rows if row.split("│")[1].strip() == name)
        assert "no" in [cell.strip() for cell in row.split("│")]


def test_the_path_of_a_model_that_is_not_here_says_how_to_get_it() -> None:
    assert "conch models fetch silero-vad" in failure("models", "path", "silero-vad")


def test_an_unknown_model_is_named_with_the_known_ones() -> None:
    for command in ("path", "fetch"):
        line = failure("models", command, "gpt-9")
        assert "gpt-9" in line
        assert "whisper-base" in line


class Beeper:
    """A synthesiser: every letter of the text is 10 ms of sound."""

    sample_rate = 8000
    voices: tuple[Voice, ...] = ()

    def __init__(self, path: Path, threads: int) -> None:
        pass

    def synthesize(self, text: str, *, voice: str = "", speed: float = 1.0) -> Iterator[Speech]:
        for _ in filter(str.isalpha, text):
            yield Speech(np.full(round(80 / speed), 1000, np.int16))


class Stopwatch:
    """A recogniser: the words are how many seconds it was given."""

    def __init__(self, path: Path, threads: int) -> None:
        pass

    def transcribe(
        self, audio: Audio, *, language: str = "", context: str = "", word_times: bool = False
    ) -> Transcript:
        return Transcript(f"{len(audio) / RATE:.0f} seconds")


@pytest.fixture
def _own_engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONCH_TTS_ENGINE", f"{__name__}:Beeper")
    monkeypatch.setenv("CONCH_TTS_PIPER_MODEL", str(tmp_path))
    monkeypatch.setenv("CONCH_ASR_ENGINE", f"{__name__}:Stopwatch")
    monkeypatch.setenv("CONCH_ASR_MODEL", str(tmp_path))


@pytest.mark.usefixtures("_own_engines")
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_say_writes_what_was_spoken(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"hello.{suffix}"
    assert conch("say", "Hello.", "-o", str(out), "--speed", "2").exit_code == 0
    pcm, rate = soundfile.read(out, dtype="int16")
    assert (rate, pcm.tolist()) == (8000, [1000] * 5 * 40)


@pytest.mark.usefixtures("_own_engines")
def test_say_leaves_no_file_of_a_text_without_sound(tmp_path: Path) -> None:
    result = conch("say", "...", "-o", str(tmp_path / "x.wav"))
    assert result.exit_code == 1
    assert result.stderr.endswith("conch: expected a text that can be spoken, got '...'\n")
    assert not (tmp_path / "x.wav").exists()


@pytest.mark.usefixtures("_own_engines")
def test_a_long_recording_is_transcribed_in_pieces_that_hold_all_of_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.full(8000 * 62, 0.1), 8000)
    result = conch("transcribe", str(tmp_path / "long.wav"))
    assert result.exit_code == 0
    seconds = [int(line.split()[0]) for line in result.stdout.splitlines()]
    assert len(seconds) > 2
    assert max(seconds) < 30
    assert abs(sum(seconds) - 62) <= 1


def test_a_recording_of_any_rate_and_width_is_heard_whole(tmp_path: Path) -> None:
    stereo = np.zeros((44_100 * 25, 2), np.float32)
    stereo[:, 0] = 0.5
    soundfile.write(tmp_path / "x.flac", stereo, 44_100)
    audio = audiofile.read(tmp_path / "x.flac")
    assert abs(len(audio) - 25 * RATE) <= 1
    assert np.allclose(audio[RATE:-RATE], 0.25, atol=1e-3)


def test_a_recording_that_is_no_audio_is_a_speech_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"RIFF")
    with pytest.raises(SpeechError, match="x: expected"):
        audiofile.read(tmp_path / "x")


def test_where_home_assistant_is_to_be_served_must_be_an_address() -> None:
    line = failure("wyoming", "--uri", "http://x")
    assert line == "conch: --uri: expected tcp://HOST:PORT or unix://PATH, got 'http://x'"


def test_half_of_what_tls_needs_is_refused() -> None:
    line = failure("serve", "--tls-cert", "cert.pem")
    assert "server.tls_key: expected a file beside server.tls_cert, got none" in line


def test_a_call_to_nobody_is_one_line(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hello.wav", np.full(800, 0.1), 8000)
    line = failure("call", "--server", "http://127.0.0.1:1", "--wav", str(tmp_path / "hello.wav"))
    assert line.startswith("conch: expected a server at ws://127.0.0.1:1/v1/realtime: ")
    assert "expected a server as in http" in failure("kiosk", "--server", "ftp://x")
    assert conch("call", "-o", "out.wav").exit_code == 2
