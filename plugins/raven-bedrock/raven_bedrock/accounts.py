"""Who calls Bedrock, and where: an upstream's options, the region, and the credential of one attempt.

Credentials come from the upstream's key or the caller's own (`X-Provider-Key`), else from the options,
else from the environment as it was at start. Profiles, instance roles and SSO are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from raven_proxy.config import Secret, decode_table
from raven_proxy.errors import ConfigError, NoActiveKey
from raven_proxy.upstream import Upstream

from .signing import Keys, Signer

__all__ = ["Account", "Options", "find_region", "open_account", "read_key", "read_options"]

DEFAULT_REGION = "us-east-1"

_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d{1,2}")
_IN_HOST = re.compile(rf"(?:^|\.)bedrock-runtime(?:-fips)?\.({_REGION.pattern})\.")
_AWS_KEY = re.compile(r"((?:AKIA|ASIA)[A-Z0-9]{12,124}):([^:\s]+)(?::(\S+))?")


class Options(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """`options` of a `[[upstreams]]` table.

    `family` says what models are whose names do not tell (ARNs of inference profiles). `betas` are
    `anthropic-beta` flags that Bedrock takes beside those known here.
    """

    region: str | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    fetch_images: bool = False
    fetch_private: bool = False  # also from addresses that are not public
    family: Literal["anthropic", "amazon", "meta", "mistral", "cohere", "deepseek", "openai"] | None = None
    betas: tuple[str, ...] = ()


class Account(msgspec.Struct):
    """What one upstream's requests need. `bearer` and `signer` are of the options or the environment."""

    options: Options
    region: str
    bearer: str = ""
    signer: Signer | None = None

    def headers(
        self, key: str, method: str, host: str, target: str, content_type: str, body: bytes
    ) -> dict[str, str]:
        """Give the headers that say who calls. `key` is the credential of this attempt, "" for none.

        Raises NoActiveKey (503) where there is none at all.
        """
        bearer, signer = self.bearer, self.signer
        if key:
            keys = read_key(key)
            bearer = "" if keys is not None else key
            signer = Signer(keys, self.region) if keys is not None else None
        if signer is not None:
            return signer.sign(method, host, target, content_type, body)
        if not bearer:
            raise NoActiveKey(
                "This upstream has no credential: set its key, its options access_key_id and "
                "secret_access_key, or the AWS environment variables."
            )
        named = {"content-type": content_type} if content_type else {}
        return {**named, "authorization": f"Bearer {bearer}"}


def read_options(options: Mapping[str, Any]) -> Options:
    """Decode an upstream's options. Raises ConfigError, also for half a credential or a missing secret."""
    found = decode_table(dict(options), Options, "options")
    if (found.access_key_id is None) != (found.secret_access_key is None):
        raise ConfigError("options: access_key_id and secret_access_key go together")
    if found.region is not None and not _REGION.fullmatch(found.region):
        raise ConfigError(f'options: region {found.region!r} is not one of AWS, such as "eu-central-1"')
    return found


def read_key(text: str) -> Keys | None:
    """Read AWS credentials from a key's text `AKIA…:secret[:session token]`; None for a Bedrock API key."""
    match = _AWS_KEY.fullmatch(text)
    return Keys(match[1], match[2], match[3] or "") if match is not None else None


def find_region(options: Options, host: str, word: str | None, environment: Mapping[str, str]) -> str:
    """Tell the region to sign for: the option's, the host's, the upstream's own word, the environment's."""
    if options.region is not None:
        return options.region
    if (match := _IN_HOST.search(host)) is not None:
        return match[1]
    if word is not None and _REGION.fullmatch(word):  # else it is a word of residency, such as "eu"
        return word
    return environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or DEFAULT_REGION


def open_account(upstream: Upstream, environment: Mapping[str, str]) -> Account:
    """Make the account of an upstream. Raises ConfigError."""
    options = read_options(upstream.options)
    region = find_region(options, upstream.host, upstream.region, environment)
    if upstream.is_stored:  # an organisation's own: the environment's credentials are not theirs
        return Account(options, region)
    keys = _option_keys(options)
    bearer = ""
    if keys is None:
        bearer = environment.get("AWS_BEARER_TOKEN_BEDROCK", "")
        keys = None if bearer else _environment_keys(environment)
    return Account(options, region, bearer, Signer(keys, region) if keys is not None else None)


def _option_keys(options: Options) -> Keys | None:
    if options.access_key_id is None or options.secret_access_key is None:
        return None
    token = options.session_token.reveal() if options.session_token is not None else ""
    return Keys(options.access_key_id.reveal(), options.secret_access_key.reveal(), token)


def _environment_keys(environment: Mapping[str, str]) -> Keys | None:
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        return None
    return Keys(key, secret, environment.get("AWS_SESSION_TOKEN", ""))
