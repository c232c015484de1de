"""A stream's stage in every dialect: what it lets through, however the bytes and the words are cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_guardrails.frames import is_plain_text, open_framer
from raven_guardrails.judging import RuleSet, make_rule
from raven_guardrails.report import Report
from raven_guardrails.rules import Guardrail
from raven_guardrails.shapes import PLAIN, shape_of
from raven_guardrails.stage import Hold, Holding, Watching

from raven_proxy import Forbidden
from raven_proxy.testing import run_stage

from . import vendors

WORD, CARD, SECRET = "falcon", "4111 1111 1111 1111", "sk-abcdef0123456789"
RULES = (
    ("words", "block_topics", {"topics": ["falcon", "project x"]}),
    ("cards", "pii", {"entities": ["credit_card", "email", "phone"]}),
    ("secrets", "custom_regex", {"patterns": ["sk-[a-z0-9]{16}"]}),
)


def rule_set(action: Any, **fields: Any) -> RuleSet:
    declared = [Guardrail(name=n, type=t, action=action, config=c, **fields) for n, t, c in RULES]
    return RuleSet([make_rule(one.name, one) for one in declared], "output")


REDACT, BLOCK, WARN = rule_set("redact"), rule_set("block"), rule_set("warn")


def make_stage(dialect: str, kind: str, rules: RuleSet, report: Report | None = None, cap: int = 256) -> Any:
    framer = open_framer(kind, is_array=kind == "application/json")
    assert framer is not None
    shape = PLAIN if is_plain_text(kind) and kind != "application/json" else shape_of(dialect)
    hold = Hold(rules, report or Report(), shape, cap=cap, max_held_bytes=2**18)
    return (Holding if rules.is_enforcing else Watching)(framer, hold)


def run(stage: Any, data: bytes, size: int = 7) -> bytes:
    return b"".join(stage.feed(data[n : n + size]) for n in range(0, len(data), size)) + stage.close()


def feed_all(stage: Any, data: bytes, out: bytearray) -> None:
    for n in range(len(data)):
        out += stage.feed(data[n : n + 1])
    out += stage.close()


def cut(text: str, size: int) -> list[str]:
    return [text[n : n + size] for n in range(0, len(text), size)]


SAID = f"The {WORD}, {CARD}; and {SECRET} fly. Project\nX too."
LEFT = "The [REDACTED], [REDACTED]; and [REDACTED] fly. [REDACTED] too."


@pytest.mark.parametrize("size", [1, 3, 8, 200])
@pytest.mark.parametrize("name", vendors.STREAMS)
def test_what_is_redacted_is_in_no_event(name: str, size: int) -> None:
    """A word, a card and a secret, cut anywhere: not in a text, not in what repeats it, not in the bytes."""
    dialect, kind, make = vendors.STREAMS[name]
    out = run(make_stage(dialect, kind, REDACT), make(cut(SAID, size)))
    texts = vendors.spelled(out, kind)
    assert LEFT in texts
    for needle in (WORD, CARD, SECRET, "roject\nX"):
        assert not [text for text in texts if needle in text]


@pytest.mark.parametrize("size", [1, 3, 8, 200])
@pytest.mark.parametrize("needle", [WORD, CARD, SECRET])
@pytest.mark.parametrize("name", vendors.STREAMS)
def test_what_blocks_ends_the_stream_before_it(name: str, needle: str, size: int) -> None:
    """What came before may be out; of the match there is nothing."""
    dialect, kind, make = vendors.STREAMS[name]
    stage = make_stage(dialect, kind, BLOCK)
    data = make(cut(f"So it is: {needle} and more of it.", size))
    out = bytearray()
    with pytest.raises(Forbidden) as error:
        feed_all(stage, data, out)
    assert error.value.code == "guardrail_blocked"
    assert needle not in error.value.message
    if kind != "application/json":  # half an array is no document
        texts = vendors.spelled(bytes(out), kind)
        assert not [text for text in texts if needle[:4] in text]


@pytest.mark.parametrize("name", vendors.STREAMS)
def test_a_clean_stream_keeps_every_byte(name: str) -> None:
    """Whatever the cut: `run_stage` tries every one."""
    dialect, kind, make = vendors.STREAMS[name]
    data = make(cut("falconer, sk-a 你🙂 x@y", 8))
    assert run_stage(lambda: make_stage(dialect, kind, REDACT), data) == data


@pytest.mark.parametrize("name", vendors.STREAMS)
def test_no_cut_makes_a_difference(name: str) -> None:
    """Nor does it where something is redacted."""
    dialect, kind, make = vendors.STREAMS[name]
    _ = run_stage(lambda: make_stage(dialect, kind, REDACT), make(["a fal", f"con {CARD}"]))


@pytest.mark.parametrize("size", [1, 2, 5, 300])
@pytest.mark.parametrize("name", vendors.TOOLS)
def test_arguments_of_tools_are_read_as_json(name: str, size: int) -> None:
    """Escapes are undone, numbers found, and what comes out is JSON."""
    dialect, kind, make = vendors.TOOLS[name]
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in CARD)
    arguments = f'{{"card":4111111111111111,"a":["{escaped}","a \\u0066alcon"],"{SECRET}":"\\"{WORD}\\""}}'
    out = run(make_stage(dialect, kind, REDACT), make(cut(arguments, size)))
    wanted = {"card": "[REDACTED]", "a": ["[REDACTED]", "a [REDACTED]"], "[REDACTED]": '"[REDACTED]"'}
    read = [msgspec.json.decode(text) for text in vendors.spelled(out, kind) if text.startswith('{"card":"')]
    assert read
    assert all(one == wanted for one in read)
    assert not [text for text in vendors.spelled(out, kind) if "u0034" in text or "4111" in text]


@pytest.mark.parametrize("name", [*vendors.STREAMS])
def test_who_only_looks_changes_nothing(name: str) -> None:
    """`warn` and `log`, and shadow: the same bytes at the same moment, and the finding is noted."""
    dialect, kind, make = vendors.STREAMS[name]
    data = make(cut(SAID, 3))
    for rules in (WARN, rule_set("log"), rule_set("block", shadow=True)):
        report = Report()
        stage = make_stage(dialect, kind, rules, report)
        for n in range(0, len(data), 11):
            assert stage.feed(data[n : n + 11]) == data[n : n + 11]
        assert stage.close() == b""
        assert {rule.name for _, rule in report.found} == {"words", "cards", "secrets"}


def test_what_cannot_be_a_match_flows_at_once() -> None:
    """Each event leaves with the read that brought it, unless its end could be a beginning."""
    stage = make_stage("openai.chat", vendors.EVENTS, rule_set("block"))
    flowing = vendors.sse(
        *({"choices": [{"index": 0, "delta": {"content": f"{n} and so on. "}}]} for n in "abc")
    )
    for event in flowing.split(b"\n\n")[:-1]:
        assert stage.feed(event + b"\n\n") == event + b"\n\n"
    waiting = vendors.sse({"choices": [{"index": 0, "delta": {"content": "a fal"}}]})
    assert stage.feed(waiting) == b""
    more = vendors.sse({"choices": [{"index": 0, "delta": {"content": "lacy. "}}]})
    assert stage.feed(more) == waiting + more


def test_texts_of_two_channels_are_not_mixed_up() -> None:
    """Two choices that come in turn: each is judged by itself, and both are found."""

    def both(first: str, second: str) -> Any:
        texts = enumerate((first, second))
        return {"choices": [{"index": n, "delta": {"content": text}} for n, text in texts]}

    clean = vendors.sse(both("fal", "con"), both(" x", " y"))
    assert run(make_stage("openai.chat", vendors.EVENTS, REDACT), clean) == clean
    out = run(make_stage("openai.chat", vendors.EVENTS, REDACT), vendors.sse(*map(both, "falcon", "falcon")))
    assert out.count(b"[REDACTED]") == 2


def test_a_channel_that_waits_holds_nobody_up_for_long() -> None:
    """After 16 frames without more of it a text counts as over; the match is still cut off."""

    def chunk(**delta: str) -> bytes:
        return vendors.sse({"choices": [{"index": 0, "delta": delta}]})

    stage = make_stage("openai.chat", vendors.EVENTS, REDACT)
    assert stage.feed(chunk(reasoning_content="so falc")) == b""
    out = b"".join(stage.feed(chunk(content="And so on. ")) for _ in range(20))
    assert b"so falc" in out
    assert out.count(b"content") == 21
    assert b'"on ' not in stage.feed(chunk(reasoning_content="on ")) + stage.close()


def test_what_is_longer_than_the_hold_back_is_still_found() -> None:
    """Its beginning is out; its rest is not."""
    declared = Guardrail(
        name="long", type="custom_regex", action="redact", config={"patterns": ["BEGIN[^.]*END"]}
    )
    rules = RuleSet([make_rule("long", declared)], "output")
    pieces = ["x BEGIN", *["word "] * 20, "END y"]
    out = run(make_stage("openai.chat", vendors.EVENTS, rules, cap=64), vendors.chat(pieces))
    text = max((one for one in vendors.spelled(out, vendors.EVENTS) if one[:7] == "x BEGIN"), key=len)
    assert "END" not in text
    assert text.endswith(" y")


def test_logprobs_do_not_spell_what_was_redacted() -> None:
    """The tokens beside a redacted text are left out."""

    def chunk(token: str) -> Any:
        logprobs = {"content": [{"token": token, "logprob": -0.1, "bytes": list(token.encode())}]}
        return {"choices": [{"index": 0, "delta": {"content": token}, "logprobs": logprobs}]}

    out = run(
        make_stage("openai.chat", vendors.EVENTS, REDACT),
        vendors.sse(*map(chunk, ("a ", "fal", "con", " b"))),
    )
    read = [one["choices"][0] for one in vendors.documents(out, vendors.EVENTS) if isinstance(one, dict)]
    assert [one["logprobs"] is None for one in read] == [False, True, True, False]


def test_text_that_is_no_json_is_judged_too() -> None:
    """A broken event, and one whose end never comes."""
    for data in (
        b'data: {"x": falcon\n\n',
        b"data: a falcon",
        b'data: "the falcon"\n\n',
        b"data: falcon\n\n",
    ):
        out = run(make_stage("openai.chat", vendors.EVENTS, REDACT), data)
        assert b"falcon" not in out
        assert b"[REDACTED]" in out


def test_media_pass() -> None:
    """Bytes that are no text are nobody's words."""
    assert open_framer("audio/mpeg") is None
    data = bytes(range(256)) * 4
    assert run(make_stage("openai.files", "application/octet-stream", BLOCK), data) == data


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["fal", "con", " ", "x", "4111 1111 ", "1111 1111", "sk-abcdef", "0123456789", "."]),
        max_size=14,
    ),
    st.sampled_from(sorted(vendors.STREAMS)),
)
def test_a_stream_says_what_the_whole_would(pieces: list[str], name: str) -> None:
    """However words are cut into pieces, the client reads what it would of one piece."""
    dialect, kind, make = vendors.STREAMS[name]

    def read(cut_up: Sequence[str]) -> str:
        out = run(make_stage(dialect, kind, REDACT), make(cut_up))
        return max((one for one in vendors.spelled(out, kind) if one.startswith("Here")), key=len)

    text = "Here you are: " * 4 + "".join(pieces) + " and that is all there is to it, so there."
    assert read([text]) == read(["Here you are: " * 4, *pieces, " and that is all there is to it, so there."])


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("café", "cafe\u0301"),
        ("한글", "\u1112\u1161\u11ab\u1100\u1173\u11af"),
        ("ガス", "ｶﾞｽ"),
        ("ấu", "a\u0302\u0301u"),
    ],
)
@pytest.mark.parametrize("kind", ["block_topics", "custom_regex", "escapes"])
def test_a_letter_that_comes_in_parts_is_waited_for(kind: Any, topic: str, text: str) -> None:
    """The "e" of an "é" could be one still; nothing of the word is out before its mark comes."""
    pattern = "".join(f"\\x{{{ord(letter):x}}}" for letter in topic) if kind == "escapes" else f"(?i){topic}"
    config = {"topics": [topic]} if kind == "block_topics" else {"patterns": [pattern]}
    name: Any = "block_topics" if kind == "block_topics" else "custom_regex"
    declared = Guardrail(name="x", type=name, action="redact", config=config)
    dialect, media, make = vendors.STREAMS["chat"]
    stage = make_stage(dialect, media, RuleSet([make_rule("x", declared)], "output"))
    out = run(stage, make(cut(f"a {text} b", 1)))
    assert "a [REDACTED] b" in vendors.spelled(out, media)
