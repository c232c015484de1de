"""Which guardrails hold for whom: those of the config file and those of the database, compiled, in memory."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping

import msgspec
import structlog

from .judging import Rule, RuleSet, make_rule
from .rules import Direction, Guardrail, InvalidRule

__all__ = ["Declared", "Policies", "Policy"]

_log = structlog.get_logger("raven_guardrails")


class Declared(msgspec.Struct, frozen=True):
    """A guardrail and whose it is; `organization_id` is None for those that hold for everybody."""

    id: str
    guardrail: Guardrail
    organization_id: str | None = None


class Policy(msgspec.Struct, frozen=True):
    """The guardrails of one organisation; None where there are none in that direction."""

    input: RuleSet | None = None
    output: RuleSet | None = None


_NONE = Policy()
_Built = dict[str, tuple[list[Rule], Policy]]


class Policies:
    """What a request looks up; replaced as a whole when a guardrail changes."""

    def __init__(self, fixed: Iterable[Declared] = ()) -> None:
        self._compiled: dict[str, tuple[Guardrail, Rule]] = {}
        self._owned: dict[str, tuple[str | None, Rule]] = {}
        self._built: _Built = {}
        self._fixed = tuple(fixed)
        self._everybody = _NONE
        self._own: Mapping[str, Policy] = {}
        self.replace(())

    def of(self, organization_id: str) -> Policy:
        """Give the guardrails that hold for an organisation."""
        return self._own.get(organization_id, self._everybody)

    def size_of(self, organization_id: str, *, without: str = "") -> int:
        """Give the size of an organisation's own guardrails that are on, but for one of them."""
        return sum(
            rule.finder.size
            for owner, rule in self._owned.values()
            if owner == organization_id and rule.id != without and rule.finder is not None
        )

    def replace(self, stored: Iterable[Declared]) -> None:
        """Put these in the place of the stored ones before.

        One that does not compile cannot be saved; should it turn up all the same, it blocks everything
        that it was to judge (and says so in the log), unless it would only have watched.
        """
        compiled: dict[str, tuple[Guardrail, Rule]] = {}
        owned: dict[str, tuple[str | None, Rule]] = {}
        rules: dict[str | None, list[Rule]] = {}
        for one in (*self._fixed, *stored):
            if one.guardrail.is_enabled:
                rule = self._compile(one)
                compiled[one.id] = (one.guardrail, rule)
                owned[one.id] = (one.organization_id, rule)
                rules.setdefault(one.organization_id, []).append(rule)
        self._compiled, self._owned = compiled, owned
        everybody = rules.pop(None, [])
        before, self._built = self._built, {}
        self._everybody = self._build("", everybody, before)
        self._own = {
            str(owner): self._build(str(owner), [*everybody, *own], before) for owner, own in rules.items()
        }

    def _build(self, owner: str, rules: list[Rule], before: _Built) -> Policy:
        """Give the policy of these rules: the one of before, if they are the same."""
        known = before.get(owner)
        same = known is not None and len(known[0]) == len(rules) and all(map(operator.is_, known[0], rules))
        policy = known[1] if known is not None and same else _policy(rules)
        self._built[owner] = rules, policy
        return policy

    def _compile(self, one: Declared) -> Rule:
        before = self._compiled.get(one.id)
        if before is not None and before[0] == one.guardrail:
            return before[1]
        try:
            return make_rule(one.id, one.guardrail)
        except InvalidRule as error:
            _log.error("a guardrail does not compile", guardrail=one.id, reason=str(error))
            declared = one.guardrail
            return Rule(
                id=one.id, name=declared.name, type=declared.type, action=declared.action,
                applies_to=declared.applies_to, shadow=declared.shadow, most=-1,
            )  # fmt: skip


def _policy(rules: list[Rule]) -> Policy:
    sets: dict[Direction, RuleSet | None] = {"input": None, "output": None}
    for direction in sets:
        own = [rule for rule in rules if rule.applies_to in (direction, "both")]
        sets[direction] = RuleSet(own, direction) if own else None
    return Policy(**sets)
