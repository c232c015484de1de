"""The resource `/guardrails`, and `/guardrails/test`: what guardrails would make of a text."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from raven_proxy import InvalidRequest, Refused
from raven_proxy.addresses import is_public_host
from raven_proxy.organizations import Organizations
from raven_proxy.resources import Action, ActionCall, Caller, Change, Records, Resource, invalid, outranks

from .finders import Finder, make_finder
from .judging import Rule, RuleSet, make_rule
from .policies import Declared, Policies
from .rules import Direction, Guardrail, InvalidRule, Kind, Webhook, read_config
from .threads import Threads
from .trial import Tried, try_rules
from .webhooks import Asker

__all__ = ["MIGRATIONS", "MOST_GUARDRAILS", "Management"]

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
MOST_GUARDRAILS = 100
"""Guardrails of one organisation."""
_MOST_SIZE = 20_000  # of `Finder.size`, together
_MOST_TRIED = 10**6  # characters
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
        self._refreshing = asyncio.Lock()  # what was read last has to hold
        self.organizations = Organizations()  # the gateway's, once it has started
        self.resource: Resource[Guardrail] = Resource(
            name="guardrails", singular="guardrail", table="guardrails", prefix="guard_", body=Guardrail,
            summary="Guardrails: what is kept out of requests and replies", example=_EXAMPLE,
            prepare=self._prepare, check=self._check, conceal=_conceal,
            actions=(
                Action(
                    name="test", summary="Try guardrails on texts, without sending them anywhere", on="all",
                    run=self._test, body=Trial, reply=Verdict, role="developer",
                ),
            ),
        )  # fmt: skip

    async def refresh(self, records: Records) -> None:
        """Read the stored guardrails; from the next request on they hold."""
        async with self._refreshing:
            stored = [
                Declared(one.id, one.body, one.organization_id) for one in await records.load(self.resource)
            ]
            await self.threads.run(self._policies.replace, stored)

    async def _prepare(self, fields: Mapping[str, Any]) -> Finder | InvalidRule | None:
        """Compile what is sent, before the transaction; a change need not say of which type it is."""
        config = fields.get("config")
        return await self.threads.run(_precompile, config) if isinstance(config, dict) else None

    async def _check(self, change: Change[Guardrail]) -> None:
        """Judge a guardrail by itself, and what an organisation has of them. Raises Refused."""
        body, before = change.body, change.before
        config = _read(body)
        if isinstance(change.prepared, InvalidRule):
            raise _as_invalid(change.prepared)
        was_on = before is not None and before.body.is_enabled
        if before is None or (body.type, body.config) != (before.body.type, before.body.config):
            _ = _compile(body)  # quick: what takes long is `prepared`
            self._check_host(config)
        elif was_on or not body.is_enabled:
            return
        if before is None:
            await _check_number(change)
        finder = await self.threads.run(make_finder, config)
        size = finder.size if finder is not None and body.is_enabled else 0
        owner = change.caller.organization_id
        if size and self._policies.size_of(owner, without=change.id) + size > _MOST_SIZE:
            raise invalid("config", "with the organization's other guardrails it is too much to look for")

    def _check_host(self, config: msgspec.Struct, within: str = "") -> None:
        """Refuse a webhook that nobody would ask. Raises InvalidRequest."""
        if isinstance(config, Webhook) and not self.allow_private:
            host = urlsplit(config.url).hostname or ""
            if not is_public_host(host):
                raise invalid(f"{within}config.url", "must lead to a public address")

    async def _test(self, call: ActionCall) -> Verdict:
        trial: Trial = call.body
        if sum(map(len, trial.texts)) > _MOST_TRIED:
            raise invalid("texts", f"together they must have at most {_MOST_TRIED:,} characters")
        organization_id = call.caller.organization_id
        rules = await self.threads.run(self._rules, trial, organization_id)
        known = self.organizations.get(organization_id)
        asker = Asker(call.caller.request_id, organization_id, self.allow_private, self.threads, known)
        tried = await try_rules(rules, trial.texts, asker, asks=trial.ask_webhooks)
        return Verdict(outcome=tried.outcome, texts=tried.texts, guardrails=tried.guardrails)

    def _rules(self, trial: Trial, organization_id: str) -> RuleSet:
        direction: Direction = trial.direction
        if trial.guardrail is not None:
            rule = _compile(trial.guardrail, "guardrail.")
            self._check_host(_read(trial.guardrail), "guardrail.")
            return RuleSet([rule], direction)
        policy = self._policies.of(organization_id)
        return (policy.input if direction == "input" else policy.output) or RuleSet((), direction)


def _conceal(caller: Caller, shown: dict[str, Any]) -> dict[str, Any]:
    """Leave a webhook's address out for who may not change it: it may hold a credential."""
    if shown["type"] != "webhook" or outranks(caller.role, "admin"):
        return shown
    return shown | {"config": {**shown["config"], "url": "(hidden)"}}


async def _check_number(change: Change[Guardrail]) -> None:
    (row,) = await change.transaction.fetch_all(
        "SELECT count(*) AS number FROM guardrails WHERE organization_id = ?",
        (change.caller.organization_id,),
    )
    if row["number"] >= MOST_GUARDRAILS:
        raise Refused(f"An organization has at most {MOST_GUARDRAILS} guardrails.", status=409)


def _precompile(config: dict[str, Any]) -> Finder | InvalidRule | None:
    """Compile a config of topics or patterns, or say why not; what else there is takes no time."""
    if not {"topics", "patterns"} & config.keys():
        return None
    kind: Kind = "custom_regex" if "patterns" in config else "block_topics"
    try:
        return make_finder(read_config(Guardrail(name="x", type=kind, config=config)))
    except InvalidRule as error:
        return error


def _read(declared: Guardrail) -> msgspec.Struct:
    try:
        return read_config(declared)
    except InvalidRule as error:
        raise _as_invalid(error) from None


def _compile(declared: Guardrail, within: str = "") -> Rule:
    try:
        return make_rule("", declared)
    except InvalidRule as error:
        raise _as_invalid(error, within) from None


def _as_invalid(error: InvalidRule, within: str = "") -> InvalidRequest:
    return invalid(f"{within}{error.param}", str(error).rstrip("."))
