"""A client's request, translated, says what the same request said to Google in its own dialect.

The parallel corpus has one request in several dialects. Where the client's side of OpenAI's or Anthropic's
dialect is installed, theirs is translated here and compared with Google's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from raven_proxy.exchange import Exchange

Make = Callable[..., Exchange]
Json = dict[str, Any]
CASES = (
    "complexReasoningRequest instructionsParam jsonSchemaFormatParam jsonSchemaMinimumMaximumParam "
    "maxCompletionTokensParam reasoningRequest reasoningRequestTruncated reasoningSummaryParam "
    "stopSequencesParam textFormatJsonSchemaParam toolCallRequest webSearchToolParam"
).split()


def face_of(dialect: str) -> Any:
    module, name = {
        "chat-completions": ("raven_openai.dialect", "openai-chat"),
        "anthropic": ("raven_anthropic.dialect", "anthropic-messages"),
    }[dialect]
    try:
        faces = importlib.import_module(module).FACES
    except ImportError:
        pytest.skip(f"{module} is not installed")
    return next(face for face in faces if face.name == name)


def questions(body: Json) -> list[Json]:
    """What the user said; what models answered in between differs from vendor to vendor."""
    turns = [content for content in body["contents"] if content.get("role") == "user"]
    return [normal(part) for content in turns for part in content["parts"]]


def normal(part: Json) -> Json:
    answered = part.get("functionResponse")
    if answered is None:
        return part
    response = answered["response"]
    texts = response.values() if isinstance(response, dict) else [response]
    return {"functionResponse": {"name": answered["name"], "texts": [str(text) for text in texts]}}


def schemas(body: Json) -> Any:
    """Schemas in one spelling."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if k != "additionalProperties"}
        return [plain(one) for one in value] if isinstance(value, list) else value

    def lower(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: v.lower() if k == "type" and isinstance(v, str) else lower(v) for k, v in value.items()
            }
        return value

    declared = [d for tool in body.get("tools", ()) for d in tool.get("functionDeclarations", ())]
    config = body.get("generationConfig", {})
    return (
        [(d["name"], lower(plain(d.get("parametersJsonSchema") or d.get("parameters")))) for d in declared],
        lower(plain(config.get("responseJsonSchema") or config.get("responseSchema"))),
    )


@pytest.mark.parametrize("dialect", ["chat-completions", "anthropic"])
def test_translated_requests_mean_what_googles_own_say(
    recordings: list[Any], make_exchange: Make, provider: Any, dialect: str
) -> None:
    """The user's words, the instructions, the tools, the shape of the answer: for each case, both turns."""
    face = face_of(dialect)
    compared = 0
    for case in CASES:
        native = find(recordings, case, "google")
        for theirs in find(recordings, case, dialect):
            own = next((r for r in native if is_same_turn(r, theirs)), None)
            if own is None:
                continue
            body = msgspec.json.encode(theirs.request["body"])
            exchange = make_exchange(body, face=face, model=own.model)
            written = msgspec.json.decode(provider.build_request(exchange).body)
            compare(written, own.request["body"], case, dialect)
            compared += 1
    assert compared >= 15, compared


def compare(written: Json, own: Json, case: str, dialect: str) -> None:
    roles = [content["role"] for content in written["contents"]]
    assert roles == [("user", "model")[place % 2] for place in range(len(roles))], case
    said, asked = questions(written), questions(own)
    if dialect == "anthropic":  # some of these twins were given other words
        said, asked = [[*part] for part in said], [[*part] for part in asked]  # type: ignore[misc]
    assert said == asked, case
    mine, theirs = written.get("systemInstruction"), own.get("systemInstruction")
    assert (mine is None) is (theirs is None), case
    if mine is not None and dialect != "anthropic":
        assert mine["parts"] == theirs["parts"], case
    assert schemas(written) == schemas(own), case
    searches = [["googleSearch" in tool for tool in body.get("tools", ())] for body in (written, own)]
    assert searches[0] == searches[1], case
    config, native = written.get("generationConfig", {}), own.get("generationConfig", {})
    assert config.get("responseMimeType") == native.get("responseMimeType"), case
    if "stopSequences" in native:
        assert config["stopSequences"] == native["stopSequences"], case
    if "includeThoughts" in native.get("thinkingConfig", {}) and "thinkingConfig" in config:
        assert config["thinkingConfig"]["includeThoughts"] is True, case


def find(recordings: list[Any], case: str, dialect: str) -> list[Any]:
    return [r for r in recordings if r.case == case and r.dialect == dialect]


def is_same_turn(one: Any, other: Any) -> bool:
    return ("followup" in one.id) == ("followup" in other.id) and one.streaming is other.streaming


def test_googles_own_requests_survive_the_hub(recordings: list[Any]) -> None:
    """Answers that were recorded, given back as history, are what Google was given back then."""
    from raven_gemini.contents import Conversation, write_contents
    from raven_gemini.models import judge
    from raven_gemini.replies import GenerateSide

    from raven_proxy import hub

    checked = 0
    for recording in recordings:
        is_first = recording.dialect == "google" and "followup" not in recording.id
        if not is_first or recording.streaming or recording.status >= 400:
            continue
        followup = next(
            (
                r
                for r in recordings
                if r.case == recording.case
                and r.dialect == "google"
                and "followup" in r.id
                and not r.streaming
            ),
            None,
        )
        if followup is None:
            continue
        answer = GenerateSide().read_reply(recording.body).choices[0]
        ids = [part.id for part in answer.parts if isinstance(part, hub.ToolCall)]
        messages = [hub.Message(role="user", parts=[hub.Text(text="?")])]
        messages.append(hub.Message(role="assistant", parts=answer.parts))
        messages += [hub.Message(role="tool", parts=[hub.ToolResult(call_id=one)]) for one in ids]
        _, contents = write_contents(messages, Conversation(judge(recording.model)))
        given_back = next(c for c in followup.request["body"]["contents"] if c.get("role") == "model")
        mine = [part for part in contents[1]["parts"] if not part.get("thought")]
        assert mine == [p for p in given_back["parts"] if not p.get("thought")], recording.id
        checked += 1
    assert checked >= 8
