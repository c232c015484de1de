"""What a reply means: text, thinking, tool calls, finish, tokens, error.

The oracle of the conformance suite. It shares no code with the gateway: `meaning_of` reads recorded
replies (`meaning_<dialect>`), `meaning_of_client` reads what official client libraries return, and
`differences` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

__all__ = [
    "Answer", "Call", "Json", "Meaning", "Tokens", "differences", "read_arguments", "read_events", "said",
]  # fmt: skip

Json = dict[str, Any]


class Call(msgspec.Struct, frozen=True):
    """A call of one of the client's functions. `arguments` is decoded JSON; `id` None where there is none."""

    name: str
    arguments: Any
    id: str | None = None


class Answer(msgspec.Struct, kw_only=True):
    """One choice. `finish` is one of stop, length, tool_calls, content_filter, error; None if none came.

    `links` counts citations of web pages.
    """

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[Call] = []
    finish: str | None = None
    links: int = 0


class Tokens(msgspec.Struct, kw_only=True):
    """`prompt` has the cached tokens in it, `completion` the reasoning; None is unknown."""

    prompt: int
    completion: int
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


class Meaning(msgspec.Struct, kw_only=True):
    """A whole reply. `error` is the message of an error inside a stream; nothing after it counts."""

    answers: list[Answer] = []
    usage: Tokens | None = None
    error: str | None = None

    def answer(self, index: int = 0) -> Answer:
        """Give a choice; made if it is not there yet."""
        while len(self.answers) <= index:
            self.answers.append(Answer())
        return self.answers[index]


def read_events(body: bytes) -> Iterator[tuple[str | None, Json]]:
    """Read server-sent events: (event name, decoded data); `[DONE]` and comments are left out."""
    name, data = None, list[bytes]()
    for line in [*body.replace(b"\r\n", b"\n").split(b"\n"), b""]:
        if not line:
            text = b"\n".join(data).strip()
            if text and text != b"[DONE]":
                yield name, msgspec.json.decode(text)
            name, data = None, []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode()


def read_arguments(arguments: str | None) -> Any:
    """Decode a call's arguments; none at all is no arguments, and what is no JSON stays text."""
    if not arguments or not arguments.strip():
        return {}
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments


def said(answer: Answer) -> str:
    """Give what a user reads: the text, or the refusal."""
    return answer.text + answer.refusal


def _squeeze(text: str) -> str:
    """Leave out white space: several pieces of thinking are joined in several ways."""
    return "".join(text.split())


def differences(expected: Meaning, got: Meaning, *, ignore: Iterable[str] = ()) -> list[str]:
    """Name each aspect in which two meanings differ, with both values. Empty means equal.

    Ids count where the recording has them. `ignore` names aspects that the client's dialect lacks.
    """
    if got.error is not None or expected.error is not None:
        is_same = bool(expected.error and got.error and expected.error[:40] in got.error)
        return [] if is_same else [f"error: expected {expected.error!r}, got {got.error!r}"]
    pairs: list[tuple[str, Any, Any]] = []
    leave = set(ignore)
    count = min(1, len(expected.answers)) if "answers" in leave else len(expected.answers)
    pairs.append(("answers", count, len(got.answers)))
    for index in range(count):
        want = expected.answers[index]
        have = got.answers[index] if index < len(got.answers) else Answer()
        ids = [call.id if wanted.id else None for call, wanted in zip(have.calls, want.calls, strict=False)]
        pairs += [
            ("text", said(want), said(have)),
            ("reasoning", _squeeze(want.reasoning), _squeeze(have.reasoning)),
            (
                "calls",
                [(c.name, c.arguments) for c in want.calls],
                [(c.name, c.arguments) for c in have.calls],
            ),
            ("call ids", [call.id for call in want.calls], ids),
            ("made ids", True, all(call.id for call in have.calls) and _unique(have.calls)),
            ("finish", want.finish, have.finish),
            ("links", True, have.links > 0 or not want.links),
        ]
    if expected.usage is not None:
        wanted, had = _tokens(expected.usage), _tokens(got.usage)
        pairs += [(f"usage {name}", value, had.get(name)) for name, value in wanted.items()]
    return [
        f"{name}: expected {want!r}, got {have!r}"
        for name, want, have in pairs
        if want != have and name not in leave
    ]


def _unique(calls: list[Call]) -> bool:
    return len({call.id for call in calls}) == len(calls)


def _tokens(usage: Tokens | None) -> Json:
    """Parts are cut to their whole: vendors have reported 61 tokens of reasoning in an answer of 9."""
    if usage is None:
        return {}
    cached = min(usage.cached, usage.prompt)
    parts = {"cached": cached, "cache_write": min(usage.cache_write, usage.prompt - cached)}
    return msgspec.structs.asdict(usage) | parts | {"reasoning": min(usage.reasoning, usage.completion)}
