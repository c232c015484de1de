"""Which prices hold for an exchange: the operator's catalogue over the packaged one, as of now."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

from .catalogue import PackagedCatalogue, operator
from .pricing import OWN, Tariff, tariff_of

__all__ = ["Tariffs"]

_MINUTE_S = 60  # prices change with a minute
_MAX_KEPT = 4096


class Tariffs:
    """Compiled prices by provider and model, kept until the minute is over."""

    def __init__(self, packaged: PackagedCatalogue, own: Mapping[str, operator.OperatorModel]) -> None:
        self._packaged = packaged
        self._own = own
        self._kept: dict[tuple[str, str], Tariff | None] = {}
        self._minute = 0

    def find(self, provider: str, model: str) -> Tariff | None:
        """Give the prices of a model; None where nobody knows one."""
        key = (provider, model)
        minute = int(time.time()) // _MINUTE_S
        if minute != self._minute or len(self._kept) >= _MAX_KEPT:  # names come from clients: bounded
            self._kept, self._minute = {}, minute
        if key in self._kept:
            return self._kept[key]
        found = tariff_of(self._packaged.find(provider, model), operator.find(self._own, provider, model))
        self._kept[key] = found
        return found

    def source(self, provider: str, model: str) -> Literal["catalog", "operator"]:
        """Say whose word the prices are that `find` gives: the operator's, if only for a part of them."""
        own = operator.find(self._own, provider, model)
        is_own = own is not None and any(own.price(kind) is not None for kind in (*OWN, "multiplier"))
        return "operator" if is_own else "catalog"
