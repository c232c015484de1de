"""What is left when something was redacted is no match either, whatever stood around it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raven_guardrails.judging import RuleSet, make_rule
from raven_guardrails.passages import judge_passages
from raven_guardrails.report import Report
from raven_guardrails.rules import Guardrail
from raven_guardrails.texts import list_passages

from raven_proxy import Forbidden

from . import vendors
from .test_streams import cut, make_stage, run


def rule_set(
    *patterns: str, replacement: str = "", action: Any = "redact", direction: Any = "input"
) -> RuleSet:
    config = {"patterns": list(patterns), "replacement": replacement}
    declared = Guardrail(name="x", type="custom_regex", action=action, config=config)
    return RuleSet([make_rule("x", declared)], direction)


def redact(rules: RuleSet, *texts: str) -> list[str]:
    document: dict[str, Any] = {"content": [{"type": "text", "text": text} for text in texts]}
    _ = judge_passages(rules, list_passages(document), Report())
    return [part["text"] for part in document["content"]]


@pytest.mark.parametrize(
    ("pattern", "text", "left"),
    [
        ("bar", "foobar", "foo"),
        ("bar", "babarr", "[REDACTED]"),
        ("bar", "bbababarrar", None),
        ("bar", '{"a": "babarr"}', '{"a": "[REDACTED]"}'),
        ("TED", "TTEDED", "[REDACTED]"),
        ("E", "aEb", "ab"),
        ("e", "[REDACTED] e", "[REDACTED] "),
    ],
)
def test_nothing_is_joined(pattern: str, text: str, left: str | None) -> None:
    """A mark stands where removing would make what had to be removed."""
    (result,) = redact(rule_set(pattern), text)
    assert pattern not in result.replace("[REDACTED]", "")
    assert left is None or result == left


def test_nor_over_two_parts() -> None:
    """Each part loses something, and together they had the rest of it."""
    parts = redact(rule_set("bar", "ZZ$"), "bZZ", "ar")
    assert "bar" not in "".join(parts)


def test_a_replacement_that_matches_ends_all_the_same() -> None:
    """It is what the guardrail says, and stays; what makes more of itself goes as a whole."""
    assert redact(rule_set("a", replacement="banana"), "xax") == ["xbananax"]
    rules = rule_set(r"x\[REDACTED\]|a", replacement="[REDACTED]")
    assert redact(rules, "x" * 9 + "a b") == ["[REDACTED]"]


def test_what_comes_of_it_can_block() -> None:
    """One that redacts must not make what another one blocks."""
    redacting = Guardrail(name="a", type="custom_regex", action="redact",
                          config={"patterns": ["-"], "replacement": ""})  # fmt: skip
    blocking = Guardrail(name="b", type="custom_regex", action="block", config={"patterns": ["falcon"]})
    rules = RuleSet([make_rule("a", redacting), make_rule("b", blocking)], "input")
    with pytest.raises(Forbidden):
        redact(rules, "a fal-con")


@given(st.text("bar ", max_size=30), st.integers(1, 4))
def test_of_a_stream_nothing_is_joined(text: str, size: int) -> None:
    """However it is cut: neither in what goes out, nor over what was taken out."""
    dialect, media, make = vendors.STREAMS["chat"]
    out = run(make_stage(dialect, media, rule_set("bar", direction="output")), make(cut(text, size)))
    assert not [one for one in vendors.spelled(out, media) if "bar" in one]


def test_a_stream_loses_what_can_be_taken_out() -> None:
    """No mark where nothing could be joined."""
    dialect, media, make = vendors.STREAMS["chat"]
    out = run(make_stage(dialect, media, rule_set("bar", direction="output")), make(cut("a bar and", 1)))
    assert "a  and" in vendors.spelled(out, media)
