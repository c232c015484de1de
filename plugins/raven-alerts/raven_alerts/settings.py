"""What `[plugin.alerts]` may hold: rules, and who gets mails. `rules` judges it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from raven_proxy.config import Secret

__all__ = ["Mail", "Measure", "RuleSettings", "Settings", "When"]

When = Literal["budget", "balance", "provider_day"]
Measure = Literal["requests", "tokens", "cost"]
Threshold = int | float | str


class Mail(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`[plugin.alerts.mail]`: the server that takes our mail.

    `security` is "starttls" (port 587), "tls" (port 465) or "none" (port 25, and then without a password
    unless the server is on this machine). `ca_file` is trusted in place of the system's authorities.
    `hello_name` is what we call ourselves; default: this machine's full name.
    """

    host: str
    sender: str
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: Secret | None = None
    ca_file: str | None = None
    hello_name: str | None = None
    send_timeout_s: Annotated[float, Meta(gt=0, le=30)] = 10.0


class RuleSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One `[[plugin.alerts.rules]]`.

    `threshold` is a share of the limit (budget), US dollars as text (balance; measure "cost"), or a whole
    number (measures "requests" and "tokens"). A budget rule without one uses each budget's own
    `alertThreshold`. `stop` pauses the upstream: at the threshold (true), or at a value of its own.
    `upstream` and `organization` are globs; without `organization` a day is counted over all of them, and a
    stop is for everybody. `mail_to` replaces the general one.
    """

    name: str
    when: When
    measure: Measure = "cost"
    threshold: Threshold | None = None
    stop: bool | Threshold = False
    upstream: str = "*"
    organization: str | None = None
    mail_to: tuple[str, ...] | None = None


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`[plugin.alerts]`: `mail_to` is for every rule that names nobody of its own."""

    mail: Mail | None = None
    mail_to: tuple[str, ...] = ()
    rules: tuple[RuleSettings, ...] = ()
