"""The configuration file: strict Structs, secrets by name, and errors that name the remedy.

Every key has a default; `config/raven.toml` shows them all. Nothing here touches the network or
imports a plugin: a plugin's own table is kept raw and decoded by `plugins.build`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .errors import ConfigError
from .headers import Network
from .tables import decode_table

__all__ = [
    "BUILT_IN_PLANS", "FIRST_PARTY", "Config", "ModelAlias", "Plan", "Secret", "UpstreamConfig",
    "decode_table", "load",
]  # fmt: skip

FIRST_PARTY = (
    "auth-keys", "accounts", "access", "idempotency", "limits", "meter", "alerts", "webhooks", "guardrails",
    "cache", "byok", "providers", "routing", "openai", "anthropic", "gemini", "bedrock", "cohere", "ollama",
    "video", "docs", "console", "telemetry", "demo", "bodies",
)  # fmt: skip
"""Entry-point names of this project's own plugins, in their default order of call."""

_LONGEST_S = 2_000_000  # 23 days: the kernel counts a socket's milliseconds in 31 bits
Seconds = Annotated[float, Meta(gt=0, le=_LONGEST_S)]
SecondsOrNever = Annotated[float, Meta(ge=0, le=_LONGEST_S)]
Size = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=1, le=2**53)]


class Secret(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A secret by name: `{ env = "NAME" }` or `{ file = "path" }`, never its value."""

    env: str | None = None
    file: str | None = None

    def reveal(self) -> str:
        """Read the secret. Raises ConfigError if it is missing or empty."""
        if (self.env is None) == (self.file is None):
            raise ConfigError('a secret is written { env = "NAME" } or { file = "path" }')
        if self.env is not None:
            value = os.environ.get(self.env, "")
            if not value:
                raise ConfigError(f"the environment variable {self.env} is not set")
            return value
        try:
            value = Path(self.file or "").read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"the secret file {self.file} cannot be read: {reason}") from error
        if not value:
            raise ConfigError(f"the secret file {self.file} is empty")
        return value


class UpstreamConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One `[[upstreams]]` table: an account at a provider.

    `models` are glob patterns of model names that this account serves. `options` are for the
    provider plugin. `max_connections` answers 503 beyond it rather than queueing.
    """

    name: str
    provider: str
    base_url: str | None = None
    key: Secret | None = None
    models: tuple[str, ...] = ()
    region: str | None = None
    max_connections: Size | None = None
    ca_file: str | None = None
    allow_private: bool = True  # what a config file says of upstreams is trusted
    options: dict[str, Any] = {}


class ModelAlias(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One `[[models]]` table: a name that stands for `upstream/model`, or several in order."""

    name: str
    target: str | None = None
    targets: tuple[str, ...] = ()
    strategy: Literal["priority"] = "priority"

    def all_targets(self) -> tuple[str, ...]:
        """List the targets in order of preference."""
        return ((self.target,) if self.target else ()) + self.targets


class Plan(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One `[plans.NAME]` table: what a key on this plan may do. What is not set is not limited."""

    requests_per_minute: Count | None = None
    requests_per_day: Count | None = None
    tokens_per_minute: Count | None = None
    tokens_per_day: Count | None = None
    max_concurrency: Count | None = None


BUILT_IN_PLANS: Mapping[str, Plan] = MappingProxyType(
    {
        "free": Plan(requests_per_minute=60, tokens_per_day=100_000),
        "pro": Plan(requests_per_minute=600),
    }
)
"""Plans that exist without any config; a `[plans.NAME]` table of the same name replaces one."""


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The whole file. Times are in seconds, sizes in bytes."""

    listen: str = "127.0.0.1:4000"
    data_dir: str = "data"
    plugins: tuple[str, ...] | None = None  # None: every first-party plugin that is installed
    plugins_dir: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    upstreams: tuple[UpstreamConfig, ...] = ()
    models: tuple[ModelAlias, ...] = ()
    plans: dict[str, Plan] = {}
    plugin: dict[str, dict[str, Any]] = {}
    catalog: str | None = None
    workers: Size = 1
    counters: Literal["auto", "process", "machine"] = "auto"  # auto: of the machine with several workers
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = True
    allow_private_upstreams: bool = False
    max_body_bytes: Size = 32 * 2**20
    max_event_bytes: Size = 16 * 2**20
    max_stream_bytes: Size = 2**30
    max_concurrency: Size = 4096
    header_timeout_s: Seconds = 15.0
    body_timeout_s: Seconds = 30.0
    connect_timeout_s: Seconds = 10.0
    first_byte_timeout_s: Seconds = 600.0
    idle_timeout_s: Seconds = 120.0
    total_timeout_s: Seconds = 3600.0
    send_timeout_s: Seconds = 60.0
    keepalive_s: SecondsOrNever = 0.0  # 0 sends no comments: streams stay byte-exact
    drain_timeout_s: Seconds = 30.0
    models_refresh_s: SecondsOrNever = 3600.0  # 0 asks no provider for its models

    def address(self) -> tuple[str, int]:
        """Split `listen` into host and port. Raises ConfigError."""
        host, colon, port = self.listen.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise ConfigError(f'listen = {self.listen!r} is not "host:port"')
        return host.strip("[]") or "127.0.0.1", int(port)

    def all_plans(self) -> dict[str, Plan]:
        """Give every plan by name, the built-in ones too."""
        return {**BUILT_IN_PLANS, **self.plans}

    def is_loopback(self) -> bool:
        """Say whether only this machine can reach the gateway."""
        host = self.address()[0]
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def proxies(self) -> tuple[Network, ...]:
        """Parse `trusted_proxies`. Raises ConfigError."""
        try:
            return tuple(ipaddress.ip_network(text) for text in self.trusted_proxies)
        except ValueError as error:
            raise ConfigError(f"trusted_proxies: {error}") from None


def load(path: str | Path | None, **overrides: Any) -> Config:
    """Read and check a config file; without a path, every default.

    `overrides` are top-level keys from the command line, applied where they are not None.
    Relative paths in the file are read from its folder. Raises ConfigError that names the file, the
    table and the nearest known key.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))  # some editors add a mark
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
            ) from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
        _anchor(table, Path(path).parent)
    table |= {name: value for name, value in overrides.items() if value is not None}
    config = decode_table(table, Config, str(path or "the command line"))
    try:
        _check(config)
    except ConfigError as error:
        raise ConfigError(f"{path or 'the command line'}: {error}") from error
    return config


