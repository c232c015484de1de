"""What vendors take in a chat that was written for another dialect: data only.

`presets` has one row for each vendor and points here. Each trait stands in the vendor's documentation, or
was seen in recorded traffic; where nothing is known, the plainest form is sent.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["ChatTraits"]


class ChatTraits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What chats of clients with another dialect are written like; unknown vendors get the plainest form.

    `openai_models`: OpenAI's own models, with its rules for those that think, its custom tools and its
    files. `reasoning` is how thinking is asked for: "effort" (`reasoning_effort`), "reasoning"
    (OpenRouter's object; details go back in), "thinking" (`thinking.type`), "enable_thinking", "template"
    (`chat_template_kwargs`), "none". `efforts` are the words that the vendor knows; `reasoning_models` is
    a pattern of the models that may be asked. `reasoning_field` is where thinking goes back in.
    `images`: "any", "data" (no links) or "no"; `files`: the same, or "document_url". `many`: has `n`.
    `tool_id_length`: ids of calls must be that many letters and digits. `names`: messages may have a
    `name`. `cache_marks`: takes `cache_control`. `knows`: parameters that few but OpenAI know.
    `family`: whose signatures all its models read; else the model's name tells.
    """

    openai_models: bool = False
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    reasoning: Literal["effort", "reasoning", "thinking", "enable_thinking", "template", "none"] = "effort"
    efforts: tuple[str, ...] = ("low", "medium", "high")
    reasoning_models: str = ""
    reasoning_field: Literal["", "reasoning_content", "reasoning"] = ""
    json_schema: bool = True
    json_object: bool = True
    images: Literal["any", "data", "no"] = "any"
    files: Literal["any", "data", "document_url", "no"] = "no"
    audio: bool = False
    modalities: frozenset[str] = frozenset({"text"})
    many: bool = False
    top_k: bool = False
    most_stops: int = 16
    max_temperature: float = 2.0
    tool_choices: frozenset[str] = frozenset({"auto", "none", "required", "named"})
    strict_tools: bool = True
    tool_id_length: int = 0
    names: bool = True
    cache_marks: bool = False
    web_search: bool = False
    knows: frozenset[str] = frozenset()
    family: Literal["", "anthropic", "google", "openai"] = ""


NEW_LIMIT = ChatTraits(limit="max_completion_tokens")
OPEN_SERVER = ChatTraits(many=True, top_k=True)  # what most servers of open models take
TEMPLATE = ChatTraits(
    reasoning="template", reasoning_field="reasoning_content", many=True, top_k=True, audio=True
)
OLLAMA = ChatTraits(
    efforts=("none", "low", "medium", "high"),
    reasoning_models="gpt-oss|qwen3|deepseek|magistral|think|glm|kimi|nemotron",  # others answer 400
    reasoning_field="reasoning",
    images="data",
)
OPENAI = ChatTraits(
    openai_models=True,
    limit="max_completion_tokens",
    efforts=("none", "minimal", "low", "medium", "high", "xhigh"),
    reasoning_models=r"(?:^|/)(?:o\d|gpt-5|gpt-oss|codex)(?!.*-chat)",
    files="data",
    audio=True,
    modalities=frozenset({"text", "audio"}),
    many=True,
    most_stops=4,
    web_search=True,
    knows=frozenset(
        {"audio", "metadata", "prediction", "prompt_cache_key", "safety_identifier", "service_tier", "store"}
        | {"verbosity"}
    ),
)

ALIBABA = ChatTraits(
    reasoning="enable_thinking",
    reasoning_field="reasoning_content",
    many=True,
    top_k=True,
    cache_marks=True,
)
CEREBRAS = ChatTraits(limit="max_completion_tokens", reasoning_models="gpt-oss", images="no", most_stops=4)
COHERE_OPENAI = ChatTraits(efforts=("none", "high"), reasoning_models="reasoning|plus-05", names=False)
DEEPSEEK = ChatTraits(
    reasoning="thinking",
    efforts=("low", "high", "max"),
    reasoning_field="reasoning_content",
    json_schema=False,
    images="no",
)
FIREWORKS = ChatTraits(
    efforts=("none", "low", "medium", "high"),
    reasoning_field="reasoning_content",
    many=True,
    top_k=True,
    most_stops=4,
)
GEMINI_OPENAI = ChatTraits(
    efforts=("none", "minimal", "low", "medium", "high"),
    many=True,
    audio=True,
    most_stops=5,
    family="google",
)
GITHUB = ChatTraits(openai_models=True, reasoning_models=OPENAI.reasoning_models, most_stops=4)
GROQ = ChatTraits(
    limit="max_completion_tokens",
    reasoning_models="gpt-oss",
    reasoning_field="reasoning",
    most_stops=4,
    knows=frozenset({"service_tier"}),
)
LMSTUDIO = ChatTraits(top_k=True, images="data")
MISTRAL = ChatTraits(
    efforts=("none", "high"),
    reasoning_models="mistral-(?:small|medium)",
    files="document_url",
    many=True,
    max_temperature=1.5,
    tool_id_length=9,
    names=False,
    knows=frozenset({"metadata", "prediction"}),
)
MOONSHOT = ChatTraits(
    limit="max_completion_tokens",
    reasoning="thinking",
    efforts=(),
    reasoning_field="reasoning_content",
    json_schema=False,
    images="data",
    many=True,
    max_temperature=1.0,
    tool_choices=frozenset({"auto", "none"}),
    strict_tools=False,
)
NVIDIA = ChatTraits(reasoning="template", efforts=(), top_k=True)
OPENROUTER = ChatTraits(
    reasoning="reasoning",
    reasoning_field="reasoning",
    files="any",
    audio=True,
    modalities=frozenset({"text", "image", "audio"}),
    top_k=True,
    cache_marks=True,
    web_search=True,
    knows=frozenset({"audio", "metadata", "prediction", "service_tier", "verbosity"}),
)
PERPLEXITY = ChatTraits(
    efforts=("minimal", "low", "medium", "high"),
    reasoning_models="reasoning|deep-research",
    json_object=False,
    top_k=True,
    web_search=True,
)
SAMBANOVA = ChatTraits(top_k=True)
SILICONFLOW = ChatTraits(
    reasoning="enable_thinking", reasoning_field="reasoning_content", many=True, top_k=True
)
SNOWFLAKE = ChatTraits(limit="max_completion_tokens", reasoning="reasoning")
TOGETHER = ChatTraits(reasoning_models="gpt-oss", many=True, top_k=True)
VERCEL_GATEWAY = ChatTraits(
    reasoning="reasoning",
    reasoning_field="reasoning",
    files="data",
    modalities=frozenset({"text", "image"}),
)
XAI = ChatTraits(
    efforts=("low", "high"), reasoning_models=r"grok-3-mini|grok-4\.[2-9]", many=True, most_stops=4
)
ZAI = ChatTraits(
    reasoning="thinking",
    efforts=(),
    reasoning_field="reasoning_content",
    json_schema=False,
    most_stops=1,
    max_temperature=1.0,
    tool_choices=frozenset({"auto"}),
    strict_tools=False,
)
