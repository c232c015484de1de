"""The vendors that speak OpenAI's dialects: data only, one row each.

Names are those of `[[upstreams]] provider = "…"`. A base URL is given only where the vendor's
documentation names one for all customers; where it is None, the config has to. Each deviation was
seen in recorded traffic or stands in the vendor's own documentation or issue tracker.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["PRESETS", "Preset"]


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one vendor differs from OpenAI.

    `usage_in_stream`: "asked" sends usage if `stream_options.include_usage` is set, "always" sends it
    unasked, "never" refuses to be asked. `ends_with_done` is False where streams may lack `[DONE]`:
    there a finish reason is the end. `reasoning_apart`: reasoning is missing from `completion_tokens`
    but not from the total. `renames` maps parameter names to the vendor's; `unsupported` are dropped.
    `finish_words` maps the vendor's own finish reasons; None says it has only the standard ones, and
    replies then pass untouched. `endpoints` are paths that differ from OpenAI's.
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


_OLD_LIMIT = {"max_completion_tokens": "max_tokens"}  # knows only the limit's older name

PRESETS: dict[str, Preset] = {
    "openai": Preset(base_url="https://api.openai.com/v1", finish_words=None),
    "alibaba": Preset(
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        knows_developer=False,
        renames=_OLD_LIMIT,
    ),
    "baseten": Preset(base_url="https://inference.baseten.co/v1"),
    "bedrock_mantle": Preset(),  # https://bedrock-mantle.REGION.api.aws/v1
    "cerebras": Preset(
        base_url="https://api.cerebras.ai/v1",
        knows_developer=False,
        unsupported=frozenset({"frequency_penalty", "logit_bias", "presence_penalty"}),
        finish_words=None,
    ),
    "chutes": Preset(base_url="https://llm.chutes.ai/v1", knows_developer=False),
    "cloudflare": Preset(renames=_OLD_LIMIT),  # https://api.cloudflare.com/client/v4/accounts/ACCOUNT/ai/v1
    "cohere_openai": Preset(
        base_url="https://api.cohere.ai/compatibility/v1",
        renames=_OLD_LIMIT,
        unsupported=frozenset(
            {"audio", "logit_bias", "metadata", "modalities", "n", "parallel_tool_calls", "prediction"}
            | {"service_tier", "store", "top_logprobs"}
        ),
    ),
    "databricks": Preset(),  # https://WORKSPACE/serving-endpoints
    "deepinfra": Preset(base_url="https://api.deepinfra.com/v1/openai", renames=_OLD_LIMIT),
    "deepseek": Preset(
        base_url="https://api.deepseek.com",
        knows_developer=False,
        renames=_OLD_LIMIT,
        finish_words={"insufficient_system_resource": "error"},
    ),
    "doubleword": Preset(base_url="https://api.doubleword.ai/v1"),
    "fireworks": Preset(base_url="https://api.fireworks.ai/inference/v1"),
    "friendli": Preset(base_url="https://api.friendli.ai/serverless/v1"),
    "gemini_openai": Preset(
        base_url="https://generativelanguage.googleapis.com/v1beta/openai", reasoning_apart=True
    ),
    "github": Preset(base_url="https://models.github.ai/inference", finish_words=None),
    "gpustack": Preset(),
    "groq": Preset(
        base_url="https://api.groq.com/openai/v1",
        unsupported=frozenset({"logit_bias", "logprobs", "top_logprobs"}),
        finish_words=None,
    ),
    "huggingface": Preset(
        base_url="https://router.huggingface.co/v1", ends_with_done=False, renames=_OLD_LIMIT
    ),
    "hyperbolic": Preset(base_url="https://api.hyperbolic.xyz/v1", renames=_OLD_LIMIT),
    "inception": Preset(base_url="https://api.inceptionlabs.ai/v1", renames=_OLD_LIMIT),
    "llamacpp": Preset(base_url="http://127.0.0.1:8080/v1", needs_key=False, renames=_OLD_LIMIT),
    "lmstudio": Preset(base_url="http://127.0.0.1:1234/v1", needs_key=False, renames=_OLD_LIMIT),
    "mistral": Preset(
        base_url="https://api.mistral.ai/v1",
        usage_in_stream="always",  # and it answers 422 to fields that it does not know
        knows_developer=False,
        renames=_OLD_LIMIT | {"seed": "random_seed"},
        unsupported=frozenset({"logit_bias", "service_tier", "store", "stream_options", "user"}),
    ),
    "mistralrs": Preset(needs_key=False, renames=_OLD_LIMIT),
    "moonshot": Preset(base_url="https://api.moonshot.ai/v1"),
    "nebius": Preset(base_url="https://api.tokenfactory.nebius.com/v1"),
    "novita": Preset(base_url="https://api.novita.ai/openai/v1", renames=_OLD_LIMIT),
    "nvidia": Preset(base_url="https://integrate.api.nvidia.com/v1", renames=_OLD_LIMIT),
    "ollama": Preset(base_url="http://127.0.0.1:11434/v1", needs_key=False, renames=_OLD_LIMIT),
    "ollama_cloud": Preset(base_url="https://ollama.com/v1", renames=_OLD_LIMIT),
    "openai_compatible": Preset(needs_key=False),  # whatever else speaks it
    "openrouter": Preset(
        base_url="https://openrouter.ai/api/v1", usage_in_stream="always", finish_words=None
    ),
    "ovhcloud": Preset(base_url="https://oai.endpoints.kepler.ai.cloud.ovh.net/v1"),
    "perplexity": Preset(
        base_url="https://api.perplexity.ai",
        usage_in_stream="always",
        ends_with_done=False,
        knows_developer=False,
        renames=_OLD_LIMIT,
        endpoints={"embeddings": "v1/embeddings"},
    ),
    "sambanova": Preset(base_url="https://api.sambanova.ai/v1", renames=_OLD_LIMIT),
    "scaleway": Preset(base_url="https://api.scaleway.ai/v1"),
    "siliconflow": Preset(base_url="https://api.siliconflow.com/v1", renames=_OLD_LIMIT),
    "snowflake": Preset(),  # https://ACCOUNT.snowflakecomputing.com/api/v2/cortex/v1
    "together": Preset(base_url="https://api.together.xyz/v1", renames=_OLD_LIMIT),
    "upstage": Preset(base_url="https://api.upstage.ai/v1/solar", renames=_OLD_LIMIT),
    "venice": Preset(base_url="https://api.venice.ai/api/v1"),
    "vercel_gateway": Preset(base_url="https://ai-gateway.vercel.sh/v1"),
    "vllm": Preset(base_url="http://127.0.0.1:8000/v1", needs_key=False),
    "voyage": Preset(base_url="https://api.voyageai.com/v1"),
    "xai": Preset(base_url="https://api.x.ai/v1", reasoning_apart=True),
    "zai": Preset(
        base_url="https://api.z.ai/api/paas/v4",
        knows_developer=False,
        renames=_OLD_LIMIT,
        finish_words={"sensitive": "content_filter", "network_error": "error"},
    ),
}
