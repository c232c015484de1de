"""The demo's embeddings and legacy completions, as pure functions of a request."""

import base64
import math
import struct
from typing import Any

import msgspec
import pytest
from raven_demo import completion, embedding

from raven_proxy import InvalidRequest


def embed(given: Any, **fields: Any) -> dict[str, Any]:
    return embedding.answer(msgspec.json.encode({"input": given, **fields}), "demo-embed").whole


def vectors(given: Any, **fields: Any) -> list[list[float]]:
    return [list(row["embedding"]) for row in embed(given, **fields)["data"]]


def nearness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("size", [1, 7, 384, 1536])
def test_vectors_have_the_size_asked_for_and_length_one(size):
    (vector,) = vectors("a raven sits on a wall", dimensions=size)
    assert len(vector) == size
    assert math.isclose(math.sqrt(nearness(vector, vector)), 1.0, rel_tol=1e-5)


def test_the_same_text_has_the_same_vector_and_like_texts_are_near():
    one, same, like, other = vectors(
        ["the raven is black", "the raven is black", "the raven is old", "stock prices fell"]
    )
    assert one == same
    assert nearness(one, like) > nearness(one, other) + 0.3


def test_base64_holds_the_same_numbers_as_32_bit_floats():
    (vector,) = vectors("raven")
    packed = embed("raven", encoding_format="base64")["data"][0]["embedding"]
    assert list(struct.unpack("<384f", base64.b64decode(packed))) == vector


@pytest.mark.parametrize(("given", "count"), [("x", 1), (["x", "y"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)])
def test_inputs_are_texts_or_tokens(given, count):
    reply = embed(given)
    assert [row["index"] for row in reply["data"]] == list(range(count))
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("given", [[], "", ["x", ""], ["x"] * 2049])
def test_a_bad_input_is_the_callers_fault(given):
    with pytest.raises(InvalidRequest) as caught:
        embed(given)
    assert caught.value.param == "input"


@pytest.mark.parametrize("size", [0, 4097, "many"])
def test_bad_dimensions_are_the_callers_fault(size):
    with pytest.raises(InvalidRequest) as caught:
        embed("x", dimensions=size)
    assert caught.value.param == "dimensions"


def complete(**fields: Any) -> Any:
    return completion.answer(msgspec.json.encode(fields), "demo/chat")


def test_each_prompt_is_completed_n_times_and_the_stream_says_the_same():
    answer = complete(prompt=["one", "two"], n=2, stream=True, stream_options={"include_usage": True})
    texts = [choice["text"] for choice in answer.whole["choices"]]
    assert ["one" in texts[0], "one" in texts[1], "two" in texts[2], "two" in texts[3]] == [True] * 4
    chunks = list(answer.chunks)
    streamed = ["", "", "", ""]
    for chunk in chunks[:-1]:
        streamed[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert streamed == texts
    assert chunks[-1]["usage"] == answer.whole["usage"]


def test_completions_know_limits_stops_and_echo():
    choice = complete(prompt="Once upon", max_tokens=1, echo=True).whole["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("Once uponHello", "length")
    assert complete(prompt="x", stop="!").whole["choices"][0]["text"] == "Hello"
