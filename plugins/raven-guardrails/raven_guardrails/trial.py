"""Runs guardrails on texts for somebody who wants to know: nothing is refused, all of them are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from raven_proxy import Forbidden

from .judging import Found, Rule, RuleSet, edits_of
from .passages import redact
from .report import Report
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
    counts, redacted = await asker.threads.run(_judge, rules, texts)
    tried: list[Tried] = []
    blocks = False
    changed = redacted != list(texts)
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


def _judge(rules: RuleSet, texts: Sequence[str]) -> tuple[dict[Rule, int], list[str]]:
    whole = "".join(texts)
    found = rules.find(whole)
    counts = {rule: _count(rule, whole, found) for rule in rules.rules}
    edits = edits_of(found)
    if not edits:
        return counts, list(texts)
    report = Report()
    try:
        return counts, redact(rules, texts, edits, report)
    except Forbidden:  # of what was left
        return {rule: counts[rule] or report.found.get((rules.direction, rule), 0) for rule in counts}, []


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
