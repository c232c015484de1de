"""Judges what a provider says of an error: it may repeat the request, or anything else.

By the guardrails of output, as any reply. Webhooks are not asked about an error, since nobody can wait there:
where one has to agree, the provider's own words are left out.
"""

from __future__ import annotations

from typing import Any

from raven_proxy import GatewayError
from raven_proxy.errors import default_code, default_type

from .judging import MARK, RuleSet
from .passages import check_lengths, judge_passages
from .report import Report
from .slots import Passage, Slot

__all__ = ["judge_error"]

_OURS = frozenset({"provider", "status"})  # members of `metadata` that are no words of the provider


def judge_error(error: GatewayError, rules: RuleSet, report: Report) -> None:
    """Redact a provider's error in place; one that is blocked becomes a 403 `guardrail_blocked`."""
    said: dict[str, Any] = {"message": error.message, "code": error.code, "param": error.param}
    holders: list[dict[str, Any]] = [said]
    if error.metadata is not None:
        error.metadata = dict(error.metadata)
        holders.append(error.metadata)
    slots = [Slot(one, name, one[name]) for one in holders for name in one if isinstance(one[name], str)]
    passages: list[Passage] = [(slot,) for slot in slots if slot.key not in _OURS]
    try:
        check_lengths(rules, sum(len(passage[0].text) for passage in passages), report)
        _ = judge_passages(rules, passages, report)
    except GatewayError as refusal:
        _replace(error, refusal)
        return
    except Exception:
        _withhold(error)
        raise
    error.message, error.param = said["message"], said["param"]
    if said["code"] != error.code:
        error.code = default_code(error.status)
    error.args = (error.message,)
    if any(rule.must_agree for rule in rules.webhooks):
        _withhold(error)


def _withhold(error: GatewayError) -> None:
    """Leave out what the provider said; its status stays."""
    error.message = f"The provider did not accept the request. What it said: {MARK}."
    error.args = (error.message,)
    error.code, error.type, error.param = default_code(error.status), default_type(error.status), None
    error.metadata = {name: value for name, value in (error.metadata or {}).items() if name in _OURS}


def _replace(error: GatewayError, refusal: GatewayError) -> None:
    for name in ("message", "status", "code", "type", "param", "metadata", "args"):
        setattr(error, name, getattr(refusal, name))
