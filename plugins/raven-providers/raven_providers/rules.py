"""What a provider account may say: its provider, name, address, options and key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from raven_proxy import ConfigError, Refused
from raven_proxy.holdings import Holdings
from raven_proxy.pipeline import Pipeline
from raven_proxy.providers import Provider, Storable, find_provider
from raven_proxy.resources import Change, invalid
from raven_proxy.routes import RESERVED
from raven_proxy.upstream import find_address

from .account import Account, config_of, make_slug
from .pauses import Pauses
from .places import find_origin, find_private, judge_url

__all__ = ["Rules", "judge_place"]

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")  # what a header can carry
_DOCUMENT = re.compile(r"\{[\x20-\x7e\s]*\}")  # a service account's JSON
_OUR_KEYS = ("rk_live_", "rk_test_")


class Rules:
    """Judges creates and changes."""

    def __init__(self, pipeline: Callable[[], Pipeline], holdings: Holdings, pauses: Pauses) -> None:
        self._pipeline = pipeline
        self._holdings = holdings
        self._pauses = pauses

    async def prepare(self, fields: Mapping[str, Any]) -> None:
        """Look the host up, before anything is locked. Raises InvalidRequest for one that is not public."""
        url = fields.get("baseUrl")
        allow_private = self._holdings.allow_private
        if not isinstance(url, str) or allow_private or judge_url(url, allow_private=False) is not None:
            return  # what is wrong with its text is said with the rest
        if await find_private(url):
            raise invalid("baseUrl", "must be a host with public addresses only")

    async def check(self, change: Change[Account]) -> None:
        """Judge an account. Raises InvalidRequest (400) and Refused (409)."""
        body = change.body
        _check_words(body)
        try:
            provider = find_provider(self._holdings.providers, body.provider)
        except ConfigError as error:
            raise invalid("provider", str(error)) from None
        if "api_key" in change.given and body.api_key is not None:
            body = change.body = msgspec.structs.replace(body, api_key=_check_key(body.api_key))
        _check_options(body, provider)
        self._check_place(change, provider)
        slug = make_slug(body.name, change.id)
        await self._check_slug(change, slug)
        change.columns["slug"] = slug
        before = change.before
        if before is not None and body.is_enabled and _switches_on(change):
            await self._pauses.lift(change.transaction, before.id, before.organization_id)

    def _check_place(self, change: Change[Account], provider: Provider) -> None:
        body = change.body
        config = config_of(change.id, body)
        try:
            judge_place(body, provider, allow_private=self._holdings.allow_private)
            self._holdings.build(config, "", None).close()
        except ConfigError as error:
            where, _, message = str(error).partition(": ")
            known = {"baseUrl", "options", "provider"}
            raise invalid(*((where, message) if where in known else ("baseUrl", str(error)))) from None
        before = change.before
        if before is None or before.columns["api_key"] is None or "api_key" in change.given:
            return
        if self._moves(before.body, body, provider):
            raise invalid("apiKey", "send the key again: it would go to another address than before")

    def _moves(self, before: Account, after: Account, provider: Provider) -> bool:
        """Say whether a key that nobody can read would go somewhere new, by somebody's choice."""
        if before.provider != after.provider:
            return True
        if before.base_url == after.base_url:
            return False
        places = [find_address(provider, config_of("", one)) for one in (before, after)]
        return find_origin(places[0]) != find_origin(places[1])

    async def _check_slug(self, change: Change[Account], slug: str) -> None:
        pipeline, mine = self._pipeline(), change.body.provider
        if slug in RESERVED:
            raise invalid("name", f"{slug!r} is a path of the gateway's; choose another")
        is_taken = slug != mine and (slug in pipeline.upstreams or slug in self._holdings.providers)
        sql = "SELECT id FROM providers WHERE organization_id = ? AND slug = ? AND id <> ?"
        row = await change.transaction.fetch_one(sql, (_owner(change), slug, change.id))
        if is_taken or row is not None:
            raise Refused(
                f"name: {slug!r} is what a request would write for it, and that is taken; choose another.",
                status=409,
                param="name",
            )


def judge_place(body: Account, provider: Provider, *, allow_private: bool) -> None:
    """Judge where an account's requests would go. Raises ConfigError that begins with the field."""
    url = find_address(provider, config_of("", body))
    if url is None:
        raise ConfigError(f"baseUrl: the provider {body.provider!r} has no usual address; set one")
    problem = judge_url(url, allow_private=allow_private)
    if problem is not None:
        whose = "" if body.base_url else f"({url}, the usual one of {body.provider!r}) "
        raise ConfigError(f"baseUrl: {whose}{problem}")


def _owner(change: Change[Account]) -> str:
    return change.before.organization_id if change.before is not None else change.caller.organization_id


def _switches_on(change: Change[Account]) -> bool:
    """Say whether somebody wants it to be used again, rather than sending back what they had read."""
    before = change.before
    return change.given == {"is_enabled"} or (before is not None and not before.body.is_enabled)


def _check_words(body: Account) -> None:
    if not body.name.isprintable() or not body.name.strip():
        raise invalid("name", "must be printable")
    if body.region is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", body.region):
        raise invalid("region", 'must be a word such as "eu" or "us-east-1"')
    for index, pattern in enumerate(body.models):
        if not pattern.isprintable():
            raise invalid(f"models[{index}]", "must be printable")


def _check_key(key: str) -> str:
    """Give a key without the blanks around it. Raises InvalidRequest that never repeats it."""
    key = key.strip()
    if not _KEY.fullmatch(key) and not _DOCUMENT.fullmatch(key):
        raise invalid("apiKey", "is empty or has a character that no key has")
    if key.startswith(_OUR_KEYS):
        raise invalid("apiKey", "is a key of this gateway, not of a provider")
    return key


def _check_options(body: Account, provider: Provider) -> None:
    """Let only those pass that the provider says may be set here: others name files, secrets, addresses."""
    known = provider.stored_options if isinstance(provider, Storable) else frozenset()
    for name in body.options:
        if name not in known:
            words = ", ".join(sorted(known)) or "none"
            raise invalid("options", f"{name[:64]!r} cannot be set here; {body.provider} takes: {words}")
