"""The hub's shapes: media, turns, and streams that become replies and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Usage

PNG = "iVBORw0KGgoAAAANSUhEUg=="


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"data:image/png;base64,{PNG}", hub.Media(data=PNG, media_type="image/png")),
        (f"DATA:;base64,{PNG}", hub.Media(data=PNG, media_type="image/png")),
        (f"data:image/PNG;x=y;base64,{PNG[:8]}\n{PNG[8:]}", hub.Media(data=PNG, media_type="image/png")),
        ("data:text/plain,a%20b", hub.Media(data="YSBi", media_type="text/plain")),
        ("https://example.com/a.png", hub.Media(url="https://example.com/a.png")),
        ("gs://bucket/a.png", hub.Media(url="gs://bucket/a.png")),
    ],
)
def test_a_url_is_bytes_or_a_link(url: str, expected: hub.Media) -> None:
    assert hub.media_of_url(url, param="p") == expected


@pytest.mark.parametrize("url", ["", "data:image/png;base64", "data:;base64,###", "file:///etc/passwd", "x"])
def test_other_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        hub.media_of_url(url, param="messages[0].content[1].image_url.url")
    assert caught.value.param == "messages[0].content[1].image_url.url"


@given(st.binary(max_size=60))
def test_bytes_survive_a_data_url(data: bytes) -> None:
    """Percent-encoded or base64: the bytes are the same."""
    import base64

    text = base64.b64encode(data).decode()
    media = hub.media_of_url(f"data:image/webp;base64,{text}", param="p")
    assert media.data == text
    assert hub.make_data_url(media, "x/y") == f"data:image/webp;base64,{text}"
    percent = "".join(f"%{byte:02x}" for byte in data)
    assert hub.media_of_url(f"data:a/b,{percent}", param="p").data == text


def test_a_link_stays_one() -> None:
    assert hub.make_data_url(hub.Media(url="https://h/a"), "image/png") == "https://h/a"


CALL = hub.ToolCall(id="c1", name="add", arguments='{"a":1}')
CALL_2 = hub.ToolCall(id="c2", name="sub", arguments="")
RESULT = hub.Message(role="tool", parts=[hub.ToolResult(call_id="c1")])
RESULT_2 = hub.Message(role="tool", parts=[hub.ToolResult(call_id="c2")])


def say(role: hub.Role, *parts: hub.Part) -> hub.Message:
    return hub.Message(role=role, parts=list(parts))


def test_results_stand_behind_their_calls_in_the_calls_order() -> None:
    user, turn = say("user", hub.Text(text="?")), say("assistant", CALL, CALL_2)
    assert hub.pair_tool_results([turn, RESULT_2, user, RESULT]) == [turn, RESULT, RESULT_2, user]


def test_a_result_without_a_call_is_refused_and_a_call_without_a_result_is_not() -> None:
    turn = say("assistant", CALL)
    with pytest.raises(InvalidRequest) as caught:
        hub.pair_tool_results([turn, RESULT_2])
    assert "'c2'" in caught.value.message
    assert hub.pair_tool_results([turn]) == [turn]


def test_neighbours_are_merged_with_results_first() -> None:
    first, second = hub.Text(text="1"), hub.Text(text="2")
    merged = hub.merge_neighbours([say("user", first), say("assistant", CALL), say("user", second), RESULT])
    assert [message.role for message in merged] == ["user", "assistant", "user"]
    assert merged[2].parts == [*RESULT.parts, second]


def test_merging_leaves_the_messages_themselves_alone() -> None:
    one, two = say("user", hub.Text(text="1")), say("user", hub.Text(text="2"))
    hub.merge_neighbours([one, two])
    assert (len(one.parts), len(two.parts)) == (1, 1)


def test_system_texts_are_gathered_from_wherever_they_stand() -> None:
    messages = [say("system", hub.Text(text="a")), say("user"), say("developer", hub.Text(text="b"))]
    texts, turns = hub.system_texts(messages)
    assert ([text.text for text in texts], turns) == (["a", "b"], [messages[1]])


def test_calls_are_known_by_name() -> None:
    assert hub.find_call_names([say("assistant", CALL, CALL_2)]) == {"c1": "add", "c2": "sub"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a":1}', {"a": 1}),
        ("", {}),
        (" ", {}),
        ("[1]", {"arguments": "[1]"}),
        ('{"a":', {"arguments": '{"a":'}),
        ("[" * 5000, {"arguments": "[" * 5000}),
    ],
)
def test_arguments_become_an_object(arguments: str, expected: object) -> None:
    assert hub.parse_arguments(arguments) == expected


REPLY = hub.ChatReply(
    id="r",
    model="m",
    created=7,
    choices=[
        hub.Choice(
            parts=[
                hub.Reasoning(text="hm", signature="s", format="anthropic"),
                hub.Reasoning(text="so", kind="summary"),
                hub.Text(text="one", annotations=[hub.Annotation(url="https://h")]),
                CALL,
                hub.Text(text="two"),
                hub.Image(media=hub.Media(data=PNG)),
                hub.ServerTool(native={"a": 1}, dialect="d"),
            ],
            finish="tool_calls",
            native_finish="tool_use",
            logprobs={"content": [1]},
        ),
        hub.Choice(parts=[hub.Refusal(text="no")], finish="content_filter"),
        hub.Choice(parts=[hub.Audio(media=hub.Media(data="AA=="), id="a", transcript="t", expires_at=9)]),
    ],
    usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
)


def test_a_reply_survives_being_told_as_a_stream() -> None:
    assert hub.gather(hub.events_of(REPLY)) == REPLY


def test_deltas_are_joined_in_the_order_of_their_parts() -> None:
    events = [
        hub.TextDelta("a"),
        hub.ToolCallStarted(0, "c", "f"),
        hub.TextDelta("b"),
        hub.ToolCallDelta(0, "{"),
        hub.ToolCallDelta(0, "}"),
        hub.LogprobsAdded({"content": [1]}),
        hub.LogprobsAdded({"content": [2], "refusal": None}),
    ]
    [choice] = hub.gather(events).choices
    assert choice.parts == [hub.Text(text="ab"), hub.ToolCall(id="c", name="f", arguments="{}")]
    assert choice.logprobs == {"content": [1, 2], "refusal": None}


def test_what_is_dropped_has_the_clients_name_and_is_named_once() -> None:
    request = hub.ChatRequest(model="m", messages=[], top_k=3, seed=None, names={"top_k": "topK"})
    request.drop_if_set("top_k", "seed", "stop", "n")
    request.drop("top_k")
    assert request.dropped == ["topK"]


def test_requests_share_no_list() -> None:
    one, two = (hub.ChatRequest(model="m", messages=[]) for _ in range(2))
    one.drop("seed")
    assert two.dropped == []


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (hub.File(media=hub.Media(), text="a"), "a"),
        (hub.File(media=hub.Media(data="YSBi", media_type="text/markdown")), "a b"),
        (hub.File(media=hub.Media(data="e30=", media_type="application/json")), "{}"),
        (hub.File(media=hub.Media(data="YSBi", media_type="application/pdf")), None),
        (hub.File(media=hub.Media(data="/w==", media_type="text/plain")), None),
        (hub.File(media=hub.Media(data="?", media_type="text/plain")), None),
        (hub.File(media=hub.Media(url="https://example.com/a.txt", media_type="text/plain")), None),
    ],
)
def test_a_document_that_is_text_can_be_read(file: hub.File, expected: str | None) -> None:
    assert hub.read_text(file) == expected
