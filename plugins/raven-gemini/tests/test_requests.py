"""Requests say to Google what the client said, in words that Google's own types accept."""

from __future__ import annotations

import msgspec
import pytest

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from .builders import Json, assistant, call, result, user, write


def test_settings_have_googles_names() -> None:
    """Everything that both sides know."""
    body = write(
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        max_tokens=100,
        stop=["a", "", "b"],
        n=2,
        seed=7,
        presence_penalty=0.1,
        frequency_penalty=-0.2,
        logprobs=True,
        top_logprobs=3,
    )
    assert body["generationConfig"] == {
        "temperature": 0.7,
        "topP": 0.9,
        "topK": 40,
        "candidateCount": 2,
        "maxOutputTokens": 100,
        "stopSequences": ["a", "b"],
        "seed": 7,
        "presencePenalty": 0.1,
        "frequencyPenalty": -0.2,
        "responseLogprobs": True,
        "logprobs": 3,
    }
    assert body["dropped"] == []
    assert "generationConfig" not in write(n=1, logprobs=False, stop=[""])


def test_large_seeds_are_folded_the_same_way_each_time() -> None:
    """Google's have 32 bits."""
    made = [write(seed=2**40 + 5)["generationConfig"]["seed"] for _ in range(2)]
    assert made == [5, 5]


def test_more_than_five_stops_are_refused() -> None:
    """Leaving one out would silently give another answer; the name is the client's."""
    with pytest.raises(InvalidRequest) as error:
        write(stop=list("abcdef"), names={"stop": "stop_sequences"})
    assert error.value.param == "stop_sequences"


def test_what_google_cannot_be_told_is_noted() -> None:
    """In the client's words."""
    body = write(
        user="u",
        store=True,
        verbosity="low",
        logit_bias={"1": 2},
        service_tier="flex",
        metadata={"a": "b"},
        prompt_cache_key="k",
        safety_identifier="s",
        prediction={"type": "content"},
        extra={"odd": 1},
        tools=[hub.Tool(name="f", strict=True)],
        parallel_tool_calls=False,
        web_search={"user_location": {}},
        names={"user": "metadata.user_id", "web_search": "web_search_options"},
    )
    assert set(body["dropped"]) == {
        "metadata.user_id",
        "store",
        "verbosity",
        "logit_bias",
        "service_tier",
        "metadata",
        "prompt_cache_key",
        "safety_identifier",
        "prediction",
        "odd",
        "strict",
        "parallel_tool_calls",
        "web_search_options",
    }
    assert body["tools"][1] == {"googleSearch": {}}


def test_metadata_are_labels_on_vertex() -> None:
    """If they are words that labels may hold."""
    assert write(is_vertex=True, metadata={"team": "a-1"})["labels"] == {"team": "a-1"}
    assert write(is_vertex=True, metadata={"Team": "A"})["dropped"] == ["metadata"]


def test_tools_and_the_choice_among_them() -> None:
    """JSON schemas as they are from 2.5 on, Google's subset before; nothing where there are no parameters."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": ["string", "null"]}},
        "additionalProperties": False,
    }
    tools = [hub.Tool(name="f", description="d", schema=schema), hub.Tool(name="g")]
    declared = write(tools=tools)["tools"][0]["functionDeclarations"]
    assert declared == [{"name": "f", "description": "d", "parametersJsonSchema": schema}, {"name": "g"}]
    older = write(tools=tools, model="gemini-2.0-flash")["tools"][0]["functionDeclarations"]
    parameters = {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}}
    assert older == [{"name": "f", "description": "d", "parameters": parameters}, {"name": "g"}]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (hub.ToolChoice(mode="auto"), {"mode": "AUTO"}),
        (hub.ToolChoice(mode="none"), {"mode": "NONE"}),
        (hub.ToolChoice(mode="required"), {"mode": "ANY"}),
        (hub.ToolChoice(mode="named", names=["f"]), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tool_choice(choice: hub.ToolChoice, config: Json) -> None:
    """Sent with tools only."""
    body = write(tools=[hub.Tool(name="f")], tool_choice=choice)
    assert body["toolConfig"] == {"functionCallingConfig": config}
    assert "toolConfig" not in write(tool_choice=choice)


def test_tools_that_run_elsewhere() -> None:
    """A search is Google's search; anything else of another vendor's is refused by its place."""
    search = {"type": "web_search_20250305", "name": "web_search"}
    assert write(server_tools=[search])["tools"] == [{"googleSearch": {}}]
    with pytest.raises(InvalidRequest) as error:
        write(server_tools=[search, {"type": "computer_use"}])
    assert error.value.param == "tools[1].type"


def test_tools_with_free_text_become_functions_with_one_argument() -> None:
    """And their calls in the history likewise."""
    tool = hub.Tool(name="patch", custom=True, grammar={"syntax": "lark"})
    body = write(
        user("?"), assistant(call("c", "patch", "*** Begin", custom=True)), result("c", "ok"), tools=[tool]
    )
    declared = body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]
    assert declared["required"] == ["input"]
    assert "lark" in declared["properties"]["input"]["description"]
    assert body["contents"][1]["parts"][0]["functionCall"]["args"] == {"input": "*** Begin"}


def test_the_shape_of_the_answer() -> None:
    """Any JSON, or a schema in the form that the model takes."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "exclusiveMinimum": 0}}}
    assert write(output_format=hub.OutputFormat(mode="json_object"))["generationConfig"] == {
        "responseMimeType": "application/json"
    }
    wanted = hub.OutputFormat(mode="json_schema", schema=schema, strict=True)
    assert write(output_format=wanted)["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }
    assert write(output_format=wanted, model="gemini-1.5-pro")["generationConfig"]["responseSchema"] == {
        "type": "OBJECT",
        "properties": {"n": {"type": "INTEGER", "minimum": 1}},
    }


def test_modalities() -> None:
    """Text is what comes anyway; pictures can be asked for; sound is refused."""
    assert "generationConfig" not in write(modalities=["text"])
    config = write(modalities=["image", "text"])["generationConfig"]
    assert config == {"responseModalities": ["IMAGE", "TEXT"]}
    assert write(modalities=["text", "smell"])["dropped"] == ["modalities"]
    for fields in ({"modalities": ["text", "audio"]}, {"audio": {"voice": "alloy"}}):
        with pytest.raises(InvalidRequest) as error:
            write(**fields)
        assert error.value.param == "modalities"


def test_requests_can_be_encoded() -> None:
    """Everything in a body is JSON."""
    body = write(user("x"), tools=[hub.Tool(name="f")])
    assert msgspec.json.decode(msgspec.json.encode(body)) == body
