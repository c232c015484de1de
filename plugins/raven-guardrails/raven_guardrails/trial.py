"""Runs guardrails on texts for somebody who wants to know: nothing is refused, all of them are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from .judging import Edit, Found, Rule, RuleSet, edit, edits_of
from .webhooks import Asker, ask

__all__ = ["Tried", "TriedAll", "try_rules"]


class Tried(msgspec.Struct, kw_only=True, rename="camel"):
    """One guardrail, and how often it found something; -1 for a webhook that gave no answer.

    `wasAsked` is false for webhooks that nobody wanted to ask.
    """

    id: str | None
    name: str
    type: str
    action: str
    shadow: bool
    found: int
    was_asked: bool = True


class TriedAll(msgspec.Struct):
    """What became of the texts."""

    outcome: Literal["passed", "redacted", "blocked"]
    texts: list[str] | None
    guardrails: list[Tried]


async def try_rules(rules: RuleSet, texts: Sequence[str], asker: Asker, *, asks: bool) -> TriedAll:
    """Judge texts as parts of one message, in a thread; with `asks` by webhooks too."""
    whole = "".join(texts)
    counts, edits = await asker.threads.run(_judge, rules, whole)
    redacted = edit(texts, edits)
    tried: list[Tried] = []
    blocks = False
    changed = bool(edits)
    for rule in rules.rules:
        count, was_asked = counts[rule], True
        if rule.webhook is not None:
            was_asked = asks
            if asks:
                count, answer = await _ask(rule, rules, redacted, asker)
                changed |= answer != redacted
                redacted = answer
        fails = count > 0 or (count < 0 and rule.webhook is not None and rule.webhook.on_error == "block")
        blocks |= fails and rule.enforces and (rule.action == "block" or count < 0)
        tried.append(
            Tried(
                id=rule.id or None,
                name=rule.name,
                type=rule.type,
                action=rule.action,
                shadow=rule.shadow,
                found=count,
                was_asked=was_asked,
            )
        )  # fmt: skip
    if blocks:
        return TriedAll("blocked", None, tried)
    return TriedAll("redacted" if changed else "passed", redacted, tried)


def _judge(rules: RuleSet, text: str) -> tuple[dict[Rule, int], list[Edit]]:
    found = rules.find(text)
    return {rule: _count(rule, text, found) for rule in rules.rules}, edits_of(found)


def _count(rule: Rule, text: str, found: Sequence[Found]) -> int:
    if rule.finder is not None:
        return sum(one.rule is rule for one in found)
    if rule.most is not None:
        return int(len(text) > rule.most)
    return int(rule.schema is not None and not rule.schema.accepts(text))


async def _ask(rule: Rule, rules: RuleSet, texts: list[str], asker: Asker) -> tuple[int, list[str]]:
    answer = await ask(rule, texts, rules.direction, asker)
    if answer is None:
        return -1, texts
    redacts = answer.flagged and rule.enforces and rule.action == "redact" and answer.texts is not None
    return int(answer.flagged), list(answer.texts or ()) if redacts else texts
