"""Each vendor's errors arrive in each face's dialect, with the exception that users of the client expect.

Statuses stay, but for two of the contract's: a vendor's 401 or 403 is the gateway's fault and becomes 502,
and 529, which OpenAI's clients do not know, becomes 503 for them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio

from raven_proxy.mock import ScriptedReply, Seen

from .matrix import Bench, open_bench
from .meaning import Json
from .upstreams import require_plugin

pytestmark = pytest.mark.asyncio(loop_scope="module")

_STATUSES = (400, 401, 403, 404, 413, 429, 500, 529)
_SECRET = "sk-vendor-0123456789abcdef"
_SAID = "The vendor's own words"
_HTML = b"<html><head><title>502</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_WORDS = {
    400: ("invalid_request_error", "INVALID_ARGUMENT", "ValidationException"),
    401: ("authentication_error", "UNAUTHENTICATED", "UnrecognizedClientException"),
    403: ("permission_error", "PERMISSION_DENIED", "AccessDeniedException"),
    404: ("not_found_error", "NOT_FOUND", "ResourceNotFoundException"),
    413: ("request_too_large", "INVALID_ARGUMENT", "RequestEntityTooLargeException"),
    429: ("rate_limit_error", "RESOURCE_EXHAUSTED", "ThrottlingException"),
    500: ("api_error", "INTERNAL", "InternalServerException"),
    529: ("overloaded_error", "UNAVAILABLE", ""),
}
_MODELS = {  # vendor → its plugin, and the model that is asked for
    "openai": ("openai", "openai-chat/any"),
    "openai responses": ("openai", "openai-responses/any"),
    "mistral": ("openai", "mistral-chat/any"),
    "xai": ("openai", "xai-chat/any"),
    "anthropic": ("anthropic", "anthropic/claude-sonnet-4-5"),
    "gemini": ("gemini", "gemini/gemini-2.5-flash"),
    "vertex": ("gemini", "vertex/gemini-2.5-flash"),
    "bedrock": ("bedrock", "bedrock/amazon.nova-lite-v1:0"),
    "bedrock claude": ("bedrock", "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0"),
    "cohere": ("cohere", "cohere/command-a-03-2025"),
}
_OPENAI_CLASSES = {
    400: "BadRequestError", 404: "NotFoundError", 413: "APIStatusError", 429: "RateLimitError",
    500: "InternalServerError", 502: "InternalServerError", 503: "InternalServerError",
}  # fmt: skip
# Named anew in the library's second version.
_TOO_LARGE = "ContentTooLargeError" if hasattr(anthropic, "ContentTooLargeError") else "RequestTooLargeError"
_ANTHROPIC_CLASSES = {
    400: "BadRequestError", 404: "NotFoundError", 413: _TOO_LARGE, 429: "RateLimitError",
    500: "InternalServerError", 502: "InternalServerError", 529: "OverloadedError",
}  # fmt: skip
_ANTHROPIC_TYPES = {
    400: "invalid_request_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error",
    500: "api_error", 502: "api_error", 529: "overloaded_error",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path_factory.mktemp("errors")) as opened:
        yield opened


def _refusal(vendor: str, status: int) -> ScriptedReply:
    """Write the vendor's error reply, as its documentation and the recordings have it."""
    theirs, google, amazon = _WORDS[status]
    said = f"{_SAID}, about {_SECRET}"
    bodies: dict[str, Json] = {
        "anthropic": {"type": "error", "error": {"type": theirs, "message": said}, "request_id": "req_1"},
        "gemini": {"error": {"code": status, "message": said, "status": google}},
        "vertex": {"error": {"code": status, "message": said, "status": google}},
        "bedrock": {"message": said},
        "bedrock claude": {"message": said},
        "cohere": {"id": "1", "message": said},
        "mistral": {"object": "error", "message": said, "type": theirs, "code": "3051", "param": None},
        "xai": {"code": "invalid-argument", "error": said},
    }
    usual = {"error": {"message": said, "type": theirs, "param": None, "code": None}}
    headers = {"x-amzn-errortype": f"{amazon}:http://internal/"} if amazon and "bedrock" in vendor else {}
    headers |= {"retry-after": "3"} if status == 429 else {}
    return ScriptedReply.of_json(bodies.get(vendor, usual), status=status, headers=headers)


async def _provoke(bench: Bench, vendor: str, face: str, reply: ScriptedReply, stream: bool) -> Any:
    """Ask through a face; give the exception that its client raised."""
    plugin, model = _MODELS[vendor]
    require_plugin(plugin)

    async def answer(_: Seen) -> ScriptedReply:
        return reply

    bench.upstream.handler = answer
    ask: Any = {"model": model, "stream": stream}
    question: Any = [{"role": "user", "content": "Hello?"}]
    asks: dict[str, Callable[[], Awaitable[Any]]] = {
        "chat": lambda: bench.openai.chat.completions.create(messages=question, **ask),
        "responses": lambda: bench.openai.responses.create(input="Hello?", **ask),
        "messages": lambda: bench.anthropic.messages.create(max_tokens=9, messages=question, **ask),
    }
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as raised:
        await asks[face]()
    return raised.value


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", _STATUSES)
@pytest.mark.parametrize("face", ["chat", "responses", "messages"])
@pytest.mark.parametrize("vendor", _MODELS)
async def test_an_error(vendor: str, face: str, status: int, stream: bool, bench: Bench) -> None:
    """Status, class, type and words are the client's and the vendor's; the vendor's key is nobody's."""
    error = await _provoke(bench, vendor, face, _refusal(vendor, status), stream)
    expected = {401: 502, 403: 502, 529: 529 if face == "messages" else 503}.get(status, status)
    classes = _ANTHROPIC_CLASSES if face == "messages" else _OPENAI_CLASSES
    assert (error.status_code, type(error).__name__) == (expected, classes[expected])
    assert _SAID in error.message
    assert _SECRET not in str(error.response.text)
    assert error.response.headers["x-request-id"].startswith("req_")
    if status == 429:
        assert error.response.headers["retry-after"] == "3"
    if face == "messages":
        assert error.body["error"]["type"] == _ANTHROPIC_TYPES[expected]
        assert error.body["request_id"] == error.response.headers["request-id"]
    else:
        assert error.body["type"]
        assert set(error.body) >= {"message", "type", "param", "code"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("face", ["chat", "responses", "messages"])
@pytest.mark.parametrize("vendor", _MODELS)
async def test_a_page_in_html(vendor: str, face: str, stream: bool, bench: Bench) -> None:
    """A proxy's error page on the way is an error of the client's dialect, told without its markup."""
    page = ScriptedReply(status=502, headers={"Content-Type": "text/html"}, body=_HTML)
    error = await _provoke(bench, vendor, face, page, stream)
    assert (error.status_code, type(error).__name__) == (502, "InternalServerError")
    assert "<" not in error.message
    assert error.response.headers["content-type"].startswith("application/json")
