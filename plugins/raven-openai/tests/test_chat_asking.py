"""A chat of another dialect is written as each vendor takes it; what is lost is named, the rest refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_openai.chat.vendor import VENDOR
from raven_openai.presets import PRESETS

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange

Make = Callable[..., Exchange]
PNG = hub.Image(media=hub.Media(data="iVBORw0KGgo=", media_type="image/png"))
CALL = hub.ToolCall(id="toolu_01", name="f", arguments='{"a":1}')


def says(role: Any, *parts: hub.Part) -> hub.Message:
    return hub.Message(role=role, parts=[*parts])


def text(words: str, **fields: Any) -> hub.Text:
    return hub.Text(text=words, **fields)


HI = says("user", text("Hi"))


@pytest.fixture
def write(make_exchange: Make) -> Callable[..., dict[str, Any]]:
    """Write a request for a vendor, and give its JSON; `lost` is filled with what was dropped."""

    def run(
        preset: str, messages: Any = None, lost: list[str] | None = None, **fields: Any
    ) -> dict[str, Any]:
        fields.setdefault("model", "m")
        fields.setdefault("family", "anthropic.messages")
        request = hub.ChatRequest(messages=messages or [HI], **fields)
        exchange = make_exchange(b'{"model":"m","messages":[{"role":"user"}]}', preset=preset)
        body = VENDOR.write_request(request, exchange, PRESETS[preset])
        if lost is not None:
            lost += request.dropped
        return msgspec.json.decode(body)  # type: ignore[no-any-return]

    return run


def test_a_tool_loop_is_written_in_openais_order(write: Any) -> None:
    """One message a result right behind its call, pictures after the last, errors told in words."""
    second = msgspec.structs.replace(CALL, id="toolu_02", arguments="")
    body = write(
        "openai",
        [
            says("system", text("Be short."), text("Be kind.")),
            HI,
            says("assistant", text("I look."), CALL, second),
            says("tool", hub.ToolResult(call_id="toolu_01", content=[text("1"), PNG])),
            says("tool", hub.ToolResult(call_id="toolu_02", content=[text("gone")], is_error=True)),
            HI,
        ],
    )
    system, _, assistant, one, two, shown, last = body["messages"]
    assert system == {"role": "system", "content": "Be short.\n\nBe kind."}
    assert assistant["content"] == "I look."
    assert [c["function"]["arguments"] for c in assistant["tool_calls"]] == ['{"a":1}', "{}"]
    assert one == {"role": "tool", "tool_call_id": "toolu_01", "content": "1"}
    assert two["content"] == "Error: gone"
    assert shown["role"] == "user"
    assert shown["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert last == {"role": "user", "content": "Hi"}


def test_a_result_that_nobody_called_for_is_refused(write: Any) -> None:
    with pytest.raises(InvalidRequest, match="no call of that id"):
        write("openai", [HI, says("tool", hub.ToolResult(call_id="x"))])


def test_mistrals_ids_are_nine_letters_and_the_same_each_time(write: Any) -> None:
    """Foreign ids are mapped alike in call and result; Mistral's own stay."""
    own = msgspec.structs.replace(CALL, id="D681PevKs")
    turns = [HI, says("assistant", CALL, own), says("tool", hub.ToolResult(call_id="toolu_01", content=[]))]
    first, second = (write("mistral", turns)["messages"] for _ in range(2))
    made, kept = [call["id"] for call in first[1]["tool_calls"]]
    assert first == second
    assert kept == "D681PevKs"
    assert made.isalnum()
    assert len(made) == 9
    assert first[2]["tool_call_id"] == made


