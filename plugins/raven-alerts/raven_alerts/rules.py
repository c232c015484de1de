"""Rules as they are judged against: thresholds in whole numbers, and who is told.

Nothing here looks at traffic; `watch` does. A rule that makes no sense stops the start with its name and
the remedy.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from raven_proxy import ConfigError

from .settings import Mail, Measure, RuleSettings, Settings, When

__all__ = ["BUDGETS", "NANO", "Rule", "dollars", "read_rules", "show_amounts", "write_amount"]

NANO = 10**9
BUDGETS = "budget-thresholds"
"""The rule that is there without being written: every budget's own `alertThreshold`."""

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")
_DOLLARS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_MAX_NAME = 100


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. `threshold` and `stop` are counts, or nano-dollars; for budgets `share` counts instead.

    `share` is None where each budget says so itself; `stop` is None where nothing is paused.
    """

    name: str
    when: When
    measure: Measure = "cost"
    threshold: int = 0
    share: Decimal | None = None
    stop: int | None = None
    upstream: str = "*"
    organization: str | None = None
    mail_to: tuple[str, ...] = ()

    def covers(self, upstream: str, organization: str | None) -> bool:
        """Say whether it watches a day's counts: of an upstream, for one organisation or (None) for all."""
        if self.when != "provider_day" or not fnmatchcase(upstream, self.upstream):
            return False
        if self.organization is None or organization is None:
            return self.organization is None and organization is None
        return fnmatchcase(organization, self.organization)

    def is_for(self, organization: str) -> bool:
        """Say whether it watches an organisation's budgets, or its balance."""
        return self.organization is None or fnmatchcase(organization, self.organization)


def read_rules(settings: Settings) -> tuple[Rule, ...]:
    """Judge the settings. Raises ConfigError that names the rule and what to write instead."""
    _check_mail(settings.mail)
    rules = [_read_rule(one, settings) for one in settings.rules]
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"rules: the name {name!r} is used twice")
    if not any(rule.when == "budget" and rule.share is None for rule in rules):
        _check_recipients("mail_to", settings.mail_to, settings.mail)
        rules.append(Rule(name=BUDGETS, when="budget", mail_to=settings.mail_to))
    return tuple(rules)


def dollars(nano: int) -> str:
    """Write nano-dollars as a decimal string in US dollars."""
    whole, rest = divmod(abs(nano), NANO)
    text = f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text


def write_amount(measure: Measure, amount: int) -> str:
    """Write an amount with its unit: "12 requests", "$1.5"."""
    return f"${dollars(amount)}" if measure == "cost" else f"{amount:,} {measure}"


def show_amounts(measure: str, **values: int) -> dict[str, Any]:
    """Write amounts as the management API does: dollars as text with integer twins, counts as they are."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= {name: dollars(value), f"{name}Nano": value} if measure == "cost" else {name: value}
    return found


def _read_rule(one: RuleSettings, settings: Settings) -> Rule:
    where = f"rules: {one.name!r}"
    if not one.name or len(one.name) > _MAX_NAME or not one.name.isprintable() or one.name == BUDGETS:
        raise ConfigError(f"{where}: a name has 1 to {_MAX_NAME} printable characters; {BUDGETS!r} is taken")
    mail_to = settings.mail_to if one.mail_to is None else one.mail_to
    _check_recipients(f"{where}: mail_to", mail_to, settings.mail)
    fields: dict[str, Any] = {
        "name": one.name, "when": one.when, "measure": one.measure, "upstream": one.upstream,
        "organization": one.organization, "mail_to": mail_to,
    }  # fmt: skip
    if one.when != "provider_day":
        if one.stop is not False:
            raise ConfigError(
                f"{where}: stop: only provider_day rules pause; who has no money is refused as it is"
            )
        if one.upstream != "*" or one.measure != "cost":
            raise ConfigError(f"{where}: upstream and measure are for provider_day rules")
    if one.when == "budget":
        return Rule(**fields, share=_read_share(one.threshold, where))
    if one.threshold is None:
        raise ConfigError(f"{where}: threshold is missing")
    threshold = _read_amount(one.threshold, one.measure, f"{where}: threshold")
    stop = None if one.stop is False else threshold
    if not isinstance(one.stop, bool):
        stop = _read_amount(one.stop, one.measure, f"{where}: stop")
        if stop < threshold:
            raise ConfigError(f"{where}: stop is below the threshold")
    return Rule(**fields, threshold=threshold, stop=stop)


def _read_share(value: Any, where: str) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, str) or not 0 < value <= 1:
        raise ConfigError(f"{where}: threshold: write a share of the limit, above 0 and up to 1, such as 0.8")
    return Decimal(str(value))


def _read_amount(value: Any, measure: Measure, where: str) -> int:
    if measure != "cost":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{where}: write a whole number of {measure}, 1 or more")
        return value
    try:
        if isinstance(value, float) or not _DOLLARS.fullmatch(str(value)):
            raise ValueError
        nano = int(Decimal(value) * NANO)
        if nano < 1:
            raise ValueError
    except (ValueError, InvalidOperation):
        raise ConfigError(f'{where}: write US dollars as text, such as "12.50"') from None
    return nano


def _check_recipients(where: str, recipients: tuple[str, ...], mail: Mail | None) -> None:
    for address in recipients:
        if not _ADDRESS.fullmatch(address):
            raise ConfigError(f"{where}: {address!r} is not a plain mail address")
    if recipients and mail is None:
        raise ConfigError(f"{where}: there is no [plugin.alerts.mail] to send with")


def _check_mail(mail: Mail | None) -> None:
    if mail is None:
        return
    if not _ADDRESS.fullmatch(mail.sender):
        raise ConfigError(f"mail: sender: {mail.sender!r} is not a plain mail address")
    if (mail.username is None) != (mail.password is None):
        raise ConfigError("mail: username and password belong together")
    if mail.username is not None and mail.security == "none" and mail.host not in {"localhost", "127.0.0.1"}:
        raise ConfigError('mail: a password is not sent in the clear; set security = "starttls" or "tls"')
