"""The vendors that serve Anthropic's Messages: data only, one row each.

Names are those of `[[upstreams]] provider = "…"`. A base URL ends where Anthropic's own does, before
`/messages`, and is given only where the vendor's documentation names one for all customers.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["PRESETS", "Preset"]


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one vendor differs from Anthropic.

    `auth` is the header its documentation gives for the key. `counts_tokens` says that it serves
    `/messages/count_tokens`. `signs_thinking` is False where thinking has no signature that counts: it
    goes back without one then, as these vendors ask for. `lists_models` says that it serves `/models`.
    """

    base_url: str | None = None
    needs_key: bool = True
    auth: Literal["x-api-key", "bearer"] = "x-api-key"
    counts_tokens: bool = False
    signs_thinking: bool = False
    lists_models: bool = False


PRESETS: dict[str, Preset] = {
    "anthropic": Preset(
        base_url="https://api.anthropic.com/v1", counts_tokens=True, signs_thinking=True, lists_models=True
    ),
    # https://dashscope-intl.aliyuncs.com: Model Studio, "Anthropic API compatibility"
    "alibaba_anthropic": Preset(base_url="https://dashscope-intl.aliyuncs.com/apps/anthropic/v1"),
    # https://RESOURCE.services.ai.azure.com/anthropic/v1
    "azure_anthropic": Preset(signs_thinking=True, counts_tokens=True),
    # https://bedrock-mantle.REGION.api.aws/anthropic/v1
    "bedrock_mantle_anthropic": Preset(signs_thinking=True),
    # https://api-docs.deepseek.com/guides/anthropic_api
    "deepseek_anthropic": Preset(base_url="https://api.deepseek.com/anthropic/v1"),
    # llama.cpp, tools/server/README.md
    "llamacpp_anthropic": Preset(
        lists_models=True, base_url="http://127.0.0.1:8080/v1", needs_key=False, counts_tokens=True
    ),
    "lmstudio_anthropic": Preset(lists_models=True, base_url="http://127.0.0.1:1234/v1", needs_key=False),
    # https://platform.minimax.io/docs/api-reference/text-anthropic-api
    "minimax_anthropic": Preset(base_url="https://api.minimax.io/anthropic/v1"),
    "moonshot_anthropic": Preset(base_url="https://api.moonshot.ai/anthropic/v1", auth="bearer"),
    # https://docs.ollama.com/api/anthropic-compatibility
    "ollama_anthropic": Preset(
        lists_models=True, base_url="http://127.0.0.1:11434/v1", needs_key=False, auth="bearer"
    ),
    "ollama_cloud_anthropic": Preset(lists_models=True, base_url="https://ollama.com/v1", auth="bearer"),
    # https://openrouter.ai/docs/api/api-reference/anthropic-messages
    "openrouter_anthropic": Preset(
        lists_models=True, base_url="https://openrouter.ai/api/v1", auth="bearer", signs_thinking=True
    ),
    # https://vercel.com/docs/ai-gateway, "Anthropic-compatible API"
    "vercel_anthropic": Preset(
        lists_models=True, base_url="https://ai-gateway.vercel.sh/v1", auth="bearer", signs_thinking=True
    ),
    "vllm_anthropic": Preset(lists_models=True, needs_key=False, auth="bearer"),
    # https://docs.z.ai: "Claude Code"
    "zai_anthropic": Preset(base_url="https://api.z.ai/api/anthropic/v1", auth="bearer"),
    "anthropic_compatible": Preset(needs_key=False),
}
