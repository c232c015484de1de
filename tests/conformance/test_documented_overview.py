"""What is on, what may be called at what price, and what was used (contract section 8: Raven API)."""

from __future__ import annotations

import re

import msgspec

from raven_proxy.harness import RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import VendorStarter
from .documented import CHAT, Case, cases, check, fits

AMOUNT = re.compile(r"^\d+(\.\d+)?$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:00:00Z$")
FIGURES = {
    "requests": 1, "errors": 0, "promptTokens": 9, "completionTokens": 3, "cost": AMOUNT, "costNano": int,
    "latencyMs": {"p50": float, "p95": float},
}  # fmt: skip
ANSWER = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}  # fmt: skip


@cases(
    Case(mark="R", what="an unknown interval names its field", method="GET", path="/analytics?interval=year",
         status=400, reply={"error": {"type": "validation_error", "param": "interval"}}, calls=0),
    Case(mark="R", what="too many points name their field", method="GET", path="/analytics?from=1900-01-01",
         status=400, reply={"error": {"type": "validation_error", "param": "from"}}, calls=0),
    Case(mark="R", what="a bad limit of models names it", method="GET", path="/models?limit=0",
         status=400, reply={"error": {"type": "validation_error", "param": "limit"}}, calls=0),
    Case(mark="R", what="a bad cursor of plugins names it", method="GET", path="/plugins?after=none",
         status=400, reply={"error": {"type": "validation_error", "param": "after"}}, calls=0),
)  # fmt: skip
async def test_a_bad_question(case: Case, documented: VendorStarter, upstream: MockUpstream) -> None:
    await check(case, await documented(), upstream)


async def test_R_what_was_used_is_shown(documented: VendorStarter, upstream: MockUpstream) -> None:
    """`/plugins`, `/models` and `/analytics` after one request, in camelCase, with amounts as text."""
    gateway: RunningGateway = await documented()
    upstream.script(ScriptedReply.of_json(ANSWER))
    async with gateway.client.post("/v1/chat/completions", json=CHAT) as reply:
        assert reply.status == 200
    shown = {}
    for path in ("/plugins", "/models", "/analytics?groupBy=model"):
        async with gateway.client.get(path) as reply:
            assert reply.status == 200
            shown[path] = msgspec.json.decode(await reply.read())
    plugins, models, used = shown.values()
    [meter] = [one for one in plugins if one["name"] == "meter"]
    fits({"version": str, "source": "raven-meter", "hooks": list, "faces": list, "providers": []}, meter)
    assert meter["resources"] == ["budgets", "logs"]
    [fast] = [one for one in models if one["id"] == "fast"]
    fits(
        {
            "provider": "openai", "upstream": "openai-main", "contextWindow": 128000, "maxOutputTokens": ...,
            "prices": {"input": AMOUNT, "output": AMOUNT}, "multiplier": "1", "source": "catalog",
        },
        fast,
    )  # fmt: skip
    group = {"group": "gpt-4o", "isRest": False, **FIGURES}
    fits({"interval": "hour", "groupBy": "model", "totals": FIGURES, "groups": [group]}, used)
    fits([{"time": TIME, **group}], used["series"])
    assert used["totals"]["costNano"] == 9 * 2500 + 3 * 10_000
