"""What can be told of a model by its id: whose it is, which version, and what it takes.

Ids: `anthropic.claude-haiku-4-5-20251001-v1:0`, with a region's prefix (`us.`, `eu.`, `apac.`, `global.`),
or ARNs. Sources: docs.aws.amazon.com/bedrock (model parameters, structured output, prompt caching).
"""

from __future__ import annotations

import re
from urllib.parse import quote

import msgspec

__all__ = ["Model", "encode_id", "read_model"]

_FAMILY = re.compile(
    r"(?:^|[./:])(?:[a-z-]{2,8}\.)?(anthropic|amazon|meta|mistral|cohere|deepseek|openai|ai21|qwen|writer"
    r"|google|moonshot|moonshotai|minimax|nvidia|zai|twelvelabs|stability)\."
)
_CLAUDE = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:-(\d{1,2}))?(?!\d)")
# Structured output: https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html
_JSON_SCHEMA = re.compile(
    r"qwen3|gpt-oss|deepseek\.v3|gemma-3|minimax-m2|kimi-k2|nemotron|magistral|ministral-3|mistral-large-3"
    r"|voxtral"
)


class Model(msgspec.Struct, frozen=True):
    """A model. `version` is Claude's, as (4, 5); (0, 0) where the name does not tell."""

    id: str
    family: str
    version: tuple[int, int] = (0, 0)

    @property
    def is_claude(self) -> bool:
        """Whether it speaks Anthropic's Messages by InvokeModel."""
        return self.family == "anthropic"

    @property
    def is_nova(self) -> bool:
        """Whether it is one of Amazon's chat models."""
        return "nova" in self.id

    @property
    def takes_json_schema(self) -> bool:
        """Whether Converse's `outputConfig.textFormat`, and strict tools, are known to work."""
        return self.version >= (4, 5) if self.is_claude else _JSON_SCHEMA.search(self.id) is not None

    @property
    def takes_cache_points(self) -> bool:
        """Whether prompts can be cached: others refuse the whole request for a cachePoint."""
        return self.is_claude or self.is_nova

    @property
    def thinks_adaptively(self) -> bool:
        """Whether Claude decides itself how long it thinks, guided by an effort."""
        return self.is_claude and self.version >= (4, 6)

    @property
    def takes_sampling(self) -> bool:
        """Whether temperature, top_p and top_k are taken: Claude's newest models refuse them."""
        return not (self.is_claude and self.version >= (4, 7))

    @property
    def reasoning_format(self) -> str:
        """Whose signatures it takes: Claude's are the same here and at Anthropic's own API."""
        return "anthropic" if self.is_claude else "bedrock"


def read_model(model_id: str, family: str | None = None) -> Model:
    """Read a model id; `family` is believed where the id does not tell."""
    match = _FAMILY.search(model_id)
    found = match[1] if match is not None else "anthropic" if "claude" in model_id else family or ""
    version = (0, 0)
    if found == "anthropic":
        claude = _CLAUDE.search(model_id)
        if claude is not None:
            version = (int(claude[1]), int(claude[2] or 0))
    return Model(model_id, found, version)


def encode_id(model_id: str) -> str:
    """Percent-encode a model id or ARN as one path segment (`:` and `/` too), as AWS's own clients do."""
    return quote(model_id, safe="", errors="replace")
