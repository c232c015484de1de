"""One exchange's money: priced and held before it goes up, settled before its last bytes leave.

Admission takes from counters in memory; the journal is written before the provider is asked and again at
the end; the database gets both in batches, behind the reply. Nothing waits for it.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence
from decimal import Decimal

import msgspec
import structlog

from raven_proxy import Exchange, InvalidRequest, Outcome, Principal
from raven_proxy.addresses import OWN_NAMES
from raven_proxy.exchange import Candidate, Usage
from raven_proxy.gateway import Gateway
from raven_proxy.providers import estimate_prompt, prompt_bound
from raven_proxy.upstream import Upstream

from .books import Books
from .estimates import estimate_nano, largest_usage
from .exchanges import INSERT, RowIds, make_row
from .keeper import Keeper
from .pricing import ONE, Tariff, cost_nano, dollars
from .tariffs import Tariffs

__all__ = ["Accounting"]

_log = structlog.get_logger("raven_meter.accounting")
_NOTE = "meter"
_PRODUCED = frozenset({Outcome.COMPLETED, Outcome.TRUNCATED, Outcome.CANCELLED})


class Admission(msgspec.Struct):
    """What an exchange was admitted with: the moment its charge is booked to, and what it holds."""

    at: float
    first: Candidate | None = None  # where it goes if nothing fails, and the prices there
    tariff: Tariff | None = None
    prompt: int | None = None  # its body's bound, once that was asked for
    held: int = 0
    counters: tuple[str, ...] = ()
    version: int | None = None  # of the books that `counters` are all of
    is_recorded: bool = False
    recorded: Candidate | None = None  # the attempt that the journal knows of

    def prompt_of(self, exchange: Exchange) -> int:
        """Bound the tokens of the prompt, by reading the body once."""
        if self.prompt is None:
            self.prompt = prompt_bound(exchange.body)
        return self.prompt


class Accounting:
    """The money of all exchanges of one pipeline."""

    def __init__(
        self,
        gateway: Gateway,
        books: Books,
        keeper: Keeper,
        tariffs: Tariffs,
        ids: RowIds,
        *,
        allow_unpriced: bool,
        assumed_output_tokens: int,
    ) -> None:
        self._gateway = gateway
        self._books = books
        self._keeper = keeper
        self._tariffs = tariffs
        self._ids = ids
        self._allow_unpriced = allow_unpriced
        self._assumed_output_tokens = assumed_output_tokens

    async def admit(self, exchange: Exchange) -> None:
        """Hold what the exchange may cost. Raises InvalidRequest (no price), Refused (402: no money)."""
        principal = exchange.principal
        if principal is None or exchange.face.serve is not None:
            return
        admission = exchange.notes[_NOTE] = Admission(time.time())
        if exchange.face.dialect.is_free:
            return
        tariffs = [self.tariff_of(exchange, one) for one in exchange.candidates]
        if tariffs:
            admission.first, admission.tariff = exchange.candidates[0], tariffs[0]
        version, bounds = self._books.version, self._books.bounds(principal, admission.at)
        if not bounds.counters:
            admission.version = version
            return
        self.check_bounded(exchange)
        estimate = self.estimate(exchange, tariffs, admission.prompt_of(exchange))
        if not estimate and self.costs_nothing(exchange, tariffs):
            return
        denial = await self._gateway.counters.take(bounds.claims(estimate))
        if denial is not None:
            raise self._books.refusal(denial)
        admission.held, admission.counters, admission.version = estimate, bounds.counters, version

    def record_admission(self, exchange: Exchange) -> None:
        """Write down to whom it goes. Raises GatewayError (503): unrecorded, it does not go."""
        admission = exchange.notes.get(_NOTE)
        if not isinstance(admission, Admission):
            return
        if admission.is_recorded and admission.recorded is exchange.candidate:
            return
        self._keeper.begin(exchange, admission.at, admission.prompt_of(exchange))
        admission.is_recorded, admission.recorded = True, exchange.candidate

    def settle(self, exchange: Exchange) -> None:
        """Charge what was used, give back the rest, and write it down."""
        admission = exchange.notes.pop(_NOTE, None)  # so that settling twice gives nothing back twice
        principal = exchange.principal
        if exchange.face.opaque:
            self._assume_usage(exchange)
        if exchange.outcome is Outcome.CANCELLED and exchange.usage is None:
            _charge_prompt(exchange)
        admission = admission if isinstance(admission, Admission) else None
        exchange.cost_nano = cost = self._price(exchange, admission, self.rate_of(principal))
        at = None if admission is None else admission.at
        if cost is not None and exchange.candidate is not None and not exchange.stream:
            exchange.response_headers["X-Raven-Cost"] = dollars(cost)
        row = make_row(exchange, self._ids.next(), cost, at)
        self._gateway.storage.write_behind(INSERT, row)  # first: it is owed, whatever becomes of the counters
        self._keeper.end(exchange.id, row)
        if principal is None:
            return
        if cost:
            self._books.note(exchange.id, principal, cost, time.time() if at is None else at)
        if admission is not None:
            self._give_back(admission, principal, cost or 0)

    def _give_back(self, admission: Admission, principal: Principal, cost: int) -> None:
        """End the hold; what began to bound the caller since is charged too."""
        held = admission.counters
        if held:
            self._gateway.tasks.begin(self._books.settle(held, admission.held, cost), "settle")
        if admission.version == self._books.version:
            return
        now = self._books.bounds(principal, admission.at).counters
        if now is not held and (new := [name for name in now if name not in held]):
            self._gateway.tasks.begin(self._books.settle(new, 0, cost), "settle")

    def _price(self, exchange: Exchange, admission: Admission | None, rate: Decimal) -> int | None:
        """Price what was used, in nano-dollars; None where no price is known."""
        candidate, usage = exchange.candidate, exchange.usage
        if candidate is None or usage is None:
            return 0
        tariff = admission.tariff if admission is not None and candidate is admission.first else None
        if tariff is None and (model := candidate.model or exchange.model) is not None:
            tariff = self._tariffs.find(candidate.upstream.preset, model)
        return cost_nano(usage, tariff, rate_multiplier=rate) if tariff is not None else None

    def tariff_of(self, exchange: Exchange, candidate: Candidate) -> Tariff | None:
        """Find what a candidate costs; None where it may cost nothing. Raises InvalidRequest."""
        model = candidate.model or exchange.model
        if model is None:
            return None  # files and lists cost nothing that a price says; see `check_bounded`
        upstream = candidate.upstream
        tariff = self._tariffs.find(upstream.preset, model)
        if tariff is None and not self._lets_unpriced(exchange) and not _is_own(upstream):
            raise InvalidRequest(
                f"The model {model!r} of {upstream.name} has no known price, so it cannot be billed. Who "
                "runs the gateway can give it one in the file that `catalog` names, or let it pass: with "
                "`allow_unpriced` in [plugin.meter], or `allowUnpriced` of the organisation.",
                code="unknown_model_pricing",
                param="model",
            )
        return tariff

    def check_bounded(self, exchange: Exchange) -> None:
        """Refuse what may cost anything where it must not: a request that names no model, a batch of unknown
        size. Raises InvalidRequest.
        """
        if not _has_no_bound(exchange) or self._lets_unpriced(exchange):
            return
        raise InvalidRequest(
            "What this endpoint costs is not known, as the request names no model that has a price, and a "
            "balance or budget bounds this key. An administrator can let it pass with allow_unpriced.",
            code="unknown_model_pricing",
            param="model",
        )

    def costs_nothing(self, exchange: Exchange, tariffs: Sequence[Tariff | None]) -> bool:
        """Say whether what is estimated at 0 passes without money: files, lists, one's own machine's models.

        Not what has no known price, which may cost anything.
        """
        if _has_no_bound(exchange):
            return False
        return all(
            tariff is not None or (candidate.model or exchange.model) is None or _is_own(candidate.upstream)
            for candidate, tariff in zip(exchange.candidates, tariffs, strict=True)
        )

    def _lets_unpriced(self, exchange: Exchange) -> bool:
        """Say whether models without a price pass: as the organisation says, or else the config."""
        principal = exchange.principal
        known = self._gateway.organizations.get(principal.organization_id) if principal is not None else None
        own = known.allow_unpriced if known is not None else None
        return self._allow_unpriced if own is None else own

    def _assume_usage(self, exchange: Exchange) -> None:
        """Charge a request to an endpoint that nobody knows with what was held, unless its reply says."""
        candidate, model = exchange.candidate, exchange.model
        if exchange.usage is not None or model is None or candidate is None or not exchange.first_byte_at:
            return
        if exchange.request.method == "POST" and exchange.outcome in _PRODUCED:
            exchange.usage = largest_usage(
                exchange,
                longest=candidate.upstream.describe(candidate.model or model).max_tokens,
                assumed_output_tokens=self._assumed_output_tokens,
            )

    @staticmethod
    def rate_of(principal: Principal | None) -> Decimal:
        """Give the multiplier of a caller's prices."""
        value = principal.attributes.get("rate_multiplier") if principal is not None else None
        return Decimal(str(value)) if value is not None else ONE

    def estimate(self, exchange: Exchange, tariffs: Sequence[Tariff | None], prompt: int) -> int:
        """Give what the dearest of the candidates may cost, in nano-dollars."""
        most = 0
        for candidate, tariff in zip(exchange.candidates, tariffs, strict=True):
            if tariff is None:
                continue
            longest = candidate.upstream.describe(candidate.model or exchange.model or "").max_tokens
            estimate = estimate_nano(
                exchange,
                tariff,
                prompt=prompt,
                longest=longest,
                assumed_output_tokens=self._assumed_output_tokens,
            )
            most = max(most, estimate)
        rate = self.rate_of(exchange.principal)
        return most if rate is ONE else int(most * rate)


