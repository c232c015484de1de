"""Each family is told to think, and how to sample, as it takes it; what it refuses is noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raven_proxy import hub

from .builders import HIGH, LLAMA, OPUS_46, OPUS_47, TOOLS, ask, assistant, call, result, text, user, write
from .conftest import HAIKU, NOVA

Sent = Callable[[hub.ChatRequest], dict[str, Any]]


# -- thinking and sampling ------------------------------------------------------------

NOVA_2 = "us.amazon.nova-2-lite-v1:0"


@pytest.mark.parametrize(
    ("model", "thinking", "max_tokens", "fields", "bound"),
    [
        (HAIKU, HIGH, None, {"thinking": {"type": "enabled", "budget_tokens": 16384}}, 20480),
        (HAIKU, HIGH, 8000, {"thinking": {"type": "enabled", "budget_tokens": 6000}}, 8000),
        (HAIKU, hub.Thinking(effort="low"), 500, {"thinking": {"type": "enabled", "budget_tokens": 1024}},
         1524),
        (HAIKU, hub.Thinking(budget_tokens=4000), 4000,
         {"thinking": {"type": "enabled", "budget_tokens": 4000}}, 8000),
        (HAIKU, hub.Thinking(enabled=False, effort="high"), 9, {}, 9),
        (HAIKU, hub.Thinking(effort="none"), 9, {}, 9),
        (OPUS_46, HIGH, None, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, None),
        (OPUS_46, hub.Thinking(adaptive=True, include=True), None, {"thinking": {"type": "adaptive"}}, None),
        (OPUS_46, hub.Thinking(effort="xhigh"), None,
         {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, None),
        (OPUS_47, hub.Thinking(adaptive=True, include=True), None,
         {"thinking": {"type": "adaptive", "display": "summarized"}}, None),
        (NOVA_2, hub.Thinking(effort="minimal"), 9,
         {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}, 9),
        (NOVA_2, HIGH, 9, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}, None),
        ("openai.gpt-oss-120b-1:0", HIGH, 9, {"reasoning_effort": "high"}, 9),
    ],
)  # fmt: skip
def test_each_family_is_told_to_think_in_its_own_words(
    sent: Sent, model: str, thinking: Any, max_tokens: int | None, fields: dict[str, Any], bound: int | None
) -> None:
    body = sent(ask(model=model, thinking=thinking, max_tokens=max_tokens))
    assert body.get("additionalModelRequestFields", {}) == fields
    assert body.get("inferenceConfig", {}).get("maxTokens") == bound


def test_a_bound_that_thinking_would_eat_up_is_raised_and_said() -> None:
    request = ask(thinking=HIGH, max_tokens=1000)
    request.names = {"max_tokens": "max_completion_tokens"}
    assert write(request).adjusted == ["max_completion_tokens"]


@pytest.mark.parametrize("model", [LLAMA, "anthropic.claude-3-haiku-20240307-v1:0"])
def test_thinking_is_noted_where_the_model_cannot(model: str) -> None:
    request = ask(model=model, thinking=HIGH)
    write(request)
    assert request.dropped == ["thinking"]


def test_thinking_gives_way_to_a_forced_tool_and_to_a_loop_that_lost_it() -> None:
    forced = ask(thinking=HIGH, tools=TOOLS, tool_choice=hub.ToolChoice(mode="required"))
    lost = ask(user(text("Go")), assistant(call("a")), result("a", text("1")), thinking=HIGH, tools=TOOLS)
    for request in (forced, lost):
        assert b"budget_tokens" not in write(request).body
        assert request.dropped == ["thinking"]
    signed = hub.Reasoning(text="Hm", signature="c2ln", format="anthropic")
    kept = ask(
        user(text("Go")), assistant(signed, call("a")), result("a", text("1")), thinking=HIGH, tools=TOOLS
    )
    assert b"budget_tokens" in write(kept).body


@pytest.mark.parametrize(
    ("model", "given", "config", "dropped"),
    [
        (HAIKU, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}, ["top_p"]),
        ("anthropic.claude-3-haiku-20240307-v1:0", {"temperature": 0.5, "top_p": 0.9},
         {"temperature": 0.5, "topP": 0.9}, []),
        (OPUS_47, {"temperature": 0.5, "top_k": 3, "top_p": 0.9}, {}, ["temperature", "top_k", "top_p"]),
        (OPUS_47, {"temperature": 1}, {}, []),
        (HAIKU, {"temperature": 0.5, "top_k": 3, "thinking": HIGH, "max_tokens": 4096}, {"maxTokens": 4096},
         ["temperature", "top_k"]),
        (HAIKU, {"top_p": 0.97, "thinking": HIGH, "max_tokens": 4096}, {"maxTokens": 4096, "topP": 0.97}, []),
    ],
)  # fmt: skip
def test_sampling_that_a_model_refuses_is_dropped_and_noted(
    sent: Sent, model: str, given: dict[str, Any], config: dict[str, Any], dropped: list[str]
) -> None:
    request = ask(model=model, **given)
    assert sent(request).get("inferenceConfig", {}) == config
    assert sorted(request.dropped) == dropped


def test_a_temperature_over_one_is_one_and_said(sent: Sent) -> None:
    request = ask(temperature=1.7)
    assert sent(request)["inferenceConfig"] == {"temperature": 1.0}
    assert write(ask(temperature=1.7)).adjusted == ["temperature"]
    assert request.dropped == []


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (HAIKU, {"top_k": 7}),
        (NOVA, {"inferenceConfig": {"topK": 7}}),
        ("cohere.command-r-v1:0", {"k": 7}),
        (LLAMA, None),
    ],
)
def test_top_k_is_said_as_the_family_says_it(sent: Sent, model: str, fields: dict[str, Any] | None) -> None:
    request = ask(model=model, top_k=7)
    assert sent(request).get("additionalModelRequestFields") == fields
    assert request.dropped == ([] if fields else ["top_k"])
