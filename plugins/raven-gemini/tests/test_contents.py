"""The conversation as Google takes it: speakers, calls and their results, signatures, pictures."""

from __future__ import annotations

from typing import Any

import pytest

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from .builders import Json, assistant, call, result, user, write

PNG = "iVBORw0KGgo="


def test_instructions_are_hoisted_and_speakers_alternate() -> None:
    """System and developer texts wherever they stand; neighbours of one role become one turn."""
    body = write(
        hub.Message(role="system", parts=[hub.Text(text="One.")]),
        user("a"),
        hub.Message(role="developer", parts=[hub.Text(text="Two."), hub.Text(text="")]),
        user("b"),
        assistant("c"),
        assistant(""),
        user("d"),
    )
    assert body["systemInstruction"] == {"parts": [{"text": "One."}, {"text": "Two."}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}]},
        {"role": "user", "parts": [{"text": "d"}]},
    ]


def test_a_turn_with_nothing_in_it_is_left_out() -> None:
    """And its neighbours become one."""
    body = write(user("a"), assistant(""), user("b"))
    assert body["contents"] == [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]
    with pytest.raises(InvalidRequest) as error:
        write(user(""))
    assert error.value.param == "messages"


def test_instructions_alone_are_a_question_and_gemma_has_no_place_for_them() -> None:
    """Google wants contents; Gemma refuses system instructions."""
    system = hub.Message(role="system", parts=[hub.Text(text="Be brief.")])
    assert write(system)["contents"] == [{"role": "user", "parts": [{"text": "Be brief."}]}]
    body = write(system, user("Hi"), model="gemma-3-27b-it")
    assert "systemInstruction" not in body
    assert body["contents"] == [{"role": "user", "parts": [{"text": "Be brief."}, {"text": "Hi"}]}]
    body = write(system, assistant("Hello"), model="gemma-3-27b-it")
    assert [content["role"] for content in body["contents"]] == ["user", "model"]


def test_results_name_their_functions_and_follow_their_calls() -> None:
    """In the order of the calls, in one user turn, with what the user says behind them; 2.5 has no ids."""
    body = write(
        user("?"),
        assistant(call("c1", "f", '{"a":1}'), call("c2", "f")),
        result("c2", "two"),
        result("c1", '{"temperature": 71}'),
        user("And?"),
    )
    assert body["contents"][1]["parts"] == [
        {"functionCall": {"name": "f", "args": {"a": 1}}},
        {"functionCall": {"name": "f", "args": {}}},
    ]
    assert body["contents"][2] == {
        "role": "user",
        "parts": [
            {"functionResponse": {"name": "f", "response": {"temperature": 71}}},
            {"functionResponse": {"name": "f", "response": {"output": "two"}}},
            {"text": "And?"},
        ],
    }


@pytest.mark.parametrize(
    ("text", "response"),
    [
        ("sunny", {"output": "sunny"}),
        ("", {"output": ""}),
        ("[1]", {"output": "[1]"}),
        ("{broken", {"output": "{broken"}),
        ("{}", {"output": "{}"}),
        ('{"a": 1}', {"a": 1}),
        ('{"output": 1, "more": 2}', {"output": '{"output": 1, "more": 2}'}),
        ('{"error": null}', {"output": '{"error": null}'}),
        ('{"id": 12345678901234567890}', {"output": '{"id": 12345678901234567890}'}),
    ],
)
def test_a_result_is_an_object_that_loses_nothing(text: str, response: Json) -> None:
    """Objects as they are, unless a key or a number would come to mean something else."""
    body = write(user("?"), assistant(call("c")), result("c", text))
    assert body["contents"][2]["parts"][0]["functionResponse"]["response"] == response


def test_a_failed_result_is_an_error() -> None:
    """Only where the client's dialect says so."""
    body = write(user("?"), assistant(call("c")), result("c", "no", is_error=True, name="g"))
    assert body["contents"][2]["parts"][0] == {"functionResponse": {"name": "g", "response": {"error": "no"}}}


def test_images_in_results_go_where_the_model_takes_them() -> None:
    """Gemini 3 inside the result, older ones behind all results."""
    image = hub.Image(media=hub.Media(data=PNG))
    turns = (user("?"), assistant(call("c1"), call("c2")), result("c1", "a", image), result("c2", "b"))
    inline = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    old = write(*turns)["contents"][2]["parts"]
    assert [next(iter(part)) for part in old] == ["functionResponse", "functionResponse", "inlineData"]
    new = write(*turns, model="gemini-3-flash-preview")["contents"][2]["parts"]
    assert new[0]["functionResponse"]["parts"] == [inline]
    assert new[0]["functionResponse"]["id"] == "c1"


def test_signatures_go_back_to_google_and_others_do_not() -> None:
    """A call's own, the remembered one, or the word that Google takes in their place."""
    third = "gemini-3-pro-preview"

    def signature(part: hub.ToolCall, model: str = third, recall: Any = None) -> Any:
        body = write(user("?"), assistant(part), result(part.id, "x"), model=model, recall=recall)
        return body["contents"][1]["parts"][0].get("thoughtSignature")

    assert signature(call("c", signature="U0lH", format="google")) == "U0lH"
    assert signature(call("c"), recall={"c": "S0VQVA=="}.get) == "S0VQVA=="
    assert signature(call("c", signature="other", format="anthropic")) == "skip_thought_signature_validator"
    assert signature(call("c")) == "skip_thought_signature_validator"
    assert signature(call("c"), model="gemini-2.5-pro") is None
    assert signature(call("c", signature="U0lH", format="google"), model="gemini-2.5-pro") == "U0lH"


