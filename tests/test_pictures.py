"""Pictures in a call: read to a model that is blind, given to one that sees."""

from __future__ import annotations

import base64
import logging
from typing import Any

import pytest

from assistant.config import Config, LlmConfig, OcrConfig
from assistant.engines import LoadError, _load_reader
from assistant.pictures import PictureError, RapidReader, content
from llm.interfaces import Message
from llm.wire import encode_message
from tests.calls import Client, call, message
from tests.fakes import Event, FakeEngines, FakeReader


def shown(*files: str, text: str = "What is this?") -> Event:
    pictures = [{"type": "input_image", "image_url": url(file.encode())} for file in files]
    item = message(text)
    return {**item, "content": [*item["content"], *pictures]}


def url(file: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def asked(item: Event, engines: FakeEngines, *more: tuple[str, dict[str, Any]]) -> Client:
    """A call in which the item is shown and an answer to it asked for at once."""

    async def script(client: Client) -> None:
        client.tell("conversation.item.create", item=item, event_id="mine")
        client.tell("response.create", response={"output_modalities": ["text"]})
        for kind, fields in more:
            client.tell(kind, **fields)
        await client.until("response.done")

    return call(script, engines=engines)


def reading(cost: float = 3.0) -> FakeEngines:
    engines = FakeEngines(cost=cost)
    engines.reader = FakeReader()
    return engines


def prompt(client: Client) -> Message:
    return client.engines.llm.prompts[-1].messages[-1]


def test_the_answer_waits_until_the_text_has_been_read() -> None:
    item = {**shown("OPEN 9 to 5"), "id": "sign"}
    client = asked(item, reading(), ("conversation.item.retrieve", {"item_id": "sign"}))
    assert client.when("response.done") > 3.0
    assert client.when("conversation.item.done") < 1.0
    assert prompt(client).content == (
        "What is this?\n[The caller shows a picture. You cannot see it, only the text in it has "
        "been read for you:\nOPEN 9 to 5\n]"
    )
    assert prompt(client).images == ()
    (added,) = client.all("conversation.item.added")[:1]
    assert added["item"]["content"][1]["image_url"] == url(b"OPEN 9 to 5")


def test_a_picture_without_text_and_several_pictures() -> None:
    client = asked(shown("", "two", "three"), reading(0.1))
    assert prompt(client).content.count("The caller shows a picture") == 3
    assert "there is no text in it to read" in prompt(client).content
    assert prompt(client).content.index("two") < prompt(client).content.index("three")


def test_of_a_long_text_the_beginning_is_kept() -> None:
    client = asked(shown("x" * 5000), reading(0.1))
    assert "x" * 4000 + " ...\n" in prompt(client).content
    assert "x" * 4001 not in prompt(client).content


def test_the_picture_is_not_kept_and_its_text_can_be_retrieved() -> None:
    async def script(client: Client) -> None:
        client.tell("conversation.item.create", item={**shown("words"), "id": "sign"})
        await client.quiet(1.0)
        client.tell("conversation.item.retrieve", item_id="sign")
        await client.until("conversation.item.retrieved")

    client = call(script, engines=reading(0.1))
    (retrieved,) = client.all("conversation.item.retrieved")
    assert retrieved["item"]["content"][1] == {"type": "input_image", "text": "words"}


def test_a_picture_that_cannot_be_read_is_an_error_and_the_others_are_read() -> None:
    client = asked(shown("bad", "good"), reading(0.1))
    (error,) = (event["error"] for event in client.all("error"))
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "invalid_value"
    assert error["param"] == "item.content[1].image_url"
    assert error["event_id"] == "mine"
    assert error["message"].endswith("expected a whole picture, got one with: a hole")
    assert "You cannot see it.]" in prompt(client).content
    assert "good" in prompt(client).content


def test_without_a_reader_the_model_knows_that_there_is_a_picture() -> None:
    client = asked(shown("text"), FakeEngines())
    assert prompt(client).content == (
        "What is this?\n[The caller shows a picture. You cannot see it.]"
    )


def test_a_model_that_sees_is_given_the_picture() -> None:
    engines = reading(0.1)
    engines.sees = True
    client = asked(shown("pixels"), engines)
    said = prompt(client)
    assert (said.content, said.images) == ("What is this?", (url(b"pixels"),))
    assert encode_message(said) == {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": url(b"pixels")}},
        ],
    }


@pytest.mark.parametrize(
    "given",
    ["https://example.com/a.png", "file:///etc/passwd", "data:text/plain;base64,AA==", "AA==", ""],
)
def test_nothing_is_fetched(given: str) -> None:
    item = shown()
    item["content"].append({"type": "input_image", "image_url": given})
    client = asked(item, reading())
    (error,) = (event["error"] for event in client.all("error"))
    assert error["code"] == "invalid_value"
    assert error["param"] == "item.content[1].image_url"
    assert "expected data:image/...;base64,..." in error["message"]
    added = [event["item"]["role"] for event in client.all("conversation.item.added")]
    assert added == ["assistant"]


def test_a_data_url_is_its_file() -> None:
    assert content(url(b"\x00\x01", "svg+xml")) == b"\x00\x01"
    with pytest.raises(PictureError, match="expected a picture in base64"):
        content("data:image/png;base64,?")


def test_which_reader_there_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(_load_reader(Config()), RapidReader)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    caplog.set_level(logging.INFO)
    assert _load_reader(Config()) is None
    assert "expected the package rapidocr" in caplog.text
    with pytest.raises(LoadError, match="expected one of rapidocr"):
        _load_reader(Config(ocr=OcrConfig(engine="other"), llm=LlmConfig()))