def _has_no_bound(exchange: Exchange) -> bool:
    """Say whether nobody can tell what it may cost: it names no model, or is a batch of unknown size."""
    face, call = exchange.face, exchange.call
    if not getattr(call, "unbounded", False) and (call.model is not None or not face.needs_model):
        return False
    is_own = all(_is_own(candidate.upstream) for candidate in exchange.candidates)
    return exchange.request.method == "POST" and not is_own


def _charge_prompt(exchange: Exchange) -> None:
    """Charge what a client asked and did not wait for: the provider has read the prompt, and bills it.

    Not where nobody was reached, nor where the provider had refused.
    """
    is_asked = bool(exchange.attempts) and exchange.attempts[-1].error is None
    if is_asked and exchange.model is not None and not exchange.face.dialect.is_free:
        tokens = estimate_prompt(exchange.body)
        exchange.usage = Usage(prompt_tokens=tokens, total_tokens=tokens, estimated=True)


def _is_own(upstream: Upstream) -> bool:
    """Say whether an upstream is the operator's own machine: it has no key and no public address."""
    if upstream.implicit:
        return True
    if upstream.credential is not None or upstream.provider.needs_key(upstream.preset):
        return False
    try:
        return not ipaddress.ip_address(upstream.host.strip("[]")).is_global
    except ValueError:
        return "." not in upstream.host or upstream.host.endswith(OWN_NAMES)