def test_only_the_first_of_parallel_calls_needs_a_signature() -> None:
    """As Google gives them."""
    turns = (user("?"), assistant(call("a"), call("b")), result("a", "1"), result("b", "2"))
    first, second = write(*turns, model="gemini-3-flash-preview")["contents"][1]["parts"]
    assert first["thoughtSignature"] == "skip_thought_signature_validator"
    assert "thoughtSignature" not in second
    assert (first["functionCall"]["id"], second["functionCall"]["id"]) == ("a", "b")


def test_thoughts_go_back_only_to_who_thought_them() -> None:
    """Google's thoughts with the signature on the text that it came with; others' are left out."""
    body = write(
        user("?"),
        assistant(
            hub.Reasoning(text="hm", format="google"),
            "Hello",
            hub.Reasoning(signature="U0lH", format="google"),
            hub.Reasoning(text="secret", signature="x", format="anthropic"),
            hub.Reasoning(text="nobody's"),
        ),
        user("Go on"),
    )
    assert body["contents"][1]["parts"] == [
        {"text": "hm", "thought": True},
        {"text": "Hello", "thoughtSignature": "U0lH"},
    ]
    alone = write(user("?"), assistant(hub.Reasoning(signature="U0lH", format="google")), user("!"))
    assert alone["contents"][1]["parts"] == [{"text": "", "thoughtSignature": "U0lH"}]


def test_what_googles_tools_did_goes_back_as_it_came() -> None:
    """And what another vendor's did does not."""
    native = {"executableCode": {"language": "PYTHON", "code": "1"}}
    body = write(
        user("?"),
        assistant(
            hub.ServerTool(native=native, dialect="gemini.generate"),
            hub.ServerTool(native={"type": "server_tool_use"}, dialect="anthropic.messages"),
            hub.Refusal(text="No."),
        ),
        user("!"),
    )
    assert body["contents"][1]["parts"] == [native, {"text": "No."}]


@pytest.mark.parametrize(
    ("part", "written"),
    [
        (
            hub.Image(media=hub.Media(data=PNG, media_type="image/png")),
            {"inlineData": {"mimeType": "image/png", "data": PNG}},
        ),
        (hub.Image(media=hub.Media(data="AAAA")), {"inlineData": {"mimeType": "image/jpeg", "data": "AAAA"}}),
        (
            hub.Image(media=hub.Media(url="https://a.example/b.webp?x=1")),
            {"fileData": {"mimeType": "image/webp", "fileUri": "https://a.example/b.webp?x=1"}},
        ),
        (
            hub.File(media=hub.Media(url="https://www.youtube.com/watch?v=1")),
            {"fileData": {"mimeType": "video/mp4", "fileUri": "https://www.youtube.com/watch?v=1"}},
        ),
        (
            hub.File(media=hub.Media(file_id="files/abc")),
            {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
        ),
        (
            hub.File(media=hub.Media(data="JVBERi0x")),
            {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0x"}},
        ),
        (
            hub.File(media=hub.Media(data="AAAA"), filename="table.CSV"),
            {"inlineData": {"mimeType": "text/csv", "data": "AAAA"}},
        ),
        (hub.File(media=hub.Media(), text="plain"), {"text": "plain"}),
        (
            hub.Audio(media=hub.Media(data="AAAA"), format="wav"),
            {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
        ),
        (
            hub.Audio(media=hub.Media(data="AAAA"), format="mp3"),
            {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}},
        ),
        (
            hub.Audio(media=hub.Media(data="AAAA", media_type="audio/mpeg"), format="mp3"),
            {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}},
        ),
        (hub.Audio(media=hub.Media(), id="a1", transcript="said"), {"text": "said"}),
    ],
)
def test_media(part: Any, written: Json) -> None:
    """Bytes go inline, links as file data with the type that they tell."""
    assert write(user("Look:", part))["contents"][0]["parts"][1] == written


@pytest.mark.parametrize(
    "media",
    [hub.Media(url="gs://bucket/a.png"), hub.Media(url="s3://bucket/a.png"), hub.Media(file_id="file-abc")],
)
def test_media_that_google_cannot_reach_are_refused(media: hub.Media) -> None:
    """Before Google answers with something that nobody understands."""
    with pytest.raises(InvalidRequest) as error:
        write(user(hub.Image(media=media)))
    assert error.value.param == "messages"


def test_cloud_storage_is_reached_from_vertex() -> None:
    """gs:// links, with a type, which Vertex AI wants for each."""
    image = hub.Image(media=hub.Media(url="gs://bucket/a"))
    body = write(user(image), is_vertex=True)
    assert body["contents"][0]["parts"] == [
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "gs://bucket/a"}}
    ]
