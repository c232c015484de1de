"""What a rule would do with a request, as plugins say it."""

from __future__ import annotations

import msgspec

from raven_proxy import Finding, Forbidden


def test_a_refusal_is_told_as_its_error_would_be() -> None:
    finding = Finding.refusing("hours", Forbidden("Closed.", code="ip_not_allowed"), opens="6:00")
    assert msgspec.to_builtins(finding) == {
        "rule": "hours",
        "verdict": "refuses",
        "reason": "Closed.",
        "status": 403,
        "code": "ip_not_allowed",
        "details": {"opens": "6:00"},
    }
