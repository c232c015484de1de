"""Asks somebody else: a webhook gets the texts, and says what it thinks of them.

It gets `{"texts", "direction", "requestId", "organizationId", "guardrail"}` and nothing of who asks or with
which key. It answers `{"flagged": true}`, and for a guardrail that redacts `{"flagged": true, "texts": […]}`
with as many texts. Local guardrails have redacted before. `ask` is the one place from which texts leave.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from raven_proxy import GatewayError
from raven_proxy.fetcher import send
from raven_proxy.organizations import Organization

from .charsets import read_latin
from .judging import Rule
from .rules import Direction, Webhook
from .threads import Threads

__all__ = ["Answer", "Asker", "ask"]

_MOST_REPLY = 2**20  # bytes beyond what was sent
_HEADERS = {
    "content-type": "application/json",
    "accept": "application/json",
    "user-agent": "raven-guardrails",
}


class Asker(msgspec.Struct, frozen=True):
    """For whom texts are judged and a webhook is asked, and whether that may be on a private network.

    `threads` are for what takes long. `organization` is what is known of theirs: where its data may go.
    """

    request_id: str
    organization_id: str
    allow_private: bool
    threads: Threads
    organization: Organization | None = None

    def may_ask(self, webhook: Webhook) -> bool:
        """Say whether the organisation's data may go where a webhook is (T62)."""
        return self.organization is None or self.organization.allows(webhook.region)


class Answer(msgspec.Struct, frozen=True):
    """What a webhook says. `texts` are what it would have in the place of those that it got."""

    flagged: bool
    texts: tuple[str, ...] | None = None


async def ask(rule: Rule, texts: Sequence[str], direction: Direction, asker: Asker) -> Answer | None:
    """Ask; None if no answer comes in time, or none that can be understood, or it may not be asked."""
    assert rule.webhook is not None
    if not asker.may_ask(rule.webhook):
        return None
    body = msgspec.json.encode(
        {
            "texts": [read_latin(text) for text in texts],
            "direction": direction,
            "requestId": asker.request_id,
            "organizationId": asker.organization_id,
            "guardrail": rule.name,
        }
    )
    try:
        reply = await send(
            "POST",
            rule.webhook.url,
            headers=_HEADERS,
            body=body,
            max_bytes=len(body) + _MOST_REPLY,
            timeout_s=rule.webhook.timeout_ms / 1000,
            allow_private=asker.allow_private,
        )
        if not 200 <= reply.status < 300:
            return None
        answer = msgspec.json.decode(reply.body, type=Answer)
    except (GatewayError, msgspec.MsgspecError, ValueError, OSError):
        return None
    if answer.texts is not None and len(answer.texts) != len(texts):
        return None
    return answer
