"""How an alert reads: one line for people, plain text for mail, an event for other plugins.

Names come from configuration, from management calls and from keys: control characters are taken out, so
that no name can begin a line or a header of its own. No secret is among what is read here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from raven_proxy.events import Event

from .register import Alert

__all__ = ["clean", "iso", "write_event", "write_mail"]

_TYPES = {
    ("budget", "threshold"): "budget.threshold",
    ("balance", "threshold"): "balance.low",
    ("provider_day", "threshold"): "provider.threshold",
    ("provider_day", "stop"): "provider.paused",
}
_MAX_SUBJECT = 68  # longer ones are folded, which some readers show as a gap


def clean(text: str, limit: int = 200) -> str:
    """Make one short printable line of a name."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def write_event(alert: Alert) -> Event:
    """Make the event that other plugins hear; processes that saw the same alert name it alike."""
    told = {"alertId": alert.id, "rule": alert.rule, "day": alert.day, "message": alert.message}
    return Event(
        id=f"evt_{alert.id.removeprefix('alert_')}",
        type=_TYPES[alert.details["when"], alert.level],
        organization_id=alert.organization_id,
        data={**told, **alert.details},
        at=alert.created_at,
    )


def write_mail(alert: Alert, sender: str, recipients: list[str] | tuple[str, ...]) -> EmailMessage:
    """Write a plain text mail. Its Message-ID is the alert's, so that a second try is the same mail."""
    word = "paused" if alert.level == "stop" else "alert"
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = clean(f"[Raven] {word}: {alert.rule} ({alert.subject})", _MAX_SUBJECT)
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Date"] = format_datetime(datetime.fromtimestamp(alert.created_at, UTC))
    mail["Message-ID"] = f"<{alert.id}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence note answers it
    lines = [alert.message, "", f"Rule: {clean(alert.rule)}", f"Time: {iso(alert.created_at)}"]
    for name, value in alert.details.items():
        if isinstance(value, str | int) and not name.endswith("Nano"):
            lines.append(f"{name[0].upper()}{name[1:]}: {clean(str(value))}")
    lines += ["", "You get one mail a day for each rule and subject. GET /alerts shows all of them."]
    mail.set_content("\n".join(lines) + "\n")
    return mail


def iso(seconds: int) -> str:
    """Write Unix seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
