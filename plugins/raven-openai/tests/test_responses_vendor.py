"""Promises about upstreams that are spoken to in Responses: what they are sent, and how they are read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai.types.responses import ResponseInputParam
from pydantic import TypeAdapter
from raven_openai.presets import PRESETS
from raven_openai.responses import VENDOR

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

INPUT: TypeAdapter[Any] = TypeAdapter(ResponseInputParam)


def write(request: hub.ChatRequest, preset: str = "openai") -> dict[str, Any]:
    exchange: Any = None
    found: dict[str, Any] = msgspec.json.decode(VENDOR.write_request(request, exchange, PRESETS[preset]))
    return found


def chat(*messages: hub.Message, **fields: Any) -> hub.ChatRequest:
    model = fields.pop("model", "gpt-5-mini")
    return hub.ChatRequest(model=model, messages=[*messages], **fields)


def said(role: Any, *parts: Any) -> hub.Message:
    return hub.Message(
        role=role, parts=[hub.Text(text=one) if isinstance(one, str) else one for one in parts]
    )


HI = said("user", "Hi")


# -- requests ------------------------------------------------------------------------


def test_a_conversation_becomes_items() -> None:
    """Each turn is an item or several; calls and outputs are paired by `call_id`; OpenAI's types agree."""
    request = chat(
        said("system", "Be brief"),
        said("user", "Look", hub.Image(media=hub.Media(url="https://x.example/i.png"), detail="low")),
        said(
            "assistant",
            hub.Reasoning(kind="summary", text="hm", format="openai", id="rs_1"),
            hub.Reasoning(kind="summary", text="so", format="openai", id="rs_1", data="gAAA"),
            "I look",
            hub.ToolCall(id="c1", name="f", arguments='{"a":1}'),
            hub.ToolCall(id="c2", name="patch", arguments="***", custom=True),
        ),
        said("tool", hub.ToolResult(call_id="c1", content=[hub.Text(text="bad")], is_error=True)),
        said(
            "tool",
            hub.ToolResult(
                call_id="c2", content=[hub.Image(media=hub.Media(data="AAAA", media_type="image/gif"))]
            ),
        ),
        stream=True,
    )
    body = write(request)
    INPUT.validate_python(body["input"])
    assert body["input"] == [
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be brief"}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "detail": "low", "image_url": "https://x.example/i.png"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}, {"type": "summary_text", "text": "so"}],
            "encrypted_content": "gAAA",
        },
        {"type": "message", "role": "assistant", "content": "I look"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "***"},
        {"type": "function_call_output", "call_id": "c1", "output": "Error: bad"},
        {
            "type": "custom_tool_call_output",
            "call_id": "c2",
            "output": [{"type": "input_image", "detail": "auto", "image_url": "data:image/gif;base64,AAAA"}],
        },
    ]
    assert (body["store"], body["stream"], body["include"]) == (False, True, ["reasoning.encrypted_content"])
    assert request.dropped == []


def test_reasoning_goes_only_to_whom_it_belongs_and_never_last() -> None:
    """Another family's signature is left out, and so is a thought that nothing of its turn follows."""
    request = chat(
        HI,
        said(
            "assistant",
            hub.Reasoning(text="a", signature="s", format="anthropic"),
            hub.Reasoning(text="b"),
            "x",
        ),
        said("assistant", "y", hub.Reasoning(kind="encrypted", data="gAAA", format="openai")),
        said("assistant", hub.Reasoning(kind="summary", text="unsealed", format="openai"), "z"),
        HI,
    )
    assert [item["type"] for item in write(request)["input"]] == ["message"] * 5


def test_a_seal_without_a_name_gets_the_same_one_each_time() -> None:
    """OpenAI wants an id on every reasoning item."""
    request = chat(
        HI, said("assistant", hub.Reasoning(kind="encrypted", data="gAAA", format="openai"), "x"), HI
    )
    first, second = (write(request)["input"][1]["id"] for _ in range(2))
    assert first == second
    assert first.startswith("rs_")


