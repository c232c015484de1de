"""What the guardrails did with one exchange: for the client's headers and for the log. Never the texts."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import quote

from raven_proxy import Forbidden

from .judging import Rule, RuleSet
from .rules import Direction

__all__ = ["Report", "blocked"]

HEADER = "X-Raven-Guardrails"
WARNINGS = "X-Guardrail-Warnings"
_DONE = {"block": "blocked", "redact": "redacted", "warn": "warned", "log": "passed"}
_SAFE = " -_.:/()+"


class Report:
    """Which guardrails ran on an exchange, and how often each found something."""

    __slots__ = ("_ran", "copy", "failed", "found", "has_watched", "is_staged")

    def __init__(self) -> None:
        self._ran: dict[Direction, tuple[Collection[Rule], str]] = {}
        self.found: dict[tuple[Direction, Rule], int] = {}
        self.failed: set[tuple[Direction, Rule]] = set()  # webhooks that gave no answer
        self.is_staged = False  # a stage judges the reply
        self.has_watched = False  # something of it has come there
        self.copy: bytearray | None = None  # of a stream, for those that look at it when it is over

    def run(self, rules: RuleSet, result: str = "passed") -> None:
        """Note that they run; `result` is what is said of those that find nothing."""
        self._ran[rules.direction] = (rules.rules, result)

    def run_on_error(self, rules: RuleSet, *, is_upstreams: bool) -> None:
        """Note what ran where an error goes out instead of a reply: on what the provider said of it, or on
        what had come of a stream. Nothing is `watched` then. Schemas have no say, and webhooks are not asked:
        one that had to agree `failed`.
        """
        if is_upstreams:
            missing = [rule for rule in rules.webhooks if rule.must_agree]
            self.failed.update((rules.direction, rule) for rule in missing)
            ran = [rule for rule in rules.rules if rule.schema is None and rule.webhook is None]
            self._ran[rules.direction] = (ran + missing, "passed")
        elif self.is_staged and self.has_watched:
            self._ran[rules.direction] = (rules.rules, "passed")
        elif self.is_staged:
            self._ran.pop(rules.direction, None)

    def note(self, direction: Direction, rule: Rule, count: int = 1) -> None:
        """Note that one found something, `count` times more."""
        key = (direction, rule)
        self.found[key] = self.found.get(key, 0) + count

    def tell(self, headers: dict[str, str]) -> None:
        """Write what the client is told into a reply's headers."""
        for name in (HEADER, WARNINGS):
            headers.pop(name, None)
        headers.update(self.headers())

    def headers(self) -> dict[str, str]:
        """Give what the client is told: who ran and what came of it, and the warnings.

        Those in shadow are not named: they are tried out, and it is nobody's affair but the log's.
        """
        results: dict[str, list[str]] = {}
        warnings: list[str] = []
        for direction, (rules, otherwise) in self._ran.items():
            for rule in rules:
                if rule.shadow:
                    continue
                name = quote(rule.name, safe=_SAFE)
                result = otherwise
                if (direction, rule) in self.failed:
                    result = "failed"
                elif (direction, rule) in self.found:
                    result = _DONE[rule.action]
                results.setdefault(name, []).append(f"{direction}={result}")
                if result == "warned" and name not in warnings:
                    warnings.append(name)
        if not results:
            return {}
        told = {HEADER: ", ".join(";".join((name, *said)) for name, said in results.items())}
        return told | {WARNINGS: ", ".join(warnings)} if warnings else told


def blocked(rule: Rule, direction: Direction, reason: str = "") -> Forbidden:
    """Make the 403 of a guardrail that blocks. It says which, and nothing of what was found."""
    what = "request" if direction == "input" else "reply"
    rest = f" {reason}" if reason else ""
    whose = " of this organisation" if rule.is_stored else ""
    return Forbidden(
        f"The guardrail {rule.name!r}{whose} blocked the {what}.{rest}",
        code="guardrail_blocked",
        metadata={"guardrail": rule.name, "direction": direction},
    )
