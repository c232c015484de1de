"""The hub's request for a chat: what any client can ask of any model.

OpenAI's chat completions with the extensions that other dialects need. Vendor packages read their
clients' requests into it and write their vendors' requests from it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .parts import CacheMark, Message

__all__ = ["ChatRequest", "Effort", "OutputFormat", "Thinking", "Tool", "ToolChoice"]

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Tool(msgspec.Struct, kw_only=True):
    """A function that the model may call. `schema` is the JSON schema of its arguments; never empty.

    `strict` is None where the client did not say. `custom` tools take free text (`grammar` may bind it).
    """

    name: str
    description: str | None = None
    schema: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None
    custom: bool = False
    grammar: dict[str, Any] | None = None
    cache: CacheMark | None = None


class ToolChoice(msgspec.Struct, kw_only=True):
    """Which tools the model may or must call; with "named" exactly those in `names`."""

    mode: Literal["auto", "none", "required", "named"]
    names: list[str] = []


class OutputFormat(msgspec.Struct, kw_only=True):
    """The shape of the answer: any JSON object, or one that matches `schema`."""

    mode: Literal["json_object", "json_schema"]
    name: str = "response"
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class Thinking(msgspec.Struct, kw_only=True):
    """How much the model should think. Only what the client said is set.

    `enabled` False turns it off. `budget_tokens` is a bound. `adaptive` leaves it to the model.
    `summary` asks for visible thinking ("auto", "concise", "detailed"), `include` for thoughts as such.
    """

    enabled: bool | None = None
    effort: Effort | None = None
    budget_tokens: int | None = None
    adaptive: bool = False
    summary: str | None = None
    include: bool | None = None


class ChatRequest(msgspec.Struct, kw_only=True):
    """A chat. Fields that the client left out are None.

    `model` is the upstream's name for it. `max_tokens` bounds the answer with its thinking.
    `extra` are parameters that the hub does not know, by the client's names: only a vendor of the
    same dialect family may send them on. `dropped` names what was lost so far, in the client's words.
    """

    model: str
    messages: list[Message]
    stream: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] = []
    n: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] = []
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output_format: OutputFormat | None = None
    thinking: Thinking | None = None
    verbosity: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    store: bool | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search: dict[str, Any] | None = None
    server_tools: list[dict[str, Any]] = []  # tools that only the client's own vendor has, as it wrote them
    extra: dict[str, Any] = {}
    family: str = ""  # the client's dialect ("openai.chat", "anthropic.messages", …), for `extra`
    names: dict[str, str] = {}  # hub field → the client's name for it, where they differ
    dropped: list[str] = []

    def drop(self, field: str) -> None:
        """Note that the vendor cannot be told `field` (a field of this Struct, or the client's word)."""
        name = self.names.get(field, field)
        if name not in self.dropped:
            self.dropped.append(name)

    def drop_if_set(self, *fields: str) -> None:
        """Note each of `fields` that the client set."""
        for field in fields:
            if getattr(self, field) not in (None, [], {}, False):
                self.drop(field)