@pytest.mark.parametrize(
    ("preset", "field"),
    [("openai", None), ("deepseek", "reasoning_content"), ("zai", "reasoning_content"), ("groq", "reasoning"),
     ("vllm", "reasoning_content"), ("moonshot", "reasoning_content"), ("openrouter", "reasoning")],
)  # fmt: skip
def test_thinking_goes_back_where_it_is_wanted(write: Any, preset: str, field: str | None) -> None:
    """Its text goes into the vendor's field; a signature never leaves the family that issued it."""
    thought = hub.Reasoning(text="hm", signature="SIGNED", format="anthropic")
    body = write(preset, [HI, says("assistant", thought, text("x")), HI], model="qwen/qwen3")
    turn = body["messages"][1]
    assert {k: v for k, v in turn.items() if k not in ("role", "content")} == ({field: "hm"} if field else {})
    assert "SIGNED" not in str(body)


def test_a_signature_goes_back_to_its_own_family(write: Any) -> None:
    """Claude through OpenRouter gets what Claude signed, Gemini's endpoint what Gemini did."""
    thought = hub.Reasoning(text="hm", signature="S", format="anthropic")
    turns = [HI, says("assistant", thought, text("x")), HI]
    turn = write("openrouter", turns, model="anthropic/claude-sonnet-5")["messages"][1]
    (detail,) = turn["reasoning_details"]
    assert (detail["type"], detail["text"], detail["signature"]) == ("reasoning.text", "hm", "S")
    assert (detail["format"], detail["index"]) == ("anthropic-claude-v1", 0)
    assert "'S'" in str(write("snowflake", turns, model="mine"))  # its details carry their format
    for model in ("deepseek/deepseek-chat", "openai/gpt-5", "llama3.1-70b"):
        assert "'S'" not in str(write("openrouter", turns, model=model))
    signed = msgspec.structs.replace(CALL, signature="G", format="google")
    turns = [HI, says("assistant", signed), says("tool", hub.ToolResult(call_id="toolu_01"))]
    (call,) = write("gemini_openai", turns, model="mine")["messages"][1]["tool_calls"]
    assert call["extra_content"] == {"google": {"thought_signature": "G"}}
    assert "G" not in str(write("openai", turns)["messages"][1]["tool_calls"])


THINK = hub.Thinking(enabled=True, budget_tokens=3000)
OFF = hub.Thinking(enabled=False)


@pytest.mark.parametrize(
    ("preset", "model", "thinking", "expected", "lost"),
    [
        ("openai", "o3", THINK, {"reasoning_effort": "low"}, []),
        ("openai", "gpt-5", hub.Thinking(enabled=True, effort="xhigh"), {"reasoning_effort": "high"}, []),
        ("openai", "gpt-5.2", hub.Thinking(enabled=True, effort="xhigh"), {"reasoning_effort": "xhigh"}, []),
        ("openai", "gpt-5", OFF, {"reasoning_effort": "minimal"}, []),
        ("openai", "gpt-5.2", OFF, {"reasoning_effort": "none"}, []),
        ("openai", "o3", OFF, {}, ["thinking"]),
        ("openai", "gpt-4o", OFF, {}, []),
        ("openai", "gpt-4o", THINK, {}, ["thinking"]),
        ("openrouter", "x", THINK, {"reasoning": {"max_tokens": 3000}}, []),
        ("openrouter", "x", OFF, {"reasoning": {"enabled": False}}, []),
        ("zai", "glm-4.7", THINK, {"thinking": {"type": "enabled"}}, []),
        ("moonshot", "kimi-k2.6", OFF, {"thinking": {"type": "disabled"}}, []),
        ("deepseek", "x", hub.Thinking(enabled=True, effort="medium"),
         {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}, []),
        ("alibaba", "qwen3", THINK, {"enable_thinking": True, "thinking_budget": 3000}, []),
        ("vllm", "qwen3", OFF, {"chat_template_kwargs": {"enable_thinking": False}}, []),
        ("groq", "openai/gpt-oss-20b", THINK, {"reasoning_effort": "low"}, []),
        ("groq", "llama-3", THINK, {}, ["thinking"]),
        ("xai", "grok-3-mini", hub.Thinking(enabled=True, effort="medium"), {"reasoning_effort": "high"}, []),
    ],
)  # fmt: skip
def test_thinking_is_asked_for_in_each_vendors_way(
    write: Any, preset: str, model: str, thinking: Any, expected: Any, lost: list[str]
) -> None:
    """Effort, budget and off become what the vendor documents, or are named as lost."""
    found: list[str] = []
    body = write(preset, lost=found, model=model, thinking=thinking, max_tokens=10_000)
    asked = "reasoning_effort reasoning thinking enable_thinking thinking_budget chat_template_kwargs".split()
    assert {name: body[name] for name in asked if name in body} == expected
    assert found == lost


