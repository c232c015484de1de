"""Bringing an alert to its readers by mail: three tries with growing pauses, each written down.

Nothing here is waited for by a request. What we could not finish before we had to leave is taken over by
whoever looks next (`adopt`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence

import aiosmtplib
import structlog

from raven_proxy import ConfigError
from raven_proxy.tasks import Tasks

from .messages import write_mail
from .register import Alert, Destination, Register
from .rules import Rule
from .settings import Mail

__all__ = ["Courier", "DeliveryFailed", "Postbox"]

_log = structlog.get_logger("raven_alerts.deliveries")
_PAUSES_S = (2.0, 15.0)  # after the first and the second try
_AT_ONCE = 8
_MAX_UNDER_WAY = 1000


class DeliveryFailed(Exception):
    """A try failed; the message may be shown: it holds nothing that the other side said."""


class Postbox:
    """A mail server that takes our mail."""

    def __init__(self, mail: Mail) -> None:
        self._mail = mail
        self._password = mail.password.reveal() if mail.password is not None else None
        self._tls: ssl.SSLContext | None = None
        if mail.security != "none":
            try:
                self._tls = ssl.create_default_context(cafile=mail.ca_file)
            except OSError as error:
                raise ConfigError(f"mail: ca_file: {error.strerror or error}") from error

    async def deliver(self, alert: Alert, recipients: Sequence[str]) -> None:
        """Send one mail to all recipients. Raises DeliveryFailed."""
        mail = self._mail
        message = write_mail(alert, mail.sender, tuple(recipients))
        try:
            async with asyncio.timeout(mail.send_timeout_s):
                refused, _ = await aiosmtplib.send(
                    message,
                    sender=mail.sender,
                    recipients=list(recipients),
                    hostname=mail.host,
                    port=mail.port,
                    username=mail.username,
                    password=self._password,
                    use_tls=mail.security == "tls",
                    start_tls=mail.security == "starttls",
                    tls_context=self._tls,
                    local_hostname=mail.hello_name,
                    timeout=mail.send_timeout_s,
                )
        except aiosmtplib.SMTPResponseException as error:
            raise DeliveryFailed(f"the mail server answered {error.code}") from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            raise DeliveryFailed(f"the mail server did not take it ({type(error).__name__})") from None
        if refused:  # some got it: another try would be their second mail
            _log.warning("the mail server refused some recipients", refused=len(refused))


class Courier:
    """Delivers the alerts of one process in the background, a few at a time."""

    def __init__(self, register: Register, rules: Sequence[Rule], postbox: Postbox | None) -> None:
        self._register = register
        self._rules: Mapping[str, Rule] = {rule.name: rule for rule in rules}
        self._postbox = postbox
        self._tasks = Tasks()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._under_way: set[str] = set()

    def destinations(self, rule: Rule) -> list[Destination]:
        """List where a rule's alerts go."""
        return [Destination("mail", ", ".join(rule.mail_to))] if rule.mail_to else []

    def dispatch(self, alert: Alert, destination: Destination, delivery: str, tries: int = 0) -> None:
        """Begin a delivery. Those that are too many now are left to `adopt`."""
        if len(self._under_way) >= _MAX_UNDER_WAY:
            return
        self._under_way.add(delivery)
        self._tasks.launch(self._deliver(alert, destination, delivery, tries), "alert-delivery")

    async def adopt(self) -> None:
        """Take over what others left behind."""
        for row in await self._register.adopt():
            alert = await self._register.get(row["alert_id"])
            if alert is not None and row["id"] not in self._under_way:
                destination = Destination(row["channel"], row["destination"])
                self.dispatch(alert, destination, row["id"], row["tries"])

    async def close(self) -> None:
        """Stop; what is not delivered is somebody else's from now on."""
        await self._tasks.settle(0.5)
        for delivery in self._under_way:
            await self._register.release(delivery)

    async def _deliver(self, alert: Alert, destination: Destination, delivery: str, tries: int) -> None:
        try:
            await self._try_often(alert, destination, delivery, tries)
        except Exception as error:  # its row says when somebody may take it over: we, too
            _log.error("a delivery could not be written down", alert=alert.id, reason=str(error))
        self._under_way.discard(delivery)

    async def _try_often(self, alert: Alert, destination: Destination, delivery: str, tries: int) -> None:
        state = "pending"
        while state == "pending":
            async with self._slots:
                error = await self._try(alert, destination)
            tries += 1
            if error is None:
                state = "sent"
            elif tries > len(_PAUSES_S):
                state = "failed"
            await self._register.note_try(delivery, tries, state, error)
            if error is not None:
                _log.warning(
                    "alert not delivered",
                    alert=alert.id, channel=destination.channel, to=destination.shown,
                    tries=tries, state=state, reason=error,
                )  # fmt: skip
            if state == "pending":
                await asyncio.sleep(_PAUSES_S[tries - 1])

    async def _try(self, alert: Alert, destination: Destination) -> str | None:
        rule = self._rules.get(alert.rule)
        try:
            if rule is None:
                return "its rule is not configured any more"
            if destination.channel == "mail" and self._postbox is not None and rule.mail_to:
                await self._postbox.deliver(alert, rule.mail_to)
            else:
                return "its destination is not configured any more"
        except DeliveryFailed as error:
            return str(error)
        except Exception as error:
            _log.error("a delivery broke", exc_info=error)
            return type(error).__name__
        return None