def _anchor(table: dict[str, Any], folder: Path) -> None:
    """Read the file's relative paths from its own folder, so that every command means the same place."""
    table.setdefault("data_dir", "data")
    places: list[tuple[dict[str, Any], str]] = [
        (table, "data_dir"),
        (table, "plugins_dir"),
        (table, "catalog"),
    ]
    places += _files_in([table.get("upstreams"), table.get("plugin")])
    for holder, name in places:
        if isinstance(holder.get(name), str):
            holder[name] = str(folder / holder[name])


def _files_in(value: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Find every secret `{ file = "path" }` and every `ca_file`, at any depth."""
    if isinstance(value, dict):
        if value.keys() == {"file"}:
            yield value, "file"
        if "ca_file" in value:
            yield value, "ca_file"
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _files_in(inner)


def _check(config: Config) -> None:
    config.address()
    config.proxies()
    names = [upstream.name for upstream in config.upstreams]
    for kind, seen in (("upstreams", names), ("models", [alias.name for alias in config.models])):
        for name in seen:
            if not name or seen.count(name) > 1:
                raise ConfigError(f"[[{kind}]]: the name {name!r} is empty or used twice")
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ConfigError(f"[[upstreams]]: {name!r} may hold only letters, digits, '.', '_' and '-'")
    for upstream in config.upstreams:
        if upstream.key is not None:
            try:
                upstream.key.reveal()
            except ConfigError as error:
                raise ConfigError(f"[[upstreams]] {upstream.name}: key: {error}") from error
    for alias in config.models:
        if not alias.all_targets():
            raise ConfigError(f"[[models]] {alias.name}: set target or targets")
