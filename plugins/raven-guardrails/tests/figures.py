"""What guardrails cost a stream.

    python plugins/raven-guardrails/tests/figures.py

Prints microseconds for each event of a chat stream, and bytes that are kept for each stream; then the
microseconds of an event in other scripts, with all guardrails.
"""

# ruff: noqa: RUF001 - commas of other scripts
from __future__ import annotations

import time
import tracemalloc
from typing import Any
from unicodedata import normalize

import msgspec
from raven_guardrails.frames import open_framer
from raven_guardrails.judging import RuleSet, make_rule
from raven_guardrails.report import Report
from raven_guardrails.rules import Guardrail
from raven_guardrails.shapes import shape_of
from raven_guardrails.stage import Hold, Holding

TOPICS = {"topics": [f"topic number {n}" for n in range(1000)]}
ALL: dict[str, list[tuple[str, Any]]] = {
    "one word": [("block_topics", {"topics": ["falcon"]})],
    "1,000 words": [("block_topics", TOPICS)],
    "pii": [("pii", {})],
    "prompt_injection": [("prompt_injection", {})],
    "all of these": [
        ("block_topics", TOPICS), ("pii", {}), ("prompt_injection", {}),
        ("custom_regex", {"patterns": ["sk-[a-z0-9]{16}"]}),
    ],
}  # fmt: skip
WORDS = "Nothing here is what anybody would look for , so it all flows on .".split()
SCRIPTS = {
    "German": "Nichts hier wäre , was irgendwer über Straßen möchte , so fließt alles .",
    "Chinese": "这里 没有 任何人 会 寻找 的 东西 ， 所以 一切 都 在 流动 。",
    "Hangul": "여기에는 아무도 찾지 않는 것이 있으므로 모든 것이 흘러갑니다 .",
    "emoji": "Nothing 🙂 here is what 👍🏽 anybody would ❤️ look for , so on .",
    "German, NFD": normalize("NFD", "Nichts hier wäre , was irgendwer über Straßen möchte ."),
}


def make_stage(rules: RuleSet) -> Holding:
    framer = open_framer("text/event-stream")
    assert framer is not None
    return Holding(framer, Hold(rules, Report(), shape_of("openai.chat"), cap=256, max_held_bytes=2**18))


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def make_rules(tables: list[tuple[str, Any]]) -> RuleSet:
    declared = [
        Guardrail(name=kind, type=kind, action="redact", config=config)  # type: ignore[arg-type]
        for kind, config in tables
    ]
    return RuleSet([make_rule(one.name, one) for one in declared], "output")


def main() -> None:
    events = [event(" " + word) for word in WORDS]
    for name, tables in ALL.items():
        began = time.perf_counter()
        rules = make_rules(tables)
        compiled_ms = (time.perf_counter() - began) * 1000
        stage = make_stage(rules)
        for one in events * 20:
            _ = stage.feed(one)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        fresh = make_stage(rules)
        for one in events * 200:
            _ = fresh.feed(one)
        kept = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        began = time.perf_counter()
        for one in events * 200:
            _ = stage.feed(one)
        each = (time.perf_counter() - began) / len(events) / 200 * 1e6
        cost = f"{each:6.1f} us an event  {kept / 1024:6.1f} KiB a stream"
        print(f"{name:18} {cost}  {compiled_ms:7.1f} ms to compile")
    for name, text in SCRIPTS.items():
        said = [event(" " + word) for word in text.split()]
        stage = make_stage(rules)
        began = time.perf_counter()
        for one in said * 200:
            _ = stage.feed(one)
        each = (time.perf_counter() - began) / len(said) / 200 * 1e6
        print(f"{name:18} {each:6.1f} us an event")


if __name__ == "__main__":
    main()
