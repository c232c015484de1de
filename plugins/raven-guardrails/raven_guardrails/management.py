"""The resource `/guardrails`, and `/guardrails/test`: what guardrails would make of a text."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from raven_proxy.organizations import Organizations
from raven_proxy.resources import Action, ActionCall, Change, Records, Resource, invalid

from .judging import Rule, RuleSet, make_rule
from .policies import Declared, Policies
from .rules import Direction, Guardrail, InvalidRule
from .threads import Threads
from .trial import Tried, try_rules
from .webhooks import Asker

__all__ = ["MIGRATIONS", "Management"]

MIGRATIONS = (
    """CREATE TABLE guardrails (
      id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, created_at INTEGER NOT NULL, name TEXT NOT NULL,
      type TEXT NOT NULL, action TEXT NOT NULL, applies_to TEXT NOT NULL, config TEXT NOT NULL,
      priority INTEGER NOT NULL, shadow INTEGER NOT NULL, is_enabled INTEGER NOT NULL,
      UNIQUE (organization_id, name)
    );""",
)
_EXAMPLE = {
    "name": "No card numbers",
    "type": "pii",
    "action": "redact",
    "appliesTo": "both",
    "config": {"entities": ["credit_card"]},
}
Text = Annotated[str, Meta(max_length=100_000)]


class Trial(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /guardrails/test`: texts that are read as the parts of one message.

    They are judged by all guardrails that hold for the organisation, or by `guardrail` alone, which need not
    be saved. Webhooks are asked only with `askWebhooks`.
    """

    texts: Annotated[list[Text], Meta(min_length=1, max_length=100)]
    direction: Literal["input", "output"] = "input"
    guardrail: Guardrail | None = None
    ask_webhooks: bool = False


class Verdict(msgspec.Struct, kw_only=True, rename="camel"):
    """What would become of the texts, and which guardrail found how much. `texts` is null if one blocks."""

    outcome: Literal["passed", "redacted", "blocked"]
    texts: list[str] | None
    guardrails: list[Tried]


class Management:
    """What people do with guardrails, on one gateway's policies."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self.allow_private = False
        self.threads = Threads()
        self.organizations = Organizations()  # the gateway's, once it has started
        self.resource: Resource[Guardrail] = Resource(
            name="guardrails", singular="guardrail", table="guardrails", prefix="guard_", body=Guardrail,
            summary="Guardrails: what is kept out of requests and replies", example=_EXAMPLE,
            check=_check,
            actions=(
                Action(
                    name="test", summary="Try guardrails on texts, without sending them anywhere", on="all",
                    run=self._test, body=Trial, reply=Verdict, role="developer",
                ),
            ),
        )  # fmt: skip

    async def refresh(self, records: Records) -> None:
        """Read the stored guardrails; from the next request on they hold."""
        self._policies.replace(
            Declared(one.id, one.body, one.organization_id) for one in await records.load(self.resource)
        )

    async def _test(self, call: ActionCall) -> Verdict:
        trial: Trial = call.body
        rules = self._rules(trial, call.caller.organization_id)
        organization_id = call.caller.organization_id
        known = self.organizations.get(organization_id)
        asker = Asker(call.caller.request_id, organization_id, self.allow_private, self.threads, known)
        tried = await try_rules(rules, trial.texts, asker if trial.ask_webhooks else None)
        return Verdict(outcome=tried.outcome, texts=tried.texts, guardrails=tried.guardrails)

    def _rules(self, trial: Trial, organization_id: str) -> RuleSet:
        direction: Direction = trial.direction
        if trial.guardrail is not None:
            rule = _compile(trial.guardrail, "guardrail.")
            return RuleSet([rule], direction)
        policy = self._policies.of(organization_id)
        return (policy.input if direction == "input" else policy.output) or RuleSet((), direction)


async def _check(change: Change[Guardrail]) -> None:
    _ = _compile(change.body)


def _compile(declared: Guardrail, within: str = "") -> Rule:
    try:
        return make_rule("", declared)
    except InvalidRule as error:
        raise invalid(f"{within}{error.param}", str(error).rstrip(".")) from None