@pytest.mark.parametrize(
    ("preset", "model", "name"),
    [("openai", "gpt-4o", "max_completion_tokens"), ("groq", "x", "max_completion_tokens"),
     ("vllm", "x", "max_tokens"), ("mistral", "x", "max_tokens"), ("openai_compatible", "x", "max_tokens"),
     ("openai_compatible", "o3", "max_completion_tokens"), ("github", "o3", "max_completion_tokens")],
)  # fmt: skip
def test_the_limit_has_the_name_that_the_vendor_knows(write: Any, preset: str, model: str, name: str) -> None:
    body = write(preset, model=model, max_tokens=7)
    assert {key: body[key] for key in body if key.startswith("max_")} == {name: 7}


def test_models_that_think_take_no_sampling_parameters(write: Any) -> None:
    """What they would refuse is left out and named; the others get it."""
    sampling: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "stop": ["x"], "logprobs": True}
    lost: list[str] = []
    body = write("openai", lost=lost, model="gpt-5-mini", **sampling)
    assert not sampling.keys() & body.keys()
    assert sorted(lost) == sorted(sampling)
    assert sampling.items() <= write("openai", model="gpt-4o", **sampling).items()
    assert sampling.items() <= write("openai", model="gpt-5.2", **sampling).items()


def test_what_only_openai_knows_goes_to_openai_alone(write: Any) -> None:
    """Other vendors get the common ones; the rest is named as lost, and extras of other families stay out."""
    fields: dict[str, Any] = {"store": True, "prompt_cache_key": "k", "top_k": 4, "extra": {"min_p": 1}}
    lost: list[str] = []
    assert "top_k" not in write("openai", lost=lost, **fields)
    assert lost == ["top_k"]
    lost = []
    body = write("vllm", lost=lost, **fields)
    assert (body["top_k"], sorted(lost)) == (4, ["prompt_cache_key", "store"])
    assert "min_p" not in body
    body = write("vllm", family="openai.chat", extra={"min_p": 1}, dropped=["min_p"])
    assert body["min_p"] == 1


def test_what_says_nothing_is_not_sent(write: Any) -> None:
    """One answer, no log probabilities and nothing stored are what vendors do anyway."""
    lost: list[str] = []
    body = write("deepseek", lost=lost, n=1, logprobs=False, store=False)
    assert body.keys() == {"model", "messages"}
    assert not lost
    assert "service_tier" not in write("openai", lost=lost, service_tier="standard_only")
    assert lost == ["service_tier"]


def test_usage_is_always_asked_for_in_a_stream(write: Any) -> None:
    """Where the vendor has to be asked; never where it refuses to be."""
    assert write("openai", stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in write("mistral", stream=True)
    assert "stream_options" not in write("openai")


SCHEMA = hub.OutputFormat(mode="json_schema", name="n", schema={"type": "object"}, strict=True)


def test_a_schema_is_an_instruction_where_there_is_none(write: Any) -> None:
    """DeepSeek has only `json_object`: the schema stands in the system message."""
    body = write("openai", output_format=SCHEMA)
    assert body["response_format"]["json_schema"] == {
        "name": "n",
        "schema": {"type": "object"},
        "strict": True,
    }
    body = write("deepseek", [says("system", text("Be short.")), HI], output_format=SCHEMA)
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0]["content"].startswith("Be short.\n\nAnswer with JSON")
    assert '{"type":"object"}' in write("deepseek", output_format=SCHEMA)["messages"][0]["content"]


