"""The vendors that speak OpenAI's dialects: data only, one row each.

Names are those of `[[upstreams]] provider = "…"`. A base URL is given only where the vendor's
documentation names one for all customers; where it is None, the config has to. Each deviation was
seen in recorded traffic or stands in the vendor's own documentation or issue tracker.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from . import traits
from .traits import ChatTraits

__all__ = ["PRESETS", "Preset"]


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one vendor differs from OpenAI.

    `usage_in_stream`: "asked" sends usage if `stream_options.include_usage` is set, "always" sends it
    unasked, "never" refuses to be asked. `ends_with_done` is False where streams may lack `[DONE]`:
    there a finish reason is the end. `reasoning_apart`: reasoning is missing from `completion_tokens`
    but not from the total. `renames` maps parameter names to the vendor's; `unsupported` are dropped.
    `finish_words` maps the vendor's own finish reasons; None says it has only the standard ones, and
    replies then pass untouched. `endpoints` are paths that differ from OpenAI's. `lacks` names dialects
    that the vendor does not have, though most do: clients that speak them are translated. `serves` names
    those that few have (`_RESPONSES`). `vectors`: "asked" honours `encoding_format`, "float" may not,
    "int8" answers base64 of int8. `takes_purpose`: embeddings may have an `input_type`.
    """

    base_url: str | None = None
    needs_key: bool = True
    usage_in_stream: Literal["asked", "always", "never"] = "asked"
    ends_with_done: bool = True
    reasoning_apart: bool = False
    knows_developer: bool = True
    renames: dict[str, str] = {}
    unsupported: frozenset[str] = frozenset()
    finish_words: dict[str, str] | None = {}
    endpoints: dict[str, str] = {}
    lacks: frozenset[str] = frozenset()
    chat: ChatTraits = ChatTraits()
    vectors: Literal["asked", "float", "int8"] = "float"
    takes_purpose: bool = False
    serves: frozenset[str] = frozenset()


_TEXT = frozenset({"openai.completions"})  # has no text completions
_OLD_LIMIT = {"max_completion_tokens": "max_tokens"}  # knows only the limit's older name
_RESPONSES = frozenset({"openai.responses"})

