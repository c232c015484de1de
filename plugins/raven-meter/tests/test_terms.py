"""What is kept from one request to the next is never older than what it was made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import raven_meter.tariffs
import raven_meter.terms
from raven_meter import ledger
from raven_meter.budgets import BudgetStore, NewBudget
from raven_meter.journal import Journal
from raven_meter.segment import Segment, read_records
from raven_meter.tariffs import Tariffs
from raven_meter.terms import Terms

from raven_proxy import Exchange, InvalidRequest, Principal, Refused
from raven_proxy.exchange import Candidate
from raven_proxy.organizations import Organization

from .teller import Clock, Teller, exchange_of, finish, tokens, upstream

NOON = 1_800_000_000 // 86_400 * 86_400 + 43_200
ANN = Principal(key_id="key_ann", attributes={"member_id": "mem_ann"})


class Desk:
    """A meter and what passes it. Each exchange is of 100 tokens and 100 more."""

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.clock = Clock(float(NOON))
        self.sent = 0

    async def admit(self, who: Principal = ANN, model: str = "gpt-4o-mini", **fields: Any) -> Exchange:
        self.sent += 1
        exchange = exchange_of(f"req_{self.sent}", who, model, **fields)
        await self.teller.meter.check_request(exchange)
        return exchange

    async def charge(self, exchange: Exchange, to: Candidate | None = None) -> int | None:
        exchange.candidate = to or exchange.candidates[0]
        await self.teller.meter.before_send(exchange)
        finish(exchange, tokens(100, 100))
        self.teller.meter.settle_exchange(exchange)
        return exchange.cost_nano

    def terms(self, exchange: Exchange) -> Terms:
        found: Terms = exchange.notes["meter"].terms
        return found

    def recorded(self) -> list[dict[str, Any]]:
        [path] = (self.teller.folder / "journal").glob("*.log")
        return [record for record in read_records(Segment(path, -1)) if record["k"] == "a"]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    teller = Teller(tmp_path)
    await teller.open()
    desk = Desk(teller)
    desk.clock.install()
    try:
        yield desk
        await teller.close()
    finally:
        desk.clock.remove()
        await teller.abandon()


async def test_terms_are_kept_for_a_minute(desk: Desk) -> None:
    """By the caller's name and not by the object: whoever binds keys to members makes a new one each time."""
    same, places = msgspec.structs.replace(ANN, attributes={**ANN.attributes}), _to("gpt-4o-mini")
    kept = desk.terms(await desk.admit(candidates=places))
    assert desk.terms(await desk.admit(same, candidates=places)) is kept
    desk.clock.now += 60
    assert desk.terms(await desk.admit(candidates=places)) is not kept


async def test_names_from_clients_take_no_memory_without_bound(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raven_meter.terms, "_MOST_KEPT", 10)
    for number in range(25):
        await desk.admit(model=f"name-{number}", candidates=_to("gpt-4o-mini"))
    assert len(desk.teller.meter._terms._kept) <= 10


def test_prices_are_looked_up_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """And anew when the minute is over: no price is older than that."""
    clock, asked = Clock(float(NOON)), list[str]()
    monkeypatch.setattr(raven_meter.tariffs, "time", clock)
    packaged: Any = SimpleNamespace(find=lambda provider, model: asked.append(model))
    tariffs = Tariffs(packaged, {})
    for after_s, times in ((0, 1), (59.9, 1), (60, 2), (61, 2)):
        clock.now = NOON + after_s
        assert tariffs.find("openai", "m") is None
        assert len(asked) == times


async def test_another_multiplier_of_the_same_key_counts_at_once(desk: Desk) -> None:
    candidates = (Candidate(upstream(), "gpt-4o-mini"),)
    once = await desk.charge(await desk.admit(candidates=candidates))
    dearer = msgspec.structs.replace(ANN, attributes={"rate_multiplier": Decimal("2.5")})
    assert once == 75_000
    assert await desk.charge(await desk.admit(dearer, candidates=candidates)) == 187_500
    one = msgspec.structs.replace(ANN, attributes={"rate_multiplier": Decimal("1.000000")})
    assert await desk.charge(await desk.admit(one, candidates=candidates)) == 75_000


async def test_the_same_model_elsewhere_has_its_own_price(desk: Desk) -> None:
    """Where a request goes is judged anew each time: names can come to mean other places within a minute."""
    assert await desk.charge(await desk.admit(model="fast", candidates=_to("gpt-4o-mini"))) == 75_000
    assert await desk.charge(await desk.admit(model="fast", candidates=_to("gpt-4o"))) == 1_250_000


async def test_a_budget_bounds_whoever_was_unbounded_a_moment_ago(desk: Desk) -> None:
    candidates = _to("gpt-4o-mini")
    under_way = await desk.admit(candidates=candidates)
    await BudgetStore(desk.teller.storage).create(NewBudget(name="b", limit="0.00001"), ANN.organization_id)
    await desk.teller.meter._books.refresh()
    with pytest.raises(Refused, match="budget 'b'"):
        await desk.admit(candidates=candidates)
    assert await desk.charge(under_way) == 75_000
    assert await desk.teller.reconcile() == []  # it is charged to the budget that came after it
    [standing] = await desk.teller.meter.list_standings()
    assert standing.spent_nano == 75_000


