"""What the load is told and what it tells: one `Job` in, one `Result` out, and the request it sends."""

from __future__ import annotations

import msgspec

__all__ = ["Job", "Result", "encode_request"]

_TEXT = "Describe in two sentences how ravens plan ahead, and name one experiment that shows it."


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to send where, and how much of it."""

    port: int
    key: str
    connections: int
    requests: int = 0
    model: str = "gpt-4o-mini"
    stream: bool = False
    include_usage: bool = False
    events: int = 0
    """Events a sampled stream must have, `[DONE]` included; 0 = do not count."""
    warmup: int = 2
    """Requests per connection before the clock starts."""
    ramp_s: float = 0.0
    """Spread the first requests over this time, so that paced streams do not march in step."""
    hold: bool = False
    limit_s: float = 60.0
    """Give up after this time; what is unfinished then counts as errors."""


class Result(msgspec.Struct, frozen=True):
    """What came back. Latencies are in milliseconds, `first` is the first byte of the body."""

    requests: int
    seconds: float
    rate: float
    p50: float
    p99: float
    first_p50: float
    first_p99: float
    errors: int
    """Connections cut in the middle of a reply, and requests never answered."""
    bad_status: int
    bad_body: int
    alive: int
    """Connections that were in the middle of a reply when a job that holds was told to end."""
    sample: str = ""
    """How the first reply that was not as it should be began."""


def encode_request(job: Job) -> bytes:
    """Write the request as the official Python client writes it, headers included."""
    body: dict[str, object] = {
        "messages": [
            {"role": "system", "content": "You are a careful ornithologist. Answer briefly."},
            {"role": "user", "content": _TEXT},
        ],
        "model": job.model,
        "max_tokens": 128,
        "temperature": 0.7,
    }
    if job.stream:
        body["stream"] = True
    if job.include_usage:
        body["stream_options"] = {"include_usage": True}
    payload = msgspec.json.encode(body)
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        f"host: 127.0.0.1:{job.port}",
        "accept: application/json",
        "accept-encoding: gzip, deflate",
        "connection: keep-alive",
        "content-type: application/json",
        f"authorization: Bearer {job.key}",
        "user-agent: OpenAI/Python 1.84.0",
        "x-stainless-lang: python",
        "x-stainless-package-version: 1.84.0",
        "x-stainless-os: Linux",
        "x-stainless-arch: x64",
        "x-stainless-runtime: CPython",
        "x-stainless-runtime-version: 3.11.7",
        "x-stainless-async: async:asyncio",
        "x-stainless-retry-count: 0",
        "x-stainless-read-timeout: 600",
        f"content-length: {len(payload)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload
