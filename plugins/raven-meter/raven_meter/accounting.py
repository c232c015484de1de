"""One exchange's money: priced and held before it goes up, settled before its last bytes leave.

Admission takes from counters in memory; the journal is written before the provider is asked and again at
the end; the database gets both in batches, behind the reply. Nothing waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import structlog

from raven_proxy import Exchange, InvalidRequest, Outcome
from raven_proxy.exchange import Usage
from raven_proxy.faces import Call
from raven_proxy.gateway import Gateway
from raven_proxy.providers import estimate_prompt, prompt_bound

from .books import Books
from .estimates import estimate_nano, largest_usage
from .exchanges import INSERT, RowIds, make_row, name_parts
from .keeper import Keeper
from .pricing import cost_nano, dollars
from .records import admitted, who_and_what
from .terms import Place, TermBook, Terms, is_own, make_place

__all__ = ["Accounting"]

_log = structlog.get_logger("raven_meter.accounting")
_NOTE = "meter"
_PRODUCED = frozenset({Outcome.COMPLETED, Outcome.TRUNCATED, Outcome.CANCELLED})


class Admission(msgspec.Struct):
    """What an exchange was admitted with: the moment its charge is booked to, and what it holds."""

    at: int  # Unix seconds
    call: Call
    terms: Terms
    place: Place | None = None  # of the attempt that the journal knows of
    prompt: int | None = None  # its body's bound, once that was asked for
    held: int = 0
    counters: tuple[str, ...] = ()


class Accounting:
    """The money of all exchanges of one pipeline."""

    def __init__(
        self,
        gateway: Gateway,
        books: Books,
        keeper: Keeper,
        terms: TermBook,
        ids: RowIds,
        *,
        assumed_output_tokens: int,
    ) -> None:
        self._counters = gateway.counters
        self._storage = gateway.storage
        self._tasks = gateway.tasks
        self._books = books
        self._keeper = keeper
        self._terms = terms
        self._ids = ids
        self._assumed_output_tokens = assumed_output_tokens

    def admit(self, exchange: Exchange) -> Admission | None:
        """Price an exchange; give its admission if anything bounds its caller: then `hold` is next.

        Raises InvalidRequest (no price).
        """
        principal, face = exchange.principal, exchange.face
        if principal is None or face.serve is not None:
            return None
        at = int(time.time())
        terms = self._terms.find(exchange, principal, at)
        exchange.notes[_NOTE] = admission = Admission(at, exchange.call, terms)
        return admission if terms.bounds.counters else None

    async def hold(self, exchange: Exchange, admission: Admission) -> None:
        """Hold what the exchange may cost. Raises InvalidRequest (no bound), Refused (402: no money)."""
        self.check_bounded(exchange)
        terms = admission.terms
        admission.prompt = prompt = prompt_bound(exchange.body)
        estimate = estimate_nano(exchange, terms.places, prompt)
        if estimate or not self.costs_nothing(exchange, terms.places):
            denial = await self._counters.take(terms.bounds.claims(estimate))
            if denial is not None:
                raise self._books.refusal(denial)
        admission.held, admission.counters = estimate, terms.bounds.counters

    def record_admission(self, exchange: Exchange) -> None:
        """Write down to whom it goes. Raises GatewayError (503): unrecorded, it does not go."""
        admission: Admission | None = exchange.notes.get(_NOTE)
        if admission is None:
            return
        candidate, place = exchange.candidate, admission.place
        if place is not None and place.candidate == candidate:
            return  # once more at the same place
        place = admission.terms.first
        if place.candidate != candidate or exchange.call is not admission.call:
            place = self._find_place(exchange, admission)
        prompt = prompt_bound(exchange.body) if admission.prompt is None else admission.prompt
        record = place.record or who_and_what(exchange, candidate, place.rate)
        self._keeper.begin(exchange, admitted(exchange.id, admission.at, prompt, record))
        admission.place = place

    def settle(self, exchange: Exchange) -> None:
        """Charge what was used, give back the rest, and write it down."""
        # Taken out, so that settling twice gives nothing back twice.
        admission: Admission | None = exchange.notes.pop(_NOTE, None)
        if exchange.usage is None:
            self._assume_usage(exchange)
        candidate, usage = exchange.candidate, exchange.usage
        place = None if admission is None else admission.place
        if place is None or place.candidate != candidate:
            place = self._find_place(exchange, admission)
        cost: int | None = 0
        if candidate is not None and usage is not None:
            tariff = place.tariff
            cost = None if tariff is None else cost_nano(usage, tariff, rate_multiplier=place.rate)
        exchange.cost_nano = cost
        if cost is not None and candidate is not None and not exchange.call.stream:
            exchange.response_headers["X-Raven-Cost"] = dollars(cost)
        at = None if admission is None else admission.at
        row = make_row(exchange, self._ids.next(), at, place.names, place.member_id, cost)
        self._storage.write_behind(INSERT, row)  # first: it is owed, whatever becomes of the counters
        self._keeper.end(exchange.id, row)
        principal = exchange.principal
        if self._books.readers and cost and principal is not None:
            self._books.note(exchange.id, principal, cost, time.time() if at is None else at)
        if admission is not None:
            held = admission.counters
            if held:
                self._tasks.begin(self._books.settle(held, admission.held, cost or 0), "settle")
            if admission.terms.version != self._books.version:
                self._charge_the_others(admission, cost or 0)

    def _charge_the_others(self, admission: Admission, cost: int) -> None:
        """Charge what began to bound the caller since the exchange was admitted."""
        now = self._books.bounds(admission.terms.principal, admission.at).counters
        new = [name for name in now if name not in admission.counters]
        if new:
            self._tasks.begin(self._books.settle(new, 0, cost), "settle")

    def _find_place(self, exchange: Exchange, admission: Admission | None) -> Place:
        """Find where an exchange is now: at a place that was priced, at another, or nowhere at all."""
        candidate = exchange.candidate
        places = () if admission is None else admission.terms.places
        place = next((one for one in places if one.candidate == candidate), None)
        if place is None:
            tariff = None if candidate is None else self._terms.find_tariff(exchange, candidate)
            return make_place(exchange, candidate, tariff)
        if admission is not None and exchange.call is admission.call:
            return place
        # A later gate put another body in its place: what is told of it is new, what it costs is not.
        return msgspec.structs.replace(place, names=name_parts(exchange, candidate), record=b"")

    def check_bounded(self, exchange: Exchange) -> None:
        """Refuse what may cost anything where it must not: a request that names no model, a batch of unknown
        size. Raises InvalidRequest.
        """
        if not _has_no_bound(exchange) or self._terms.lets_unpriced(exchange):
            return
        raise InvalidRequest(
            "What this endpoint costs is not known, as the request names no model that has a price, and a "
            "balance or budget bounds this key. An administrator can let it pass with allow_unpriced.",
            code="unknown_model_pricing",
            param="model",
        )

    def costs_nothing(self, exchange: Exchange, places: Sequence[Place]) -> bool:
        """Say whether what is estimated at 0 passes without money: files, lists, one's own machine's models.

        Not what has no known price, which may cost anything.
        """
        return not _has_no_bound(exchange) and all(
            place.tariff is not None
            or place.candidate is None
            or (place.candidate.model or exchange.model) is None
            or is_own(place.candidate.upstream)
            for place in places
        )

    def _assume_usage(self, exchange: Exchange) -> None:
        """Charge what no reply told of, where somebody was asked: a request to an endpoint that nobody knows
        with what was held, and one whose client left with its prompt.
        """
        candidate, model = exchange.candidate, exchange.model
        is_produced = exchange.first_byte_at > 0.0 and exchange.outcome in _PRODUCED
        is_unknown = exchange.face.opaque and is_produced and exchange.request.method == "POST"
        if is_unknown and candidate is not None and model is not None:
            longest = candidate.upstream.describe(candidate.model or model).max_tokens
            assumed = self._assumed_output_tokens
            exchange.usage = largest_usage(exchange, min(longest or assumed, assumed))
        elif exchange.outcome is Outcome.CANCELLED:
            _charge_prompt(exchange)


def _has_no_bound(exchange: Exchange) -> bool:
    """Say whether nobody can tell what it may cost: it names no model, or is a batch of unknown size."""
    face, call = exchange.face, exchange.call
    if not getattr(call, "unbounded", False) and (call.model is not None or not face.needs_model):
        return False
    own = all(is_own(candidate.upstream) for candidate in exchange.candidates)
    return exchange.request.method == "POST" and not own


def _charge_prompt(exchange: Exchange) -> None:
    """Charge what a client asked and did not wait for: the provider has read the prompt, and bills it.

    Not where nobody was reached, nor where the provider had refused.
    """
    is_asked = bool(exchange.attempts) and exchange.attempts[-1].error is None
    if is_asked and exchange.model is not None and not exchange.face.dialect.is_free:
        tokens = estimate_prompt(exchange.body)
        exchange.usage = Usage(prompt_tokens=tokens, total_tokens=tokens, estimated=True)
