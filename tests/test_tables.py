"""A table of the config is decoded strictly, and what is wrong is named with its place and remedy."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from raven_proxy.errors import ConfigError
from raven_proxy.tables import decode_table


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    per_minute: Annotated[int, Meta(ge=1)] = 1


class Table(msgspec.Struct, forbid_unknown_fields=True):
    plans: dict[str, Plan] = {}
    names: tuple[Plan, ...] = ()
    key: int | None = None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"plan": {}}, "x: unknown key 'plan'; did you mean 'plans'?"),
        ({"zzz": {}}, "x: unknown key 'zzz'; known keys: key, names, plans"),
        (
            {"names": [{}, {"per_minut": 1}]},
            "x: [names[1]] unknown key 'per_minut'; did you mean 'per_minute'?",
        ),
        ({"plans": {"a": {}, "gold": {"per_minute": 0}}}, "x: plans.gold.per_minute: expected `int` >= 1"),
        (
            {"plans": {"a": {}, "gold": {"rpm": 0}}},
            "x: [plans.gold] unknown key 'rpm'; known keys: per_minute",
        ),
        ({"plans": {"gold": 5}}, "x: plans.gold: expected `object`, got `int`"),
        ({"plans": 5}, "x: plans: expected `object`, got `int`"),
        ({"key": "sk-1"}, 'a secret is written { env = "NAME" } or { file = "path" }, never as it is'),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        decode_table(table, Table, "x")
    assert said in str(refusal.value)
    assert "sk-1" not in str(refusal.value)


def test_what_is_right_is_decoded() -> None:
    assert decode_table({"plans": {"a": {"per_minute": 2}}}, Table, "x") == Table(plans={"a": Plan(2)})