def test_parameters_have_this_apis_names_and_bounds() -> None:
    """Limits, formats and effort are translated; what the API lacks is dropped by the client's name."""
    request = chat(
        HI,
        max_tokens=5,
        temperature=0.5,
        top_p=0.9,
        stop=["x"],
        seed=1,
        presence_penalty=0.1,
        top_k=3,
        store=True,
        user="u",
        metadata={"a": "b"},
        verbosity="low",
        logprobs=True,
        top_logprobs=2,
        parallel_tool_calls=False,
        thinking=hub.Thinking(enabled=True, budget_tokens=1000),
        service_tier="flex",
        output_format=hub.OutputFormat(mode="json_schema", name="n", schema={"type": "object"}),
        tools=[
            hub.Tool(name="f"),
            hub.Tool(
                name="c",
                custom=True,
                grammar={"type": "grammar", "grammar": {"syntax": "regex", "definition": "a"}},
            ),
        ],
        tool_choice=hub.ToolChoice(mode="named", names=["c"]),
        extra={"prompt_cache_retention": "24h", "odd": 1},
        dropped=["odd", "prompt_cache_retention"],
        family="openai.chat",
    )
    body = write(request)
    assert body["max_output_tokens"] == 16
    assert body["reasoning"] == {"effort": "high", "summary": "auto"}
    assert body["text"] == {
        "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": False},
        "verbosity": "low",
    }
    assert body["tools"] == [
        {
            "type": "function",
            "name": "f",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        },
        {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "regex", "definition": "a"}},
    ]
    assert body["tool_choice"] == {"type": "custom", "name": "c"}
    assert body["include"] == ["reasoning.encrypted_content", "message.output_text.logprobs"]
    assert (body["top_logprobs"], body["prompt_cache_retention"]) == (2, "24h")
    assert sorted(request.dropped) == ["odd", "presence_penalty", "seed", "stop", "store", "top_k"]


def test_several_named_tools_are_the_allowed_ones() -> None:
    """A choice among some tools is said in full."""
    tools = [hub.Tool(name=name) for name in "fgh"]
    body = write(chat(HI, tools=tools, tool_choice=hub.ToolChoice(mode="named", names=["f", "g"])))
    assert body["tool_choice"]["mode"] == "required"
    assert [one["name"] for one in body["tool_choice"]["tools"]] == ["f", "g"]


def test_a_chats_web_search_is_a_tool_here() -> None:
    """`web_search_options` mean the same as the tool."""
    place = {"type": "approximate", "approximate": {"country": "DE"}}
    body = write(chat(HI, web_search={"search_context_size": "low", "user_location": place}))
    assert body["tools"] == [
        {
            "type": "web_search",
            "search_context_size": "low",
            "user_location": {"type": "approximate", "country": "DE"},
        }
    ]


def test_models_that_do_not_think_are_not_asked_for_thoughts() -> None:
    """They would refuse the request."""
    assert "include" not in write(chat(HI, model="gpt-4o-mini"))
    assert "include" not in write(chat(HI, model="openai/gpt-4.1"))


def test_vendors_without_the_developer_role_get_system() -> None:
    """The row in the presets decides."""
    request = chat(said("developer", "x"), HI)
    assert write(request)["input"][0]["role"] == "developer"
    assert write(request, "deepseek")["input"][0]["role"] == "system"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"server_tools": [{"type": "bash_20250124"}]}, "tools"),
    ],
)
def test_what_would_change_the_meaning_is_refused(fields: Any, param: str) -> None:
    """Several answers, sound and other vendors' tools are a 400."""
    with pytest.raises(InvalidRequest) as caught:
        write(chat(HI, **fields))
    assert caught.value.param == param
    with pytest.raises(InvalidRequest, match="sound"):
        write(chat(said("user", hub.Audio(media=hub.Media(data="AAAA")))))


def test_files_go_as_bytes_links_or_ids() -> None:
    """Each form of a file has its member."""
    files = [
        hub.File(media=hub.Media(data="JVBERi0=", media_type="application/pdf"), filename="a.pdf"),
        hub.File(media=hub.Media(url="https://x.example/a.pdf")),
        hub.File(media=hub.Media(file_id="file-1")),
        hub.File(media=hub.Media(), text="plain"),
    ]
    assert write(chat(said("user", *files)))["input"][0]["content"] == [
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
        {"type": "input_file", "file_url": "https://x.example/a.pdf"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_text", "text": "plain"},
    ]
