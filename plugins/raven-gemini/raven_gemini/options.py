"""What an upstream's `options` may say, and where Vertex AI is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from raven_proxy.config import decode_table
from raven_proxy.errors import ConfigError

__all__ = ["Options", "VertexOptions", "read_options", "vertex_address"]

_PLACE = re.compile(r"[a-z0-9-]{1,40}")
_PROJECT = re.compile(r"[a-z0-9.:-]{1,100}")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of an AI Studio upstream.

    With `fetch_images` links to images and documents are fetched here and sent as bytes; else Google is
    given the link, and fetches what it can reach.
    """

    fetch_images: bool = False


class VertexOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of a Vertex AI upstream.

    `project` may be left out where the key is a service account's. `location` is a region, "us", "eu" or
    "global". `token_uri` is where tokens are asked for, in place of Google's own address.
    """

    project: str | None = None
    location: str = "global"
    token_uri: str | None = None
    fetch_images: bool = False


def read_options(preset: str, table: Mapping[str, Any]) -> Options | VertexOptions:
    """Decode an upstream's `options`. Raises ConfigError."""
    if preset != "vertex":
        return decode_table(dict(table), Options, "options")
    found = decode_table(dict(table), VertexOptions, "options")
    if not _PLACE.fullmatch(found.location):
        raise ConfigError(f'options: location {found.location!r} is no region, such as "europe-west4"')
    if found.project is not None and not _PROJECT.fullmatch(found.project):
        raise ConfigError(f"options: project {found.project!r} is not a project id")
    if found.token_uri is not None and not found.token_uri.startswith(("https://", "http://")):
        raise ConfigError(f"options: token_uri {found.token_uri!r} is not an http(s) URL")
    return found


def vertex_address(location: str) -> str:
    """Give the base URL of a location (docs.cloud.google.com, "Vertex AI locations")."""
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in ("us", "eu"):  # several regions behind one name
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"
