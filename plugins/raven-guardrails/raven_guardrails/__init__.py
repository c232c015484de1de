"""The plugin `guardrails`: what an organisation wants kept out of requests and replies.

Responsible for when guardrails run and what their findings come to. What they look for is `finders`, where
texts are is `texts`, how a stream is held back `stage`. Nothing runs, and nothing is held back, where an
organisation has no guardrail.
"""

from __future__ import annotations

from typing import Any

import msgspec
import structlog

from raven_proxy import ConfigError, Exchange, hookimpl
from raven_proxy.gateway import Gateway

from .consulting import Asker
from .judging import RuleSet, make_rule
from .policies import Declared, Policies
from .replies import judge_reply
from .report import Report
from .requests import judge_request
from .rules import InvalidRule, read_table

__all__ = ["Guardrails"]

_log = structlog.get_logger("raven_guardrails")
_NOTE = "guardrails"


class Guardrails:
    """Judges what goes to providers and what comes back."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`[plugin.guardrails]`.

        `rules` hold for every organisation, or for the one that a rule's `organization` names; the fields
        are those of `/guardrails`, with underscores.
        """

        rules: tuple[dict[str, Any], ...] = ()

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Guardrails.Config()
        self._policies = Policies(_read_rules(self._config.rules))
        self._allow_private = False

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Read the guardrails that are stored, and again whenever one changes."""
        self._allow_private = gateway.config.allow_private_upstreams

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        """Judge a request: refuse it, or send it redacted."""
        principal = exchange.principal
        assert principal is not None
        policy = self._policies.of(principal.organization_id)
        if (policy.input is None and policy.output is None) or exchange.face.serve is not None:
            return
        exchange.notes[_NOTE] = report = Report()
        if policy.input is None or not (exchange.body or exchange.face.raw):
            return
        report.run(policy.input)
        try:
            body = await judge_request(exchange, policy.input, report, self._asker(exchange))
        finally:
            exchange.response_headers.update(report.headers())
        if body is not None:
            exchange.replace_body(body)

    @hookimpl
    async def check_reply(self, exchange: Exchange) -> None:
        """Judge a whole reply: refuse it, or send it redacted."""
        report = exchange.notes.get(_NOTE)
        rules = self._output(exchange)
        if report is None or rules is None or not exchange.reply_body:
            return
        report.run(rules)
        try:
            exchange.reply_body = await judge_reply(
                exchange.reply_body, exchange.face.dialect.name, rules, report, self._asker(exchange)
            )
        finally:
            exchange.response_headers.update(report.headers())

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        """Log what was found, without the texts."""
        report = exchange.notes.get(_NOTE)
        if report is None:
            return
        principal = exchange.principal
        owner = principal.organization_id if principal is not None else None
        for (direction, rule), count in report.found.items():
            _log.warning(
                "guardrail found something",
                request_id=exchange.id,
                organization_id=owner,
                guardrail=rule.name,
                guardrail_id=rule.id,
                type=rule.type,
                action=rule.action,
                shadow=rule.shadow,
                direction=direction,
                count=count,
            )
        for direction, rule in report.failed:
            _log.error(
                "a guardrail's webhook gave no answer",
                request_id=exchange.id,
                guardrail=rule.name,
                guardrail_id=rule.id,
                direction=direction,
            )

    def _output(self, exchange: Exchange) -> RuleSet | None:
        principal = exchange.principal
        return self._policies.of(principal.organization_id).output if principal is not None else None

    def _asker(self, exchange: Exchange) -> Asker:
        assert exchange.principal is not None
        return Asker(exchange.id, exchange.principal.organization_id, self._allow_private)


def _read_rules(tables: tuple[dict[str, Any], ...]) -> list[Declared]:
    declared = []
    for number, table in enumerate(tables):
        fields = dict(table)
        organization_id = fields.pop("organization", None)
        try:
            guardrail = read_table(fields)
            _ = make_rule("", guardrail)
        except InvalidRule as error:
            place = f"rules[{number}].{error.param}".rstrip(".")
            raise ConfigError(f"[plugin.guardrails] {place}: {error}") from None
        declared.append(Declared(f"config:{number}", guardrail, organization_id))
    return declared
