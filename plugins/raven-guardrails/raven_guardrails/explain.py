"""What guardrails would make of a request that is only imagined. Nobody is asked, and nothing changes."""

from __future__ import annotations

from raven_proxy import Exchange
from raven_proxy.findings import Finding

from .judging import Rule, RuleSet
from .policies import Policy
from .report import blocked
from .requests import list_texts

__all__ = ["explain"]


def explain(exchange: Exchange, policy: Policy) -> list[Finding]:
    """Say of each guardrail what it would do. Raises InvalidRequest for a body that cannot be judged."""
    findings = _explain_input(exchange, policy.input) if policy.input is not None else []
    for rule in policy.output.rules if policy.output is not None else ():
        reason = f"It judges the reply ({rule.action}{', in shadow' if rule.shadow else ''})."
        findings.append(
            Finding(rule=rule.name, verdict="allows", reason=reason, details=_details(rule, "output"))
        )
    if not findings:
        reason = "The organization has no guardrails."
        findings = [Finding(rule="guardrails", verdict="passes_over", reason=reason)]
    return findings


def _explain_input(exchange: Exchange, rules: RuleSet) -> list[Finding]:
    passages = list_texts(exchange)
    counts: dict[Rule, int] = {}
    for passage in passages:
        for one in rules.find("".join(slot.text for slot in passage)):
            counts[one.rule] = counts.get(one.rule, 0) + 1
    length = sum(len(passage[0].text) for passage in passages if len(passage) == 1)
    for rule in rules.lengths:
        counts[rule] = int(rule.most is not None and length > rule.most)
    return [_explain(rule, counts.get(rule, 0)) for rule in rules.rules]


def _explain(rule: Rule, count: int) -> Finding:
    details = {**_details(rule, "input"), "found": count}
    if rule.webhook is not None:
        reason = "Its webhook is asked for real requests only."
        return Finding(rule=rule.name, verdict="passes_over", reason=reason, details=_details(rule, "input"))
    if not count:
        return Finding(rule=rule.name, verdict="allows", reason="It finds nothing.", details=details)
    if rule.enforces and rule.action == "block":
        return Finding.refusing(rule.name, blocked(rule, "input"), **details)
    if rule.enforces:
        reason = "What it finds would be redacted."
        return Finding(rule=rule.name, verdict="changes", reason=reason, details=details)
    reason = "It finds something, and only tells."
    return Finding(rule=rule.name, verdict="allows", reason=reason, details=details)


def _details(rule: Rule, direction: str) -> dict[str, object]:
    return {"type": rule.type, "action": rule.action, "shadow": rule.shadow, "direction": direction}
