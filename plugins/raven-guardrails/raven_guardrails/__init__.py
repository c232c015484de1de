"""The plugin `guardrails`: what an organisation wants kept out of requests and replies.

Responsible for when guardrails run and what their findings come to. What they look for is `finders`, where
texts are is `texts`, how a stream is held back `stage`. Nothing runs, and nothing is held back, where an
organisation has no guardrail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Meta

from raven_proxy import ConfigError, Exchange, Stage, UpstreamError, hookimpl
from raven_proxy.documents import is_collected, is_json
from raven_proxy.findings import Finding
from raven_proxy.gateway import Gateway
from raven_proxy.resources import Resource

from .answers import is_answering
from .collected import judge_stream
from .errors import judge_error
from .explain import explain
from .frames import Framer, is_plain_text, open_framer
from .judging import RuleSet, make_rule
from .management import MIGRATIONS, Management
from .policies import Declared, Policies
from .replies import judge_reply
from .report import Report
from .requests import judge_request
from .rules import InvalidRule, read_table
from .shapes import PLAIN, Shape, shape_of
from .stage import MOST_COPIED, Copying, Hold, Holding, Watching
from .webhooks import Asker

__all__ = ["Guardrails"]

_log = structlog.get_logger("raven_guardrails")
_NOTE = "guardrails"


class Guardrails:
    """Judges what goes to providers and what comes back."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`[plugin.guardrails]`.

        `rules` hold for every organisation, or for the one that a rule's `organization` names; the fields
        are those of `/guardrails`, with underscores. Of a text in a stream at most `hold_back` characters
        wait for what could make a match of them, and at most `max_held_bytes` of a stream.
        """

        rules: tuple[dict[str, Any], ...] = ()
        hold_back: Annotated[int, Meta(ge=16, le=65536)] = 256
        max_held_bytes: Annotated[int, Meta(ge=4096)] = 256 * 1024

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Guardrails.Config()
        self._policies = Policies(_read_rules(self._config.rules))
        self._management = Management(self._policies)
        self._stop_watching: Callable[[], None] | None = None

    @hookimpl
    def register_resources(self, register: Callable[[Resource[Any]], None]) -> None:
        """Add `/guardrails`."""
        register(self._management.resource)

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Read the guardrails that are stored, and again whenever one changes."""
        management = self._management
        management.organizations = gateway.organizations
        management.allow_private = gateway.config.allow_private_upstreams
        await gateway.storage.migrate("guardrails", MIGRATIONS)
        self._stop_watching = gateway.storage.watch(
            management.resource.name, lambda: management.refresh(gateway.records)
        )
        await management.refresh(gateway.records)

    @hookimpl
    async def shutdown(self) -> None:
        """Watch no longer, and let the threads end."""
        if self._stop_watching is not None:
            self._stop_watching()
        self._management.threads.close()

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
            report.tell(exchange.response_headers)
        if body is not None:
            exchange.replace_body(body)

    @hookimpl
    def open_stage(self, exchange: Exchange) -> Stage | None:
        """Watch over a stream; a whole reply is judged in `check_reply`."""
        report = exchange.notes.get(_NOTE)
        rules = self._output(exchange) if report is not None else None
        if report is None or rules is None or is_collected(exchange):
            return None
        framer = _framer(exchange)
        if framer is None:
            return None  # media
        if rules.wants_all:
            exchange.collects = True
            return None
        report.run(rules, "watched")
        report.is_staged = True
        report.tell(exchange.response_headers)
        hold = self._hold(exchange, rules, report)
        stage = Holding(framer, hold) if rules.is_enforcing else Watching(framer, hold)
        if not rules.watches_all:
            return stage
        report.copy = bytearray()
        return Copying(stage, report.copy)

    @hookimpl
    async def check_reply(self, exchange: Exchange) -> None:
        """Judge a whole reply: refuse it, or send it redacted."""
        report = exchange.notes.get(_NOTE)
        rules = self._output(exchange)
        body = exchange.reply_body
        if report is None or rules is None or not body or report.is_staged:
            return
        report.run(rules)
        asker, answers = self._asker(exchange), _is_answering(exchange)
        exchange.reply_body = b""  # who looks afterwards must not find what was refused
        try:
            framer = _framer(exchange) if exchange.collects else None
            if framer is not None:
                hold = self._hold(exchange, rules, report, keeps=True)
                body = await judge_stream(
                    body, framer, hold, _shape(exchange), rules, report, asker, answers=answers
                )
            else:
                dialect = exchange.face.dialect.name
                kind = exchange.content_type
                body = await judge_reply(body, kind, dialect, rules, report, asker, answers=answers)
            exchange.reply_body = body
        finally:
            report.tell(exchange.response_headers)

    @hookimpl(tryfirst=True)  # before anybody writes down what the provider said
    def settle_exchange(self, exchange: Exchange) -> None:
        """Judge what a provider says of an error; the client has not got it yet."""
        error, report, rules = exchange.error, exchange.notes.get(_NOTE), self._output(exchange)
        if error is None or report is None or rules is None:
            return
        is_upstreams = isinstance(error, UpstreamError)
        report.run_on_error(rules, is_upstreams=is_upstreams)
        try:
            if is_upstreams:
                judge_error(error, rules, report)
        finally:
            report.tell(exchange.response_headers)

    @hookimpl
    async def explain_exchange(self, exchange: Exchange) -> list[Finding]:
        """Say what each guardrail would do."""
        assert exchange.principal is not None
        policy = self._policies.of(exchange.principal.organization_id)
        return await self._management.threads.run(explain, exchange, policy)

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        """Ask those that only look at a stream as a whole; log what was found, without the texts."""
        report = exchange.notes.get(_NOTE)
        if report is None:
            return
        if report.copy:
            await self._look_back(exchange, report, bytes(report.copy))
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

    async def _look_back(self, exchange: Exchange, report: Report, body: bytes) -> None:
        rules, framer = self._output(exchange), _framer(exchange)
        if rules is None or framer is None or not exchange.is_complete or len(body) >= MOST_COPIED:
            return
        after = RuleSet(rules.watches_all, "output")
        hold = self._hold(exchange, after, report, keeps=True)
        asker, answers = self._asker(exchange), _is_answering(exchange)
        shape = _shape(exchange)
        _ = await judge_stream(body, framer, hold, shape, after, report, asker, answers=answers)

    def _hold(self, exchange: Exchange, rules: RuleSet, report: Report, *, keeps: bool = False) -> Hold:
        return Hold(
            rules,
            report,
            _shape(exchange),
            cap=self._config.hold_back,
            max_held_bytes=self._config.max_held_bytes,
            keeps=keeps,
        )

    def _output(self, exchange: Exchange) -> RuleSet | None:
        principal = exchange.principal
        return self._policies.of(principal.organization_id).output if principal is not None else None

    def _asker(self, exchange: Exchange) -> Asker:
        assert exchange.principal is not None
        organization_id = exchange.principal.organization_id
        known = self._management.organizations.get(organization_id)
        management = self._management
        return Asker(exchange.id, organization_id, management.allow_private, management.threads, known)


def _is_answering(exchange: Exchange) -> bool:
    return is_answering(exchange.face.dialect.name, opaque=exchange.face.opaque)


def _framer(exchange: Exchange) -> Framer | None:
    is_array = exchange.face.streams_json and is_json(exchange.content_type)
    return open_framer(exchange.content_type, is_array=is_array)


def _shape(exchange: Exchange) -> Shape:
    is_plain = is_plain_text(exchange.content_type) and not exchange.face.streams_json
    return PLAIN if is_plain else shape_of(exchange.face.dialect.name)


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
