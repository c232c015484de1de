"""What a provider account is: the body of `/providers`, what reading adds, and its table."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from raven_proxy.config import UpstreamConfig
from raven_proxy.resources import Secret

__all__ = ["MIGRATIONS", "Account", "Shown", "Status", "config_of", "example", "make_slug"]

MIGRATIONS = (
    """CREATE TABLE providers (
      id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, created_at INTEGER NOT NULL,
      provider TEXT NOT NULL, name TEXT NOT NULL, slug TEXT NOT NULL, api_key BLOB, base_url TEXT,
      region TEXT, models TEXT NOT NULL, weight INTEGER NOT NULL, priority INTEGER NOT NULL,
      is_enabled INTEGER NOT NULL, options TEXT NOT NULL
    );
    CREATE UNIQUE INDEX providers_by_slug ON providers (organization_id, slug);
    CREATE INDEX providers_by_time ON providers (organization_id, created_at, id);""",
)
_MAX_SLUG = 64
_OTHER = re.compile(r"[^a-z0-9.]+")

Status = Literal["active", "disabled", "paused", "no_key", "unreadable_key", "unusable"]
Word = Annotated[str, Meta(max_length=256)]


class Account(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /providers`.

    `models` are glob patterns of the models that this account serves; without any it serves what no other
    claims. Accounts with the lowest `priority` are asked first, and among equal ones each comes first as
    often as its `weight` says. `options` are the provider's own, those of them that name no secret, file
    or address.
    """

    provider: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    api_key: Secret | None = None
    base_url: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    region: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    models: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=1000)
    ] = ()
    weight: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    priority: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    is_enabled: bool = True
    options: Annotated[dict[Word, bool | int | float | Word | tuple[Word, ...]], Meta(max_length=32)] = {}


class Shown(msgspec.Struct, kw_only=True, rename="camel"):
    """What reading adds: `slug/model` addresses this account in a request.

    "no_key" and "unreadable_key" serve only callers who bring a key; "unusable" says that the provider's
    plugin is off, or does not take these settings any more.
    """

    slug: str
    status: Status


def example() -> dict[str, Any]:
    """Give a body that makes one."""
    return {"provider": "openai", "name": "Production OpenAI", "apiKey": "sk-proj-0123456789abcdef"}


def make_slug(name: str, otherwise: str) -> str:
    """Make of a name what stands before the slash in a request: "Zürich 1" is "zurich-1".

    `otherwise` is given where nothing is left of it.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return _OTHER.sub("-", plain)[:_MAX_SLUG].strip("-.") or otherwise


def config_of(record_id: str, body: Account) -> UpstreamConfig:
    """Give an account as the config would have it. Its key is not in it."""
    return UpstreamConfig(
        name=record_id,
        provider=body.provider,
        base_url=body.base_url,
        models=body.models,
        region=body.region,
        options={name: list(value) if isinstance(value, tuple) else value
                 for name, value in body.options.items()},
    )  # fmt: skip
