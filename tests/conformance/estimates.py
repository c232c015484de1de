"""How far the gateway's estimates are from what vendors reported, over every recorded exchange.

Three estimates stand in for a report that did not come: what a stream that was cut is counted by (the words
that were read), what a crash leaves (the raw bytes that came), and the bound of a prompt, which admission
reserves by.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from raven_anthropic.dialect import PROVIDER_SIDE as MESSAGES
from raven_bedrock.raw import CONVERSE
from raven_cohere.dialect import CHAT as COHERE
from raven_gemini.native import GENERATE
from raven_meter import records
from raven_meter.estimates import tokens_around
from raven_ollama.dialect import CHAT as OLLAMA
from raven_openai.chat.vendor import PROVIDER_SIDE as CHAT
from raven_openai.responses.dialect import RESPONSES

from raven_proxy import hub
from raven_proxy.metering import Meter
from raven_proxy.providers import estimate_prompt, prompt_bound

from .cases import Case, cases

__all__ = ["SIDES", "Measured", "measure", "table"]

SIDES: dict[str, Any] = {
    "openai.chat": CHAT,
    "openai.responses": RESPONSES.provider_side,
    "anthropic.messages": MESSAGES,
    "vertex.anthropic": MESSAGES,
    "gemini.generate": GENERATE.provider_side,
    "bedrock.converse": CONVERSE.provider_side,
    "cohere.chat": COHERE.provider_side,
    "ollama.chat": OLLAMA.provider_side,
}


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange in numbers; None where a figure is not to be had.

    `reported` and `prompt` are the vendor's. `counted` is the estimate from the words of the answer, `hidden`
    the reported reasoning that the stream does not show. `raw` counts the stream's bytes. `usual` and `bound`
    are the two estimates of the prompt.
    """

    id: str
    surface: str
    vendor: str
    streaming: bool
    reported: int
    counted: int | None
    hidden: int
    raw: int
    prompt: int
    usual: int | None
    bound: int | None


def measure() -> list[Measured]:
    """Measure every recorded reply that reports its usage."""
    return [found for case in cases() if (found := _measure(case)) is not None]


def _measure(case: Case) -> Measured | None:
    usage = case.meaning.usage
    side = SIDES.get(case.surface)
    if usage is None or side is None or not usage.completion or case.meaning.error is not None:
        return None
    body = case.recording.request.get("body")
    sent = msgspec.json.encode(body) if body is not None else None
    reasons = any(answer.reasoning for answer in case.meaning.answers)
    provider = case.recording.provider
    return Measured(
        id=case.id,
        surface=case.surface,
        vendor=case.surface.partition(".")[0] if provider == "parallel_corpus" else provider,
        streaming=case.streaming,
        reported=usage.completion,
        counted=_count(case, side),
        hidden=0 if reasons else usage.reasoning,
        raw=len(case.body),
        prompt=usage.prompt,
        usual=estimate_prompt(sent) if sent is not None else None,
        bound=prompt_bound(sent) + tokens_around(body) if sent is not None else None,
    )


def _count(case: Case, side: Any) -> int:
    exchange: Any = type("E", (), {"credential": None, "body": b""})()
    meter = Meter(exchange)
    events: Iterable[hub.Event]
    if case.streaming:
        reader = side.open_reader()
        events = [*reader.feed(case.body), *reader.close()]
    else:
        events = hub.events_of(side.read_reply(case.body))
    for event in events:
        meter.note(event)
    return meter.estimate().completion_tokens


def table(measured: list[Measured]) -> str:
    """Write the published table: by vendor, how far the estimates are off, in per cent of what it said."""
    streams = [one for one in measured if one.streaming]
    lines = [
        "| vendor | streams | words: median | p90 | bytes: median | p90 | prompts | usual | p90 | low |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for vendor in [*sorted({one.vendor for one in measured}), "all"]:
        made = [one for one in streams if vendor in (one.vendor, "all")]
        asked = [one for one in measured if vendor in (one.vendor, "all") and _is_told(one)]
        cells = [vendor, str(len(made))]
        cells += _cells(made, lambda one: one.counted or 0, lambda one: one.reported)
        cells += _cells(made, _count_bytes, lambda one: one.reported)
        cells += [str(len(asked)), *_cells(asked, lambda one: one.usual or 0, lambda one: one.prompt)]
        cells.append(str(sum(one.prompt > (one.bound or 0) for one in asked)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _count_bytes(one: Measured) -> int:
    return -(-one.raw // records._STREAM_BYTES_PER_TOKEN)


def _is_told(one: Measured) -> bool:
    return one.usual is not None and one.prompt > 0


def _cells(
    chosen: list[Measured], estimate: Callable[[Measured], int], truth: Callable[[Measured], int]
) -> list[str]:
    errors = [(estimate(one) - truth(one)) / truth(one) for one in chosen]
    if not errors:
        return ["", ""]
    return [f"{statistics.median(errors):+.0%}", f"{_p90([abs(error) for error in errors]):.0%}"]


def _p90(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.9))]
