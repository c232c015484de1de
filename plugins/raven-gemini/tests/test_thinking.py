"""How much to think, for each generation of models."""

from __future__ import annotations

from typing import Any

import pytest
from raven_gemini.models import judge
from raven_gemini.thinking import write_thinking

from raven_proxy.hub import ChatRequest, Thinking


def ask(model: str, **fields: Any) -> tuple[Any, list[str]]:
    request = ChatRequest(model=model, messages=[], thinking=Thinking(**fields))
    return write_thinking(request, judge(model)), request.dropped


@pytest.mark.parametrize(
    ("model", "version", "thinking"),
    [
        ("gemini-1.5-flash", (1, 5), "none"),
        ("gemini-2.0-flash-001", (2, 0), "none"),
        ("gemini-2.5-pro", (2, 5), "budget"),
        ("gemini-2.5-flash-preview-09-2025", (2, 5), "budget"),
        ("gemini-2.5-flash-image", (2, 5), "none"),
        ("gemini-2.5-pro-preview-tts", (2, 5), "none"),
        ("models/gemini-3-pro-preview", (3, 0), "level"),
        ("gemini-3.1-pro-preview", (3, 1), "level"),
        ("gemini-3.5-flash", (3, 5), "level"),
        ("publishers/google/models/gemini-3-flash-preview", (3, 0), "level"),
        ("gemini-flash-latest", (3, 0), "level"),
        ("gemini-10-pro", (10, 0), "level"),
        ("endpoints/1234567", (2, 5), "budget"),
        ("tunedModels/mine", (2, 5), "budget"),
        ("gemma-3-27b-it", (2, 5), "none"),
    ],
)
def test_a_models_name_tells_its_generation(model: str, version: Any, thinking: str) -> None:
    """Names that tell nothing are taken for 2.5."""
    traits = judge(model)
    assert (traits.version, traits.thinking) == (version, thinking)


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-2.5-flash", "minimal", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.5-flash", "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        ("gemini-2.5-flash", "high", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-2.5-flash", "max", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-2.5-pro", "max", {"thinkingBudget": 32768, "includeThoughts": True}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-3-flash-preview", "minimal", {"thinkingLevel": "minimal", "includeThoughts": True}),
        ("gemini-3-flash-preview", "medium", {"thinkingLevel": "medium", "includeThoughts": True}),
        ("gemini-3-flash-preview", "xhigh", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "minimal"}),
        ("gemini-3-pro-preview", "minimal", {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3-pro-preview", "high", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "medium", "includeThoughts": True}),
        ("gemini-3-pro-preview", "none", {"thinkingLevel": "low"}),
        ("gemini-2.0-flash", "high", None),
        ("gemini-2.0-flash", "none", None),
    ],
)
def test_effort(model: str, effort: Any, config: Any) -> None:
    """Google's own figures; who cannot think at all, or not think, is noted."""
    made, dropped = ask(model, effort=effort)
    assert made == config
    is_lost = (config is None) is (effort != "none") and (config is None or "pro" in model or "-3" in model)
    assert bool(dropped) is (is_lost and (config is None or effort == "none"))


@pytest.mark.parametrize(
    ("model", "fields", "config"),
    [
        (
            "gemini-2.5-flash",
            {"enabled": True, "budget_tokens": 5000},
            {"thinkingBudget": 5000, "includeThoughts": True},
        ),
        ("gemini-2.5-flash", {"budget_tokens": 100_000}, {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-2.5-flash-lite", {"budget_tokens": 100}, {"thinkingBudget": 512, "includeThoughts": True}),
        ("gemini-2.5-pro", {"budget_tokens": 100}, {"thinkingBudget": 128, "includeThoughts": True}),
        ("gemini-2.5-pro", {"budget_tokens": -1}, {"thinkingBudget": -1, "includeThoughts": True}),
        ("gemini-2.5-flash", {"adaptive": True}, {"thinkingBudget": -1, "includeThoughts": True}),
        ("gemini-2.5-flash", {"enabled": True}, {"thinkingBudget": -1, "includeThoughts": True}),
        ("gemini-2.5-flash", {"enabled": False}, {"thinkingBudget": 0}),
        ("gemini-2.5-flash", {"budget_tokens": 0}, {"thinkingBudget": 0}),
        ("gemini-2.5-flash", {"summary": "auto"}, {"includeThoughts": True}),
        (
            "gemini-2.5-flash",
            {"effort": "low", "include": False},
            {"thinkingBudget": 1024, "includeThoughts": False},
        ),
        (
            "gemini-3-flash-preview",
            {"budget_tokens": 1024},
            {"thinkingLevel": "low", "includeThoughts": True},
        ),
        (
            "gemini-3-flash-preview",
            {"budget_tokens": 10_000},
            {"thinkingLevel": "medium", "includeThoughts": True},
        ),
        (
            "gemini-3-flash-preview",
            {"budget_tokens": 32_000},
            {"thinkingLevel": "high", "includeThoughts": True},
        ),
        ("gemini-3-flash-preview", {"adaptive": True}, {"includeThoughts": True}),
        ("gemini-3-flash-preview", {"enabled": False}, {"thinkingLevel": "minimal"}),
    ],
)
def test_budgets_and_switches(model: str, fields: Any, config: Any) -> None:
    """Anthropic's way of asking, within each model's bounds."""
    assert ask(model, **fields)[0] == config


def test_who_says_nothing_gets_what_the_model_does_anyway() -> None:
    """No thinkingConfig at all."""
    request = ChatRequest(model="gemini-2.5-pro", messages=[])
    assert write_thinking(request, judge("gemini-2.5-pro")) is None
