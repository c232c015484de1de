"""What a guardrail is, as people write it: its fields, and the config of each type. Declarations and checks.

The names are those of the management API (camelCase). In a config file they are written with underscores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

__all__ = [
    "CONFIGS",
    "ENTITIES",
    "Action",
    "Direction",
    "Guardrail",
    "InvalidRule",
    "JsonSchema",
    "Kind",
    "MaxLength",
    "Patterns",
    "Pii",
    "PromptInjection",
    "Topics",
    "Webhook",
    "read_config",
    "read_table",
]

Action = Literal["block", "redact", "warn", "log"]
Direction = Literal["input", "output"]
Entity = Literal["email", "phone", "ssn", "credit_card", "ip", "iban"]
ENTITIES: tuple[Entity, ...] = ("email", "phone", "ssn", "credit_card", "ip", "iban")
Kind = Literal[
    "block_topics", "pii", "custom_regex", "prompt_injection", "max_length", "json_schema", "webhook"
]

# It may come to stand inside a JSON string, so it must need no escape there.
Replacement = Annotated[str, Meta(pattern=r'^[^"\\\x00-\x1f\x7f]{0,64}\Z')]
_NAME = r"^[^\x00-\x1f\x7f]{1,100}\Z"
_SNAKE = re.compile(r"_([a-z])")


class InvalidRule(ValueError):
    """A guardrail that cannot be: `param` is the field, as in JSON."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class Guardrail(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", frozen=True):
    """One guardrail. `config` is that of its `type`; a smaller `priority` comes first.

    With `shadow` it runs and is logged, and neither refuses, nor changes, nor warns anybody.
    """

    name: Annotated[str, Meta(pattern=_NAME)]
    type: Kind
    action: Action = "block"
    applies_to: Literal["input", "output", "both"] = "both"
    config: dict[str, Any] = {}
    priority: Annotated[int, Meta(ge=-(2**31), lt=2**31)] = 100
    shadow: bool = False
    is_enabled: bool = True

    def applies(self, direction: Direction) -> bool:
        """Say whether it judges what goes this way."""
        return self.applies_to in (direction, "both")


class Topics(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", frozen=True):
    """`block_topics`: words and phrases, in any case. `match` "word" wants a border on both sides."""

    topics: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...], Meta(min_length=1, max_length=1000)
    ]
    match: Literal["word", "substring"] = "word"
    replacement: Replacement = "[REDACTED]"


class Pii(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", frozen=True):
    """`pii`: which kinds of personal data; all, if none are named."""

    entities: Annotated[tuple[Entity, ...], Meta(min_length=1, max_length=16)] = ENTITIES
    replacement: Replacement = "[REDACTED]"


class Patterns(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", frozen=True):
    """`custom_regex`: patterns in RE2's syntax (no look-around, no back-references)."""

    patterns: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=1000)], ...], Meta(min_length=1, max_length=100)
    ]
    ignore_case: bool = False
    replacement: Replacement = "[REDACTED]"


class PromptInjection(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", frozen=True):
    """`prompt_injection`: found where the scores of the phrases in one text come to `threshold`."""

    threshold: Annotated[float, Meta(gt=0, le=10)] = 1.0
    replacement: Replacement = "[REDACTED]"


class MaxLength(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", frozen=True):
    """`max_length`: so many characters at most, of all texts of a request or reply together."""

    max_characters: Annotated[int, Meta(ge=1, le=2**40)]


class JsonSchema(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", frozen=True):
    """`json_schema`: what the model answers has to be JSON of this schema. No references to elsewhere."""

    schema: dict[str, Any]


class Webhook(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", frozen=True):
    """`webhook`: who judges elsewhere. `on_error` says what an answer is worth that does not come.

    `region` is where it lies, as a provider's: an organisation's data residency binds it too.
    """

    url: Annotated[str, Meta(min_length=8, max_length=2048)]
    timeout_ms: Annotated[int, Meta(ge=1, le=9000)] = 3000
    on_error: Literal["block", "allow"] = "block"
    region: Annotated[str, Meta(max_length=64)] = "any"


CONFIGS: Mapping[str, type[msgspec.Struct]] = {
    "block_topics": Topics,
    "pii": Pii,
    "custom_regex": Patterns,
    "prompt_injection": PromptInjection,
    "max_length": MaxLength,
    "json_schema": JsonSchema,
    "webhook": Webhook,
}
_MOST_TOPICS = 32_768  # characters: they compile in some tenths of a second
_MOST_PATTERNS = 8192
_CANNOT_REDACT = frozenset({"max_length", "json_schema"})


def read_config(rule: Guardrail) -> msgspec.Struct:
    """Decode a guardrail's config and check what its fields say together. Raises InvalidRule."""
    if rule.type in _CANNOT_REDACT and rule.action == "redact":
        raise InvalidRule("action", f"a guardrail of the type {rule.type} has nothing to redact")
    if rule.type == "json_schema" and rule.applies_to != "output":
        raise InvalidRule("appliesTo", 'a schema judges what the model answers: it must be "output"')
    try:
        config = msgspec.convert(rule.config, CONFIGS[rule.type])
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        raise InvalidRule("config" + path.rstrip("`"), what[:1].lower() + what[1:200]) from None
    if isinstance(config, Webhook):
        _check_url(config.url)
    if isinstance(config, Topics) and sum(map(len, config.topics)) > _MOST_TOPICS:
        raise InvalidRule("config.topics", f"together they must have at most {_MOST_TOPICS} characters")
    if isinstance(config, Patterns) and sum(map(len, config.patterns)) > _MOST_PATTERNS:
        raise InvalidRule("config.patterns", f"together they must have at most {_MOST_PATTERNS} characters")
    return config


def read_table(table: Mapping[str, Any]) -> Guardrail:
    """Read a table of the config file, written with underscores. Raises InvalidRule."""
    fields = {_camel(name): value for name, value in table.items()}
    if isinstance(config := fields.get("config"), Mapping):
        fields["config"] = {_camel(name): value for name, value in config.items()}
    try:
        return msgspec.convert(fields, Guardrail)
    except msgspec.ValidationError as error:
        raise InvalidRule("", str(error)) from None


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or "@" in parts.netloc or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRule("config.url", "must be an http(s) URL without a user")


def _camel(name: str) -> str:
    return _SNAKE.sub(lambda match: match[1].upper(), name)