async def test_money_that_was_granted_lets_pass_at_once(desk: Desk, tmp_path: Path) -> None:
    storage, candidates = desk.teller.storage, _to("gpt-4o-mini")
    organization = ANN.organization_id
    first = ledger.grant("grant_1", 1, NOON, organization_id=organization, note=None)
    await storage.execute(ledger.INSERT_ENTRY, first.row())
    await desk.teller.meter._books.refresh()
    with pytest.raises(Refused, match="balance"):
        await desk.admit(candidates=candidates)
    second = ledger.grant("grant_2", 10**9, NOON, organization_id=organization, note=None)
    await storage.execute(ledger.INSERT_ENTRY, second.row())
    await desk.teller.meter._books.refresh()
    assert await desk.charge(await desk.admit(candidates=candidates)) == 75_000


async def test_who_may_use_models_without_a_price_is_asked_each_time(desk: Desk) -> None:
    organizations, candidates = desk.teller.gateway.organizations, _to("nobody-knows")
    candidates[0].upstream.credential = "a key"  # type: ignore[misc]
    open_, shut = (Organization(id=ANN.organization_id, allow_unpriced=allows) for allows in (True, False))
    organizations.replace({ANN.organization_id: open_})
    for _ in range(2):
        assert await desk.charge(await desk.admit(model="nobody-knows", candidates=candidates)) is None
    organizations.replace({ANN.organization_id: shut})
    with pytest.raises(InvalidRequest, match="no known price"):
        await desk.admit(model="nobody-knows", candidates=candidates)


async def test_a_fallback_is_recorded_and_charged_as_what_it_is(desk: Desk) -> None:
    """The second place by its own price and name; one that nobody priced at the door, too."""
    places = (*_to("gpt-4o-mini"), Candidate(upstream("second", "openai"), "gpt-4o"))
    elsewhere = Candidate(upstream("third", "anthropic"), "claude-sonnet-4-5")
    costs = [
        await desk.charge(await desk.admit(model="fast", candidates=places), to)
        for to in (*places, elsewhere)
    ]
    assert costs == [75_000, 1_250_000, 1_800_000]
    told = [(one["upstream"], one["preset"], one["upstream_model"]) for one in desk.recorded()]
    assert told == [
        ("openai-main", "openai", "gpt-4o-mini"),
        ("second", "openai", "gpt-4o"),
        ("third", "anthropic", "claude-sonnet-4-5"),
    ]
    rows = await desk.teller.rows()
    assert [(row["model"], row["provider"], row["upstream_model"], row["member_id"]) for row in rows] == [
        ("fast", name, model, "mem_ann") for name, _, model in told
    ]


async def test_a_body_that_a_later_gate_replaced_is_told_as_it_goes_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the price that it was admitted with."""
    exchange = await desk.admit(model="fast", candidates=_to("gpt-4o-mini"))
    monkeypatch.setattr(Tariffs, "find", _fail)
    exchange.call = msgspec.structs.replace(exchange.call, model="other", stream=False)
    assert await desk.charge(exchange) == 75_000
    [record] = desk.recorded()
    assert (record["model"], record["stream"]) == ("other", False)
    [row] = await desk.teller.rows()
    assert (row["model"], row["stream"]) == ("other", 0)


async def test_an_admission_is_recorded_as_it_was_before(desk: Desk) -> None:
    """Word for word what earlier versions wrote, so that either reads what the other left."""
    exchange = await desk.admit(candidates=_to("gpt-4o-mini"), body=b'{"messages":["\xc3\xa9"]}')
    await desk.charge(exchange)
    assert desk.recorded() == [
        {
            "k": "a", "i": exchange.id, "t": NOON, "key": "key_ann", "org": "org_default",
            "member": "mem_ann", "rate": "1", "face": "chat", "model": "gpt-4o-mini",
            "upstream": "openai-main", "preset": "openai", "upstream_model": "gpt-4o-mini", "prompt": 7,
            "stream": True,
        }
    ]  # fmt: skip


async def test_what_was_told_in_another_order_is_read_again(tmp_path: Path) -> None:
    """A record that is encoded already is appended as it is."""
    journal = Journal(tmp_path)
    journal.append(msgspec.Raw(b'{"k":"a","i":"req_1","prompt":3,"t":1}'))
    journal.append({"k": "a", "i": "req_2"})
    journal.close()
    after = Journal(tmp_path)
    [segment] = after.orphans()
    assert [record["i"] for record in read_records(segment)] == ["req_1", "req_2"]
    segment.remove()
    after.close()


async def test_an_equal_place_is_the_same_place(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """On raw paths each request makes its candidates anew; two attempts at one of them are one record."""
    [place] = _to("gpt-4o-mini")
    for _ in range(2):
        exchange = await desk.admit(candidates=(Candidate(place.upstream, place.model),))
        exchange.candidate = Candidate(place.upstream, place.model)
        await desk.teller.meter.before_send(exchange)
        monkeypatch.setattr(Tariffs, "find", _fail)
        assert await desk.charge(exchange) == 75_000
    assert len(desk.recorded()) == 2


def _fail(*_: Any) -> None:
    raise AssertionError("asked once more")


def _to(model: str) -> tuple[Candidate, ...]:
    return (Candidate(upstream(), model),)
