"""What an administrator has set for a key holds for whoever has it: they make it narrower, never wider.

The column `bounds` remembers each field as an administrator set it last. A developer changes fields of their
own keys up to there; a plan is for administrators alone. Keys older than the column are bound by what they
are now.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from raven_proxy import Forbidden
from raven_proxy.resources import Caller, Record, outranks

__all__ = ["check_bounds", "note_bounds", "switched_off"]


def check_bounds(caller: Caller, before: Record[Any] | None, new: msgspec.Struct) -> None:
    """Refuse somebody below admin who would get more than was set for them. Raises Forbidden."""
    if outranks(caller.role, "admin"):
        return
    wanted, former = _builtin(new), _builtin(before.body) if before is not None else {}
    if wanted["plan"] != former.get("plan"):
        raise _refusal("plan", f"a plan takes the role admin; yours is {caller.role}")
    held = _read(before) if before is not None else {}
    for field, is_within in _RULES.items():
        if field in held and not (wanted[field] is not None and is_within(wanted[field], held[field])):
            raise _refusal(field, "an administrator has set it, and only they set it wider")


def note_bounds(caller: Caller, before: Record[Any] | None, new: msgspec.Struct) -> str:
    """Give the column for a key as it will be: what an administrator sets now is what holds from now on."""
    held = _read(before) if before is not None else {}
    if outranks(caller.role, "admin"):
        wanted, former = _builtin(new), _builtin(before.body) if before is not None else {}
        for field in _RULES:
            if field not in former or former[field] != wanted[field]:
                held[field] = wanted[field]
    return _write(held)


def switched_off(record: Record[Any]) -> str:
    """Give the column of a key that an administrator revokes."""
    return _write(_read(record) | {"is_active": False})


def _read(record: Record[Any]) -> dict[str, Any]:
    if record.columns["bounds"] is not None:
        held: dict[str, Any] = msgspec.json.decode(record.columns["bounds"])
        return held
    fields = _builtin(record.body)
    return _drop_unbounded({field: fields[field] for field in _RULES})


def _write(held: Mapping[str, Any]) -> str:
    return msgspec.json.encode(_drop_unbounded(held)).decode()


def _drop_unbounded(held: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is not limited, and what is switched on: neither bounds anything."""
    return {field: value for field, value in held.items() if value is not None and value is not True}


def _builtin(body: msgspec.Struct) -> dict[str, Any]:
    return {field: msgspec.to_builtins(value) for field, value in msgspec.structs.asdict(body).items()}


def _refusal(field: str, message: str) -> Forbidden:
    head, *rest = field.split("_")
    name = head + "".join(word.capitalize() for word in rest)
    return Forbidden(f"{name}: {message}.", param=name)


# -- is it as narrow, or narrower? -------------------------------------------------------


def _is_as_low(wanted: int, held: int) -> bool:
    return wanted <= held


def _is_among(wanted: Iterable[str], held: Iterable[str]) -> bool:
    return set(wanted) <= set(held)


def _is_as_early(wanted: str, held: str) -> bool:
    return datetime.fromisoformat(wanted) <= datetime.fromisoformat(held)


def _are_inside(wanted: Iterable[str], held: Iterable[str]) -> bool:
    places = [ipaddress.ip_network(place) for place in held]
    return all(
        any(one.version == place.version and one.subnet_of(place) for place in places)  # type: ignore[arg-type]
        for one in map(ipaddress.ip_network, wanted)
    )


def _are_matched(wanted: Iterable[str], held: Iterable[str]) -> bool:
    held = list(held)
    return all(any(_covers(pattern, one) for pattern in held) for one in wanted)


def _covers(pattern: str, other: str) -> bool:
    """Say whether a pattern of models surely matches all that another one does."""
    if pattern in {other, "*"}:
        return True
    if other == "*" or other.endswith("/*"):
        return False  # it also allows requests that name no model, which nothing else does
    if any(letter in pattern for letter in "?["):
        return False  # a wildcard of the other's would count as a letter there
    return fnmatchcase(other, pattern)


_RULES: Mapping[str, Callable[[Any, Any], bool]] = {
    "scopes": _is_among,
    "allowed_models": _are_matched,
    "rate_limit_rpm": _is_as_low,
    "rate_limit_rpd": _is_as_low,
    "rate_limit_tpm": _is_as_low,
    "rate_limit_tpd": _is_as_low,
    "max_concurrency": _is_as_low,
    "expires_at": _is_as_early,
    "ip_allowlist": _are_inside,
    "is_active": _is_as_low,
}
