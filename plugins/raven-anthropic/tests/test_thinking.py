"""How much a model is asked to think, and what gives way to it."""

from __future__ import annotations

from typing import Any

import pytest
from raven_anthropic import requests
from raven_anthropic.models import abilities_of

from raven_proxy import hub
from raven_proxy.hub import ChatRequest, Message, Thinking

OLD, ADAPTIVE, NEW = "claude-sonnet-4-5", "claude-sonnet-4-6", "claude-opus-4-8"


def write(thinking: Thinking, *, model: str = OLD, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    fields.setdefault("messages", [Message(role="user", parts=[hub.Text(text="Hi")])])
    request = ChatRequest(model=model, thinking=thinking, **fields)
    return requests.write(request).body, request.dropped


@pytest.mark.parametrize(
    ("effort", "budget"),
    [("low", 2500), ("medium", 5000), ("high", 7500), ("xhigh", 9000), ("minimal", 1024)],
)
def test_effort_is_a_share_of_max_tokens(effort: Any, budget: int) -> None:
    body, _ = write(Thinking(effort=effort), max_tokens=10_000)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert body["max_tokens"] == 10_000
    assert "output_config" not in body


def test_a_raised_bound_is_said() -> None:
    turns = [Message(role="user", parts=[hub.Text(text="Hi")])]
    for most, said in ((500, ["max_tokens"]), (9000, []), (None, [])):
        request = ChatRequest(model=OLD, messages=turns, max_tokens=most, thinking=Thinking(effort="low"))
        assert requests.write(request).adjusted == said


@pytest.mark.parametrize(("most", "budget"), [(500, 1024), (1024, 1024), (3000, 5000), (64_000, 64_000)])
def test_max_tokens_is_greater_than_the_budget(most: int, budget: int) -> None:
    body, _ = write(Thinking(enabled=True, budget_tokens=budget), max_tokens=most)
    assert body["max_tokens"] > body["thinking"]["budget_tokens"] >= 1024
    assert body["max_tokens"] <= 64_000


def test_new_models_measure_their_own_thinking() -> None:
    body, _ = write(Thinking(effort="xhigh"), model=NEW)
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "xhigh"})
    body, _ = write(Thinking(enabled=True, budget_tokens=3000), model=NEW, max_tokens=4000)
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "high"})
    body, _ = write(Thinking(adaptive=True, enabled=True, include=True), model=ADAPTIVE)
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    body, _ = write(Thinking(enabled=True, budget_tokens=2000), model=ADAPTIVE)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2000}


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        (ADAPTIVE, "xhigh", "high"),
        (ADAPTIVE, "max", "max"),
        (NEW, "minimal", "low"),
        ("claude-opus-4-5", "max", "high"),
    ],
)
def test_an_effort_that_the_model_lacks_is_the_next_lower_one(model: str, effort: Any, expected: str) -> None:
    assert write(Thinking(effort=effort), model=model)[0]["output_config"] == {"effort": expected}


def test_thinking_can_be_turned_off_where_it_can_be_on() -> None:
    for wish in (Thinking(enabled=False), Thinking(effort="none"), Thinking(budget_tokens=0)):
        assert write(wish)[0]["thinking"] == {"type": "disabled"}
        assert "thinking" not in write(wish, model="claude-3-5-haiku-latest")[0]
    assert write(Thinking(enabled=False), model="claude-fable-5")[1] == ["thinking"]


def test_models_that_cannot_think_are_not_asked_to() -> None:
    body, dropped = write(Thinking(effort="high"), model="claude-3-5-sonnet-20241022")
    assert "thinking" not in body
    assert dropped == ["thinking"]


def test_sampling_gives_way_to_thinking_and_thinking_to_a_forced_call() -> None:
    body, dropped = write(Thinking(effort="low"), temperature=0.2, top_k=3, max_tokens=8000)
    assert (dropped, "temperature" in body) == (["temperature", "top_k"], False)
    tools, choice = [hub.Tool(name="a")], hub.ToolChoice(mode="required")
    body, dropped = write(Thinking(effort="low"), tools=tools, tool_choice=choice)
    assert (dropped, body["tool_choice"]) == (["thinking"], {"type": "any"})


def test_a_tool_turn_whose_thinking_is_lost_goes_on_without() -> None:
    """Anthropic refuses it otherwise; models that measure their own thinking do not mind."""
    call = hub.ToolCall(id="a", name="a", arguments="{}")
    turns = [
        Message(role="user", parts=[hub.Text(text="Q")]),
        Message(role="assistant", parts=[call]),
        Message(role="tool", parts=[hub.ToolResult(call_id="a")]),
    ]
    assert "thinking" not in write(Thinking(effort="low"), messages=turns)[0]
    assert "thinking" in write(Thinking(effort="low"), messages=turns, model=NEW)[0]
    signed = hub.Reasoning(text="hm", signature="s", format="anthropic")
    turns[1] = Message(role="assistant", parts=[signed, call])
    assert "thinking" in write(Thinking(effort="low"), messages=turns)[0]


@pytest.mark.parametrize(
    ("model", "most", "structured", "thinks"),
    [
        ("claude-opus-5", 128_000, True, True),
        ("claude-sonnet-4-5-20250929", 64_000, True, True),
        ("anthropic/claude-haiku-4.5", 64_000, True, True),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", 64_000, False, True),
        ("claude-opus-4-1-20250805", 32_000, True, True),
        ("claude-opus-4@20250514", 32_000, False, True),
        ("claude-3-7-sonnet-20250219", 64_000, False, True),
        ("anthropic.claude-3-5-haiku-20241022-v1:0", 8192, False, False),
        ("claude-3-opus-20240229", 4096, False, False),
        ("anthropic.claude-v2:1", 4096, False, False),
        ("claude-instant-1.2", 4096, False, False),
        ("claude-next", 128_000, True, True),
        ("deepseek-chat", None, False, True),
    ],
)
def test_a_model_is_known_by_its_name_in_any_spelling(
    model: str, most: int | None, structured: bool, thinks: bool
) -> None:
    found = abilities_of(model)
    assert (found.max_tokens, found.structured, found.thinks) == (most, structured, thinks)
