"""Upstreams of an organisation's own: in which order they are tried, and what a name means there."""

from __future__ import annotations

from typing import Any

import pytest

from raven_proxy.catalogue import Catalogue
from raven_proxy.config import ModelAlias, UpstreamConfig
from raven_proxy.errors import ConfigError, InvalidRequest, NoActiveKey
from raven_proxy.exchange import Credential
from raven_proxy.holdings import Held, Holding, Holdings
from raven_proxy.providers import ModelInfo


class Vendor:
    """A provider that knows one model and takes no options."""

    name = "vendor"

    def base_url(self, preset: str) -> str | None:
        return "https://vendor.invalid/v1"

    def needs_key(self, preset: str) -> bool:
        return True

    def known_models(self, preset: str) -> list[ModelInfo]:
        return [ModelInfo(id="known", owned_by=preset)]


VENDOR: Any = Vendor()
HOLDINGS = Holdings({"vendor": VENDOR, "second": VENDOR})


def hold(name: str, provider: str = "vendor", models: tuple[str, ...] = (), **fields: Any) -> Held:
    config = UpstreamConfig(name=f"prov_{name}", provider=provider, models=models)
    return Held(upstream=HOLDINGS.build(config, name, Credential("sk")), **fields)


def catalogue(*names: str) -> Catalogue:
    configs = [UpstreamConfig(name=name, provider="vendor") for name in names]
    table = {config.name: HOLDINGS.build(config, config.name, None) for config in configs}
    aliases = (ModelAlias(name="fast", target=f"{names[0]}/m"),) if names else ()
    return Catalogue(table, aliases)


def places(found: Catalogue, holding: Holding, name: str, *, brings_key: bool = False) -> list[str]:
    candidates = found.resolve_in(holding, name, brings_key=brings_key)
    return [f"{one.upstream.label}/{one.model}" for one in candidates]


def test_ones_own_come_first_and_then_what_everybody_has() -> None:
    holding = Holding([hold("late", priority=2), hold("early", priority=1), hold("rest", "second")])
    config = catalogue("everybody")
    assert places(config, holding, "vendor/m") == ["early/m", "late/m", "everybody/m"]
    assert places(config, holding, "late/m") == places(config, holding, "prov_late/m") == ["late/m"]
    assert places(config, holding, "everybody/m") == ["everybody/m"]
    assert places(config, holding, "second/m") == ["rest/m"]


def test_a_bare_model_goes_where_it_is_listed_or_known_and_else_to_one_without_a_list() -> None:
    holding = Holding([hold("some", models=("gpt-*",)), hold("rest", "second", priority=1)])
    config = catalogue()
    assert places(config, holding, "gpt-4") == ["some/gpt-4"]
    assert places(config, holding, "known") == ["some/known", "rest/known"]
    assert places(config, holding, "else") == ["rest/else"]
    assert places(config, holding, "a/b") == ["rest/a/b"]


def test_an_alias_is_the_config_s() -> None:
    assert places(catalogue("everybody"), Holding([hold("fast")]), "fast") == ["everybody/m"]


def test_one_that_is_switched_off_is_known_and_gets_nothing() -> None:
    """503 for it alone; with others, they are asked. A name that nobody has is a 400."""
    holding = Holding([hold("off", is_active=False, models=("m",))])
    for name in ("off/m", "vendor/m", "m"):
        with pytest.raises(NoActiveKey):
            places(catalogue(), holding, name)
    with pytest.raises(InvalidRequest):
        places(catalogue(), holding, "nobody/has-it")
    with pytest.raises(NoActiveKey):
        catalogue().raw_upstreams("off", holding)
    assert holding.upstreams() == {}
    holding = Holding([hold("off", is_active=False)])
    assert places(catalogue("everybody"), holding, "vendor/m") == ["everybody/m"]


def test_one_without_its_key_serves_who_brings_one() -> None:
    holding = Holding([hold("bare", lacks_key=True), hold("full", priority=1)])
    assert places(catalogue(), holding, "vendor/m") == ["full/m"]
    assert places(catalogue(), holding, "vendor/m", brings_key=True) == ["bare/m", "full/m"]


def test_a_caller_s_key_goes_to_the_same_place_each_time() -> None:
    """Shares by weight are for the organisation's own keys."""
    holding = Holding([hold("one"), hold("two", weight=1000)])
    assert {places(catalogue(), holding, "vendor/m", brings_key=True)[0] for _ in range(50)} == {"one/m"}


def test_what_a_name_means_is_looked_up_anew_when_models_are_learned() -> None:
    holdings = Holdings({"vendor": VENDOR})
    one = hold("one", models=("x",))
    holding = Holding([one, hold("rest")])
    holdings.replace({"org": holding})
    assert places(catalogue(), holding, "new") == ["rest/new"]
    one.upstream.learn([ModelInfo(id="new")])
    holdings.forget()
    assert places(catalogue(), holding, "new") == ["one/new"]


def test_names_that_clients_invent_are_not_kept_without_end() -> None:
    holding = Holding([hold("rest")])
    config = catalogue()
    for number in range(5000):
        config.resolve_in(holding, f"invented-{number}", brings_key=False)
    assert len(holding.matches) <= 4096


def test_an_upstream_is_built_for_known_providers_with_known_options_only() -> None:
    for config, message in (
        (UpstreamConfig(name="a", provider="vendro"), "did you mean 'vendor'"),
        (UpstreamConfig(name="a", provider="vendor", options={"x": 1}), "options: .*takes none"),
    ):
        with pytest.raises(ConfigError, match=message):
            HOLDINGS.build(config, "a", None)


def test_it_is_somebody_s_own_and_not_the_operator_s_word() -> None:
    """Private addresses are refused at its connections, and it is told apart from the config's."""
    upstream = hold("own").upstream
    assert upstream.is_stored
    assert not upstream._allow_private
    assert (upstream.name, upstream.label) == ("prov_own", "own")