PRESETS: dict[str, Preset] = {
    "openai": Preset(
        base_url="https://api.openai.com/v1",
        finish_words=None,
        serves=_RESPONSES,
        chat=traits.OPENAI,
        vectors="asked",
    ),
    "alibaba": Preset(
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        knows_developer=False,
        renames=_OLD_LIMIT,
        chat=traits.ALIBABA,
    ),
    "baseten": Preset(base_url="https://inference.baseten.co/v1", chat=traits.OPEN_SERVER),
    "bedrock_mantle": Preset(
        serves=_RESPONSES, lacks=_TEXT, chat=traits.NEW_LIMIT
    ),  # https://bedrock-mantle.REGION.api.aws/v1
    "cerebras": Preset(
        base_url="https://api.cerebras.ai/v1",
        knows_developer=False,
        unsupported=frozenset({"frequency_penalty", "logit_bias", "presence_penalty"}),
        finish_words=None,
        chat=traits.CEREBRAS,
    ),
    "chutes": Preset(base_url="https://llm.chutes.ai/v1", knows_developer=False, chat=traits.OPEN_SERVER),
    "cloudflare": Preset(renames=_OLD_LIMIT),  # https://api.cloudflare.com/client/v4/accounts/ACCOUNT/ai/v1
    "cohere_openai": Preset(
        base_url="https://api.cohere.ai/compatibility/v1",
        renames=_OLD_LIMIT,
        unsupported=frozenset(
            {"audio", "logit_bias", "metadata", "modalities", "n", "parallel_tool_calls", "prediction"}
            | {"service_tier", "store", "top_logprobs"}
        ),
        lacks=_TEXT,
        chat=traits.COHERE_OPENAI,
        takes_purpose=True,
    ),
    "databricks": Preset(serves=_RESPONSES),  # https://WORKSPACE/serving-endpoints
    "deepinfra": Preset(
        base_url="https://api.deepinfra.com/v1/openai", renames=_OLD_LIMIT, chat=traits.OPEN_SERVER
    ),
    "deepseek": Preset(
        base_url="https://api.deepseek.com",
        knows_developer=False,
        renames=_OLD_LIMIT,
        finish_words={"insufficient_system_resource": "error"},
        serves=_RESPONSES,
        lacks=_TEXT,
        chat=traits.DEEPSEEK,
    ),
    "doubleword": Preset(base_url="https://api.doubleword.ai/v1", chat=traits.OPEN_SERVER),
    "fireworks": Preset(
        base_url="https://api.fireworks.ai/inference/v1",
        serves=_RESPONSES,
        chat=traits.FIREWORKS,
    ),
    "friendli": Preset(base_url="https://api.friendli.ai/serverless/v1", chat=traits.OPEN_SERVER),
    "gemini_openai": Preset(
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        reasoning_apart=True,
        lacks=_TEXT,
        chat=traits.GEMINI_OPENAI,
    ),
    "github": Preset(
        base_url="https://models.github.ai/inference",
        finish_words=None,
        lacks=_TEXT,
        chat=traits.GITHUB,
    ),
    "gpustack": Preset(chat=traits.TEMPLATE),
    "groq": Preset(
        base_url="https://api.groq.com/openai/v1",
        unsupported=frozenset({"logit_bias", "logprobs", "top_logprobs"}),
        finish_words=None,
        serves=_RESPONSES,
        lacks=_TEXT,
        chat=traits.GROQ,
    ),
    "huggingface": Preset(
        base_url="https://router.huggingface.co/v1",
        ends_with_done=False,
        renames=_OLD_LIMIT,
        serves=_RESPONSES,
        lacks=_TEXT,
    ),
    "hyperbolic": Preset(
        base_url="https://api.hyperbolic.xyz/v1", renames=_OLD_LIMIT, chat=traits.OPEN_SERVER
    ),
    "inception": Preset(base_url="https://api.inceptionlabs.ai/v1", renames=_OLD_LIMIT),
    "jina": Preset(base_url="https://api.jina.ai/v1", lacks=_TEXT),
    "llamacpp": Preset(
        base_url="http://127.0.0.1:8080/v1",
        needs_key=False,
        renames=_OLD_LIMIT,
        serves=_RESPONSES,
        chat=traits.TEMPLATE,
    ),
    "lmstudio": Preset(
        base_url="http://127.0.0.1:1234/v1",
        needs_key=False,
        renames=_OLD_LIMIT,
        serves=_RESPONSES,
        chat=traits.LMSTUDIO,
    ),
    "mistral": Preset(
        base_url="https://api.mistral.ai/v1",
        usage_in_stream="always",  # and it answers 422 to fields that it does not know
        knows_developer=False,
        renames=_OLD_LIMIT | {"seed": "random_seed", "dimensions": "output_dimension"},
        unsupported=frozenset(
            {"logit_bias", "logprobs", "service_tier", "store", "stream_options", "top_logprobs", "user"}
        ),
        lacks=_TEXT,
        chat=traits.MISTRAL,
    ),
    "mistralrs": Preset(needs_key=False, renames=_OLD_LIMIT, serves=_RESPONSES, chat=traits.TEMPLATE),
    "moonshot": Preset(
        base_url="https://api.moonshot.ai/v1",
        lacks=_TEXT,
        chat=traits.MOONSHOT,
    ),
    "nebius": Preset(base_url="https://api.tokenfactory.nebius.com/v1", chat=traits.OPEN_SERVER),
    "novita": Preset(base_url="https://api.novita.ai/openai/v1", renames=_OLD_LIMIT, chat=traits.OPEN_SERVER),
    "nvidia": Preset(
        base_url="https://integrate.api.nvidia.com/v1",
        renames=_OLD_LIMIT,
        chat=traits.NVIDIA,
    ),
    "ollama": Preset(
        base_url="http://127.0.0.1:11434/v1",
        needs_key=False,
        renames=_OLD_LIMIT,
        serves=_RESPONSES,
        chat=traits.OLLAMA,
    ),
    "ollama_cloud": Preset(
        base_url="https://ollama.com/v1", renames=_OLD_LIMIT, serves=_RESPONSES, chat=traits.OLLAMA
    ),
    "openai_compatible": Preset(needs_key=False),  # whatever else speaks it
    "openrouter": Preset(
        base_url="https://openrouter.ai/api/v1",
        usage_in_stream="always",
        finish_words=None,
        serves=_RESPONSES,
        chat=traits.OPENROUTER,
    ),
    "ovhcloud": Preset(base_url="https://oai.endpoints.kepler.ai.cloud.ovh.net/v1"),
    "perplexity": Preset(
        base_url="https://api.perplexity.ai",
        usage_in_stream="always",
        ends_with_done=False,
        knows_developer=False,
        renames=_OLD_LIMIT,
        endpoints={"embeddings": "v1/embeddings"},
        lacks=_TEXT,
        chat=traits.PERPLEXITY,
        vectors="int8",
    ),
    "sambanova": Preset(base_url="https://api.sambanova.ai/v1", renames=_OLD_LIMIT, chat=traits.SAMBANOVA),
    "scaleway": Preset(base_url="https://api.scaleway.ai/v1", chat=traits.OPEN_SERVER),
    "siliconflow": Preset(
        base_url="https://api.siliconflow.com/v1",
        renames=_OLD_LIMIT,
        chat=traits.SILICONFLOW,
    ),
    "snowflake": Preset(
        lacks=_TEXT, chat=traits.SNOWFLAKE
    ),  # https://ACCOUNT.snowflakecomputing.com/api/v2/cortex/v1
    "tei": Preset(  # Text Embeddings Inference; its rerank stands at the root
        base_url="http://127.0.0.1:8080",
        needs_key=False,
        endpoints={"embeddings": "v1/embeddings"},
        lacks=_TEXT,
    ),
    "together": Preset(
        base_url="https://api.together.xyz/v1",
        renames=_OLD_LIMIT,
        chat=traits.TOGETHER,
    ),
    "upstage": Preset(base_url="https://api.upstage.ai/v1/solar", renames=_OLD_LIMIT),
    "venice": Preset(base_url="https://api.venice.ai/api/v1", chat=traits.OPEN_SERVER),
    "vercel_gateway": Preset(
        base_url="https://ai-gateway.vercel.sh/v1",
        serves=_RESPONSES,
        lacks=_TEXT,
        chat=traits.VERCEL_GATEWAY,
    ),
    "vllm": Preset(
        base_url="http://127.0.0.1:8000/v1", needs_key=False, serves=_RESPONSES, chat=traits.TEMPLATE
    ),
    "voyage": Preset(
        base_url="https://api.voyageai.com/v1",
        renames={"dimensions": "output_dimension"},
        lacks=_TEXT,
        takes_purpose=True,
    ),
    "xai": Preset(
        base_url="https://api.x.ai/v1",
        reasoning_apart=True,
        serves=_RESPONSES,
        chat=traits.XAI,
    ),
    "zai": Preset(
        base_url="https://api.z.ai/api/paas/v4",
        knows_developer=False,
        renames=_OLD_LIMIT,
        finish_words={"sensitive": "content_filter", "network_error": "error"},
        lacks=_TEXT,
        chat=traits.ZAI,
    ),
}
