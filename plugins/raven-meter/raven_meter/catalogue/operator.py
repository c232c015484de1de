"""The operator's `model_catalog.json`: own models and corrections, which go over the packaged catalogue.

Strictly decoded: an unknown field or an amount that is no decimal string is an error
that names the model. Read at the start and at each reload; a broken file stops that, and the old one holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sized
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from raven_proxy import ConfigError, ModelInfo

__all__ = ["OperatorModel", "describe", "find", "read_catalog"]

_WORTH_A_QUESTION = 4  # models; in a shorter file it is ordinary that half of it goes

Amount = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,12})?$")]
Tokens = Annotated[int, Meta(ge=1, le=2**40)]


class OperatorModel(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One model. Token prices are US dollars per million; `image`, `video_second` and `request` are each.

    Without `provider` it is the model of that name at any provider.
    """

    provider: str | None = None
    context_window: Tokens | None = None
    max_output_tokens: Tokens | None = None
    input: Amount | None = None
    output: Amount | None = None
    cached_input: Amount | None = None
    cache_write: Amount | None = None
    reasoning: Amount | None = None
    audio_input: Amount | None = None
    audio_output: Amount | None = None
    image: Amount | None = None
    video_second: Amount | None = None
    request: Amount | None = None
    multiplier: Amount | None = None

    def price(self, name: str) -> Decimal | None:
        """Give one of the amounts as a number; None where the file does not say."""
        value = getattr(self, name)
        return Decimal(value) if value is not None else None


def read_catalog(path: str | None, former: Sized = ()) -> dict[str, OperatorModel]:
    """Read the file that the config's `catalog` names; nothing without one.

    Raises ConfigError, also where it has shrunk to half of `former`, what was in force: half a file is more
    likely than that, and the rest would be billed at other prices.
    """
    if path is None:
        return {}
    try:
        models = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, OperatorModel])
        if len(former) >= _WORTH_A_QUESTION and len(models) * 2 <= len(former):
            raise ConfigError(
                f"catalog: {path}: it has {len(models)} models where {len(former)} are in force. If that is "
                "meant, restart the gateway; a reload takes no catalogue that is suddenly half as long."
            )
        return models
    except OSError as error:
        raise ConfigError(f"catalog: {path}: {error.strerror or error}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        what = re.sub(r"matching regex .*?(?= - at|$)", 'such as "0.15", not negative', str(error))
        raise ConfigError(f"catalog: {path}: {_name_model(path, what)}") from None


def _name_model(path: str, what: str) -> str:
    """Name the first model whose entry is no `OperatorModel`, where there is one."""
    message, place, rest = what.partition(" - at `$[...]")
    if not place:
        return what
    for name, entry in msgspec.json.decode(Path(path).read_bytes(), type=dict[str, msgspec.Raw]).items():
        try:
            msgspec.json.decode(entry, type=OperatorModel)
        except msgspec.ValidationError:
            return f"{name!r}: {rest.strip('.`')}: {message}" if rest.strip(".`") else f"{name!r}: {message}"
    return what


def find(models: Mapping[str, OperatorModel], provider: str, model: str) -> OperatorModel | None:
    """Find a model by `provider/model` or by its own name."""
    for name in (f"{provider}/{model}", model):
        entry = models.get(name)
        if entry is not None and entry.provider in (None, provider):
            return entry
    return None


def describe(models: Mapping[str, OperatorModel], provider: str, model: str) -> ModelInfo | None:
    """Tell the core what the operator says of a model."""
    entry = find(models, provider, model)
    if entry is None:
        return None
    return ModelInfo(id=model, context_window=entry.context_window, max_tokens=entry.max_output_tokens)
