"""Raven Proxy: a plugin-based reverse proxy for LLM traffic.

This is the public API for plugin authors, and nothing else. Start with `hookspecs`, then `gateway`.
"""

from .errors import (
    ConfigError,
    Forbidden,
    GatewayError,
    InvalidRequest,
    NotFound,
    RateLimited,
    Refused,
    Unauthenticated,
    UpstreamError,
    UpstreamRefused,
)
from .exchange import (
    Candidate,
    Credential,
    Exchange,
    Outcome,
    Outgoing,
    Principal,
    Reply,
    ReplyHead,
    Usage,
)
from .faces import Call, Dialect, Face, Stage, read_nothing
from .findings import Finding
from .hookspecs import hookimpl
from .providers import ModelInfo, Provider, Tally, UsageTap

__all__ = [
    "Call",
    "Candidate",
    "ConfigError",
    "Credential",
    "Dialect",
    "Exchange",
    "Face",
    "Finding",
    "Forbidden",
    "GatewayError",
    "InvalidRequest",
    "ModelInfo",
    "NotFound",
    "Outcome",
    "Outgoing",
    "Principal",
    "Provider",
    "RateLimited",
    "Refused",
    "Reply",
    "ReplyHead",
    "Stage",
    "Tally",
    "Unauthenticated",
    "UpstreamError",
    "UpstreamRefused",
    "Usage",
    "UsageTap",
    "hookimpl",
    "read_nothing",
]
