"""Token counts between Anthropic's words and the hub's.

Anthropic's `input_tokens` leave out what was read from or written to the cache; the hub's prompt has
both in it. `output_tokens` have the thinking in them on both sides.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.exchange import Usage

__all__ = ["WireUsage", "merge_usage", "parse_usage", "read_usage", "write_usage"]

_MOST = 10**8  # tokens; more is nonsense
_SUMMED = (
    "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cache_write_tokens",
    "cache_write_1h_tokens",
)  # fmt: skip
_TIERS = {"standard": "default"}  # Anthropic's word and OpenAI's


class WireUsage(msgspec.Struct):
    """What of `usage` counts here; None is what was not said, or makes no sense."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    thinking: int | None = None
    service_tier: str | None = None
    searches: int | None = None
    compaction: WireUsage | None = None  # what summing up the conversation cost: not in the counts above


def parse_usage(table: Any) -> WireUsage:
    """Take in a decoded `usage`; nonsense in it is as if it were not there."""
    if not isinstance(table, dict):
        return WireUsage()
    creation, details = _table(table, "cache_creation"), _table(table, "output_tokens_details")
    hour = _count(creation.get("ephemeral_1h_input_tokens"))
    written = _count(table.get("cache_creation_input_tokens"))
    if written is None and creation:
        written = (hour or 0) + (_count(creation.get("ephemeral_5m_input_tokens")) or 0)
    tier = table.get("service_tier")
    return WireUsage(
        _count(table.get("input_tokens")),
        _count(table.get("output_tokens")),
        _count(table.get("cache_read_input_tokens")),
        written,
        hour,
        _count(details.get("thinking_tokens")),
        _TIERS.get(tier, tier) if isinstance(tier, str) else None,
        _count(_table(table, "server_tool_use").get("web_search_requests")),
        _parse_compactions(table.get("iterations")),
    )


def _parse_compactions(iterations: Any) -> WireUsage | None:
    """Add up the steps in which the vendor summed up the conversation; None if there were none.

    Other steps are in the counts already, or ran on another model (an advisor) at another price.
    """
    if not isinstance(iterations, list):
        return None
    found = [one for one in iterations if isinstance(one, dict) and one.get("type") == "compaction"]
    if not found:
        return None
    total = WireUsage(0, 0, 0, 0, 0)
    for one in map(parse_usage, found):
        for name in ("input_tokens", "output_tokens", "cache_read", "cache_write", "cache_write_1h"):
            setattr(total, name, getattr(total, name) + (getattr(one, name) or 0))
    return total


def merge_usage(known: WireUsage | None, new: WireUsage) -> WireUsage:
    """Give what is known after `new` came: its counts are cumulative, what it leaves out stays."""
    if known is None:
        return new
    for name in new.__struct_fields__:
        value = getattr(new, name)
        if value is not None:
            setattr(known, name, value)
    return known


def read_usage(wire: WireUsage) -> Usage | None:
    """Read Anthropic's counts; None, so that they are estimated, where input or output is not known."""
    if wire.input_tokens is None or wire.output_tokens is None:
        return None
    read, written = wire.cache_read or 0, wire.cache_write or 0
    prompt, completion = wire.input_tokens + read + written, wire.output_tokens
    usage = Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(wire.cache_write_1h or 0, written),
        reasoning_tokens=min(wire.thinking or 0, completion),
        web_searches=wire.searches or 0,
    )
    more = read_usage(wire.compaction) if wire.compaction is not None else None
    if more is not None:
        for name in _SUMMED:
            setattr(usage, name, getattr(usage, name) + getattr(more, name))
    return usage


def _count(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST else None


def _table(table: dict[str, Any], name: str) -> dict[str, Any]:
    found = table.get(name)
    return found if isinstance(found, dict) else {}


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write counts as a message has them."""
    # Some vendors count what was read as written too; the parts may not be more than the whole.
    read = min(usage.cached_tokens, usage.prompt_tokens)
    written = min(usage.cache_write_tokens, usage.prompt_tokens - read)
    table: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.completion_tokens,
    }
    if written:
        hour = min(usage.cache_write_1h_tokens, written)
        table["cache_creation"] = {
            "ephemeral_5m_input_tokens": written - hour,
            "ephemeral_1h_input_tokens": hour,
        }
    if usage.reasoning_tokens:
        table["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return table
