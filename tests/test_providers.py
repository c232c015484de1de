"""What a provider plugin hands out, and how every registered one keeps to the protocol."""

from __future__ import annotations

import inspect

import pytest

from raven_proxy import Tally
from raven_proxy.assembly import assemble
from raven_proxy.config import Config
from raven_proxy.providers import Provider, estimate_tokens

METHODS = [
    name for name, value in vars(Provider).items() if inspect.isfunction(value) and not name.startswith("_")
]


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (4000, 1000)])
def test_tokens_are_estimated_upwards(size: int, tokens: int) -> None:
    assert estimate_tokens(size) == tokens


def test_a_tally_of_nothing_is_complete_and_claims_no_usage() -> None:
    assert Tally() == Tally(usage=None, finish_reason=None, complete=True, error=None)


@pytest.mark.parametrize("name", ["openai", "demo"])
def test_a_first_party_provider_has_every_method_with_the_same_arguments(name: str) -> None:
    config = Config(plugins=(name,), upstreams=())
    pipeline = assemble(config, ())
    provider = (
        pipeline.upstreams[name].provider
        if name in pipeline.upstreams
        else pipeline.plugins[0].instance._provider
    )
    assert provider.name == name
    for method in METHODS:
        expected = list(inspect.signature(getattr(Provider, method)).parameters)[1:]
        assert list(inspect.signature(getattr(provider, method)).parameters) == expected, method
