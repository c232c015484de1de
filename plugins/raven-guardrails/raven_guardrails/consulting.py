"""Runs the webhooks over passages that local guardrails have judged, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from .charsets import read_latin
from .judging import Rule, RuleSet
from .report import Report, blocked
from .slots import Slot
from .webhooks import Asker, ask

__all__ = ["Asker", "consult"]


async def consult(rules: RuleSet, slots: Sequence[Slot], asker: Asker, report: Report) -> bool:
    """Ask every webhook; put its texts in the place of those that it changes, and say whether one did.

    Raises Forbidden (`guardrail_blocked`) for what one flags, and for no answer where that counts as one.
    One that lies where the organisation's data may not go gives none.
    """
    changed = False
    for rule in rules.webhooks:
        texts = [slot.text for slot in slots]
        if not any(texts):
            return changed
        answer = await ask(rule, texts, rules.direction, asker)
        if answer is None:
            _note_failure(rule, rules, report)
        elif answer.flagged:
            report.note(rules.direction, rule)
            if not rule.enforces:
                continue
            if rule.action == "block" or answer.texts is None:
                raise blocked(rule, rules.direction)
            for slot, text in zip(slots, answer.texts, strict=True):
                if text != read_latin(slot.text):  # it was asked about the text as it reads
                    changed = True
                    slot.write(text)
    return changed


def _note_failure(rule: Rule, rules: RuleSet, report: Report) -> None:
    report.failed.add((rules.direction, rule))
    if rule.must_agree:
        raise blocked(rule, rules.direction, "Its webhook gave no answer.")
