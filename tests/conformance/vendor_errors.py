"""What each vendor says when it refuses, and what a client of the gateway hears of it: data only.

The table is of `WIRE.md`, section 11; `test_wire_facts` tries each row on each face.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["INVALID", "MISSING", "ROWS", "SECRET", "Row"]

SECRET = "sk-vendor-0123456789abcdef"
INVALID, _UPSTREAM, MISSING = "invalid_request_error", "upstream_error", "not_found_error"


class Row(msgspec.Struct, kw_only=True):
    """One shape. `said` is the vendor's body, `words` what of it reaches the client."""

    name: str
    model: str
    status: int
    said: Any
    out: int
    type: str
    code: str
    words: str
    param: str | None = None
    headers: dict[str, str] = {}
    wait: str | None = None


def _row(name: str, model: str, status: int, said: Any, *out: Any, **more: Any) -> Row:
    names = ("out", "type", "code", "words")
    return Row(name=name, model=model, status=status, said=said, **dict(zip(names, out, strict=True)), **more)


_KEY_INFO = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEYINVALID"}
_RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
_QUOTA = "You exceeded your current quota."
OPENAI, MISTRAL = "openai-chat/any", "mistral-chat/any"
ROWS = [
    _row("openai bad key", OPENAI, 401,
         {"error": {"message": f"Incorrect API key provided: {SECRET}.", "type": INVALID, "param": None,
                    "code": "invalid_api_key"}},
         502, _UPSTREAM, "upstream_error", "Incorrect API key provided"),
    _row("openai unknown model", OPENAI, 404,
         {"error": {"message": "The model `x` does not exist", "type": INVALID, "param": None,
                    "code": "model_not_found"}},
         404, MISSING, "model_not_found", "The model `x` does not exist"),
    _row("openai responses unknown model", "openai-responses/any", 400,
         {"error": {"message": "The model does not exist", "type": INVALID, "param": "model",
                    "code": "model_not_found"}},
         400, INVALID, "model_not_found", "does not exist", param="model"),
    _row("openai no money", OPENAI, 429,
         {"error": {"message": _QUOTA, "type": "insufficient_quota", "param": None,
                    "code": "insufficient_quota"}},
         429, "rate_limit_error", "insufficient_quota", _QUOTA, wait="1"),
    _row("anthropic", "anthropic/claude-sonnet-4-5", 400,
         {"type": "error", "error": {"type": INVALID, "message": "prompt is too long"}, "request_id": None},
         400, INVALID, "bad_request", "prompt is too long", headers={"x-should-retry": "false"}),
    _row("anthropic overloaded", "anthropic/claude-sonnet-4-5", 529,
         {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
         529, _UPSTREAM, "upstream_error", "Overloaded", wait="1"),
    _row("gemini bad key", "gemini/gemini-2.5-flash", 400,
         {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT",
                    "details": [_KEY_INFO]}},
         502, _UPSTREAM, "upstream_error", "API key not valid"),
    _row("gemini quota", "gemini/gemini-2.5-flash", 429,
         {"error": {"code": 429, "message": _QUOTA, "status": "RESOURCE_EXHAUSTED",
                    "details": [_RETRY_INFO]}},
         429, "rate_limit_error", "rate_limit_exceeded", _QUOTA, wait="34"),
    _row("vertex in an array", "vertex/gemini-2.5-flash", 404,
         [{"error": {"code": 404, "message": "Publisher Model not found.", "status": "NOT_FOUND"}}],
         404, MISSING, "not_found", "Publisher Model not found."),
    _row("bedrock expired", "bedrock/amazon.nova-lite-v1:0", 403,
         {"message": "The security token included in the request is expired"},
         502, _UPSTREAM, "upstream_error", "is expired",
         headers={"x-amzn-errortype": "ExpiredTokenException:http://internal/"}),
    _row("bedrock throttled", "bedrock/amazon.nova-lite-v1:0", 400, {"message": "Too many tokens."},
         429, "rate_limit_error", "rate_limit_exceeded", "Too many tokens.", wait="1",
         headers={"x-amzn-errortype": "ThrottlingException"}),
    _row("azure number as text", OPENAI, 404, {"error": {"code": "404", "message": "Resource not found"}},
         404, MISSING, "not_found", "Resource not found"),
    _row("mistral flat", MISTRAL, 400,
         {"object": "error", "message": "Logprobs are not enabled", "type": "invalid_request_invalid_args",
          "param": None, "code": "3051", "raw_status_code": 400},
         400, INVALID, "3051", "Logprobs are not enabled"),
    _row("mistral bad key", MISTRAL, 401, {"detail": "Invalid API Key"},
         502, _UPSTREAM, "upstream_error", "Invalid API Key"),
    _row("mistral validation", MISTRAL, 422,
         {"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs"}]},
         422, INVALID, "bad_request", "top_k: Extra inputs", param="top_k"),
    _row("cohere", "cohere/command-a-03-2025", 404, {"id": "1", "message": "model 'command-r' was removed"},
         404, MISSING, "model_not_found", "was removed", param="model"),
    _row("xai", "xai-chat/any", 400, {"code": "invalid-argument", "error": "Model not found: grok-9"},
         400, INVALID, "invalid-argument", "Model not found: grok-9"),
    _row("xai bad key", "xai-chat/any", 400,
         {"code": "Client specified an invalid argument",
          "error": f"Incorrect API key provided: {SECRET}."},
         502, _UPSTREAM, "upstream_error", "Incorrect API key provided"),
    _row("deepseek serde", "deepseek-chat/any", 400,
         {"error": {"message": "Failed to deserialize the JSON body", "type": INVALID, "param": None,
                    "code": INVALID}},
         400, INVALID, INVALID, "Failed to deserialize the JSON body"),
    _row("deepseek no balance", "deepseek-chat/any", 402,
         {"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": INVALID}},
         402, "billing_error", INVALID, "Insufficient Balance"),
    _row("groq tool", "groq-chat/any", 400,
         {"error": {"message": "Tool call validation failed", "type": INVALID, "code": "tool_use_failed",
                    "failed_generation": "{}"}},
         400, INVALID, "tool_use_failed", "Tool call validation failed"),
    _row("openrouter", "openrouter-chat/any", 400,
         {"error": {"code": 400, "message": "Provider returned error",
                    "metadata": {"provider_name": "X", "raw": '{"error":{"message":"Too long"}}'}},
          "user_id": "user_2abcDEF34567"},
         400, INVALID, "bad_request", "Provider returned error: Too long"),
    _row("perplexity", "perplexity-chat/any", 400,
         {"error": {"message": "The messages are too long.", "type": "too_many_prompt_tokens", "code": 400}},
         400, INVALID, "bad_request", "The messages are too long."),
    _row("ollama", "ollama/qwen3:4b", 404, {"error": "model 'x' not found"},
         404, MISSING, "model_not_found", "model 'x' not found", param="model"),
    _row("ollama at /v1", "ollama-chat/any", 404,
         {"error": {"message": "model 'x' not found", "type": "api_error", "param": None, "code": None}},
         404, MISSING, "not_found", "model 'x' not found"),
    _row("llama.cpp context", "llamacpp-chat/any", 400,
         {"error": {"code": 400, "message": "the request exceeds the available context size",
                    "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096}},
         400, INVALID, "bad_request", "exceeds the available context size"),
    _row("llama.cpp feature", "llamacpp-chat/any", 501,
         {"error": {"code": 501, "message": "This server does not support it.",
                    "type": "not_supported_error"}},
         501, _UPSTREAM, "upstream_error", "This server does not support it."),
    _row("voyage", OPENAI, 400, {"detail": "Model nonexistent is not supported."},
         400, INVALID, "bad_request", "Model nonexistent is not supported."),
    _row("plain text", "huggingface-chat/any", 500, b"Internal: " + SECRET.encode(),
         500, _UPSTREAM, "upstream_error", "status 500"),
    _row("a page", "huggingface-chat/any", 503, b"<html><body><h1>503 Service</h1></body></html>",
         503, _UPSTREAM, "service_unavailable", "status 503"),
]  # fmt: skip
