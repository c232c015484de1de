"""The catalogue: what a model's name stands for, and who may call it."""

from __future__ import annotations

from typing import Any

import pytest

from raven_proxy.catalogue import Catalogue, may_call
from raven_proxy.config import ModelAlias, UpstreamConfig
from raven_proxy.errors import ConfigError, InvalidRequest
from raven_proxy.exchange import Principal
from raven_proxy.providers import ModelInfo
from raven_proxy.upstream import Upstream


class Vendor:
    """A provider that knows one model."""

    name = "vendor"

    def base_url(self, preset: str) -> str | None:
        return "http://vendor.invalid/v1"

    def known_models(self, preset: str) -> list[ModelInfo]:
        return [ModelInfo(id="known", owned_by=preset)]


def make(*upstreams: dict[str, Any], aliases: tuple[ModelAlias, ...] = (), implicit: str = "") -> Catalogue:
    vendor: Any = Vendor()
    configs = [UpstreamConfig(**{"provider": "vendor", **fields}) for fields in upstreams]
    table = {c.name: Upstream(c, vendor, allow_private=True, implicit=c.name == implicit) for c in configs}
    return Catalogue(table, aliases)


def places(catalogue: Catalogue, name: str) -> list[str]:
    return [f"{c.upstream.name}/{c.model}" for c in catalogue.resolve(name)]


MAIN = {"name": "main", "models": ("gpt-*", "exact")}
OTHER = {"name": "other", "models": ("gpt-4*",)}
REST = {"name": "rest", "provider": "second"}


def test_an_alias_comes_first_and_keeps_its_order() -> None:
    alias = ModelAlias(name="fast", targets=("other/small", "main/gpt-5"))
    catalogue = make(MAIN, OTHER, REST, aliases=(alias,))
    assert places(catalogue, "fast") == ["other/small", "main/gpt-5"]


def test_an_upstream_or_a_provider_may_be_named_before_the_slash() -> None:
    catalogue = make(MAIN, OTHER, REST)
    assert places(catalogue, "main/anything/with/slashes") == ["main/anything/with/slashes"]
    assert places(catalogue, "vendor/m") == ["main/m", "other/m"]
    assert places(catalogue, "second/m") == ["rest/m"]


def test_a_bare_name_goes_where_it_is_listed_and_else_to_an_upstream_without_a_list() -> None:
    catalogue = make(MAIN, OTHER, REST)
    assert places(catalogue, "gpt-4o") == ["main/gpt-4o", "other/gpt-4o"]
    assert places(catalogue, "exact") == ["main/exact"]
    assert places(catalogue, "claude") == ["rest/claude"]
    assert places(catalogue, "nobody/has/this") == ["rest/nobody/has/this"]
    assert places(catalogue, "known") == ["main/known", "other/known", "rest/known"]


def test_an_unknown_name_is_a_400_that_names_the_parameter() -> None:
    for catalogue in (make(), make(MAIN), make(REST, implicit="rest")):
        for _ in range(2):
            with pytest.raises(InvalidRequest) as refusal:
                catalogue.resolve("claude")
            assert (refusal.value.status, refusal.value.code, refusal.value.param) == (
                400,
                "model_not_found",
                "model",
            )


def test_a_raw_path_names_an_upstream_or_a_provider() -> None:
    catalogue = make(MAIN, OTHER, REST)
    assert [c.upstream.name for c in catalogue.raw_upstreams("other")] == ["other"]
    assert [c.upstream.name for c in catalogue.raw_upstreams("vendor")] == ["main", "other"]
    assert catalogue.raw_upstreams("none") == ()


def test_an_alias_of_nothing_stops_the_start() -> None:
    with pytest.raises(
        ConfigError, match=r"\[\[models\]\] fast: target 'none/x' is not upstream/model; upstreams: main"
    ):
        make(MAIN, aliases=(ModelAlias(name="fast", target="none/x"),))
    with pytest.raises(ConfigError):
        make(MAIN, aliases=(ModelAlias(name="fast", target="main"),))


def test_the_list_shows_each_name_once_and_only_what_the_key_may_call() -> None:
    catalogue = make(MAIN, OTHER, aliases=(ModelAlias(name="fast", target="main/gpt-5"),))
    everything = Principal(key_id="k")
    assert [m.id for m in catalogue.list_models(everything)] == ["fast", "known", "exact"]
    assert [m.id for m in catalogue.list_models(Principal(key_id="k", allowed_models=("exact",)))] == [
        "exact"
    ]
    assert catalogue.list_models(Principal(key_id="k", allowed_models=())) == []


@pytest.mark.parametrize(
    ("patterns", "name", "allowed"),
    [
        (None, "anything", True),
        ((), "gpt-4o", False),
        (("gpt-4o",), "gpt-4o", True),
        (("main/*",), "gpt-4o", False),  # other would serve it too
        (("vendor/gpt-4o",), "gpt-4o", True),
        (("gpt-5",), "fast", True),  # what the alias stands for
        (("fast",), "fast", True),
        (("GPT-4O",), "gpt-4o", False),
        (("other/gpt-4o",), "main/gpt-4o", False),
    ],
)
def test_a_key_may_call_what_its_patterns_admit_in_every_place(
    patterns: tuple[str, ...] | None, name: str, *, allowed: bool
) -> None:
    catalogue = make(MAIN, OTHER, REST, aliases=(ModelAlias(name="fast", target="main/gpt-5"),))
    principal = Principal(key_id="k", allowed_models=patterns)
    assert may_call(principal, name, catalogue.resolve(name)) is allowed


def test_a_key_with_patterns_may_not_call_what_has_no_model() -> None:
    principal = Principal(key_id="k", allowed_models=("gpt-*",))
    assert not may_call(principal, None, make(MAIN).raw_upstreams("main"))


def test_names_that_clients_invent_do_not_fill_the_memory() -> None:
    catalogue = make(REST)
    for number in range(5000):
        catalogue.resolve(f"invented-{number}")
    assert len(catalogue._resolved) <= 4096