TOOL = hub.Tool(name="f", description="d", cache=hub.CacheMark("1h"))
OTHER = hub.Tool(name="g")
NAMED = {"type": "function", "function": {"name": "g"}}


@pytest.mark.parametrize(
    ("preset", "choice", "expected", "tools"),
    [
        ("openai", hub.ToolChoice(mode="required"), "required", ["f", "g"]),
        ("openai", hub.ToolChoice(mode="named", names=["g"]), NAMED, ["f", "g"]),
        ("mistral", hub.ToolChoice(mode="named", names=["f", "g"]), "required", ["f", "g"]),
        ("zai", hub.ToolChoice(mode="none"), None, None),
        ("zai", hub.ToolChoice(mode="required"), None, ["f", "g"]),
    ],
)  # fmt: skip
def test_tool_choice_fits_the_vendor(write: Any, preset: str, choice: Any, expected: Any, tools: Any) -> None:
    body = write(preset, tools=[TOOL, OTHER], tool_choice=choice)
    assert body.get("tool_choice") == expected
    assert (body.get("tools") and [tool["function"]["name"] for tool in body["tools"]]) == tools


def test_cache_marks_pass_to_vendors_that_take_them(write: Any) -> None:
    marked = [says("system", text("long", cache=hub.CacheMark())), HI]
    body = write("openrouter", marked, tools=[TOOL])
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    ]
    assert body["tools"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    lost: list[str] = []
    assert "cache_control" not in str(write("openai", marked, lost=lost, tools=[TOOL]))
    assert lost == ["cache_control"]


SOUND = hub.Audio(media=hub.Media(data="UklGRg=="), format="wav")
LINK = hub.Image(media=hub.Media(url="https://a.example/b.png"))
PDF = hub.File(media=hub.Media(data="JVBERi0=", media_type="application/pdf"))


@pytest.mark.parametrize(
    ("preset", "fields", "param"),
    [
        ("deepseek", {"n": 2}, "n"),
        ("openai", {"server_tools": [{"type": "web_search_20250305"}]}, "tools"),
        ("groq", {"web_search": {}, "names": {"web_search": "web_search_options"}}, "web_search_options"),
        ("groq", {"modalities": ["text", "audio"]}, "modalities"),
        ("vllm", {"tools": [hub.Tool(name="f", custom=True)]}, "tools"),
        ("deepseek", {"messages": [says("user", PNG)]}, "messages"),
        ("ollama", {"messages": [says("user", LINK)]}, "messages"),
        ("groq", {"messages": [says("user", SOUND)]}, "messages"),
        ("groq", {"messages": [says("user", PDF)]}, "messages"),
        ("openai", {"messages": [says("user", hub.File(media=hub.Media(file_id="f")))]}, "messages"),
        ("openai", {"messages": [says("user", hub.Image(media=hub.Media(url="gs://a/b")))]}, "messages"),
    ],
)
def test_what_would_change_the_meaning_is_refused(write: Any, preset: str, fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        write(preset, **fields)
    assert caught.value.param == param


def test_media_are_written_where_they_are_taken(write: Any) -> None:
    notes = hub.File(media=hub.Media(), text="plain", filename="n.txt")
    parts = write("openai", [says("user", text("a"), LINK, PDF, SOUND, notes)])["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url", "file", "input_audio", "text"]
    assert parts[2]["file"]["file_data"] == "data:application/pdf;base64,JVBERi0="
    assert parts[3]["input_audio"] == {"data": "UklGRg==", "format": "wav"}
    assert parts[4]["text"] == "n.txt:\nplain"
    (page,) = write("mistral", [says("user", PDF)])["messages"][0]["content"]
    assert page["document_url"].startswith("data:application/pdf")
