"""Mails and events: a real server, three tries, nothing forged, nothing told that is secret."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from raven_alerts.messages import clean, write_mail
from raven_alerts.register import Alert, Register

from raven_proxy.events import Event
from raven_proxy.harness import ADMIN_KEY

from .conftest import PASSWORD, MailServer

ONE = {"name": "one", "when": "provider_day", "measure": "requests", "threshold": 1}
NASTY = "x\r\nBcc: thief@example.com\r\n\r\n<img src=x onerror=alert(1)>\u202e\u2028\x00" + "y" * 500


def alert(**fields: Any) -> Alert:
    return Alert(
        id="alert_1", rule="r", subject="mock", day="2025-01-15", level="threshold", created_at=1_736_935_200,
        message="mock has come to 1 requests today.", **fields,
    )  # fmt: skip


async def delivered(desk: Any, state: str) -> Any:
    def is_so(shown: Any) -> bool:
        return any(one["state"] == state for row in shown["alerts"] for one in row["deliveries"])

    [row] = (await desk.until(is_so))["alerts"]
    return row["deliveries"]


def plugin_of(desk: Any) -> Any:
    plugins = desk.gateway.gateway.pipeline.plugins
    return next(plugin.instance for plugin in plugins if plugin.name == "alerts")


# -- mail -----------------------------------------------------------------------------


async def test_a_mail_is_plain_and_from_a_machine(office: Any, mailbox: Any) -> None:
    """Text only, a stable Message-ID, marked as automatic, to those that the config names."""
    desk = await office([ONE | {"mail_to": ["a@example.com", "b@example.com"]}], mailbox=mailbox)
    await desk.chat()
    await delivered(desk, "sent")
    [mail], [envelope] = mailbox.mails, mailbox.envelopes
    assert mail.get_content_type() == "text/plain"
    assert (mail["From"], mail["To"]) == ("raven@example.com", "a@example.com, b@example.com")
    assert (mail["Auto-Submitted"], mail["Subject"]) == ("auto-generated", "[Raven] alert: one (mock)")
    [shown] = (await desk.shown())["alerts"]
    assert mail["Message-ID"] == f"<{shown['id']}@example.com>"
    assert envelope.mail_from == "raven@example.com"
    assert envelope.rcpt_tos == ["a@example.com", "b@example.com"]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path = tmp_path / "mail.pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return path, context


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_password_goes_over_tls_only(office: Any, certificate: Any, security: str) -> None:
    """The certificate is checked, the password is accepted, and the mail arrives."""
    path, context = certificate
    async with MailServer(tls=context, implicit=security == "tls", auth=True) as server:
        mail = {
            "host": "localhost", "port": server.port, "security": security, "sender": "raven@example.com",
            "username": "raven", "password": {"env": "SMTP_PASSWORD"}, "ca_file": str(path),
            "hello_name": "raven.test",
        }  # fmt: skip
        desk = await office([ONE], mail=mail, mail_to=["ops@example.com"])
        await desk.chat()
        await delivered(desk, "sent")
        assert server.sessions[0].authenticated
        assert len(server.mails) == 1


async def test_a_certificate_of_nobody_is_refused(office: Any, certificate: Any) -> None:
    """No mail, no password: after three tries it is failed."""
    async with MailServer(tls=certificate[1]) as server:
        mail = {"host": "localhost", "port": server.port, "sender": "raven@example.com", "hello_name": "a.b"}
        desk = await office([ONE], mail=mail, mail_to=["ops@example.com"])
        await desk.chat()
        [delivery] = await delivered(desk, "failed")
        assert (delivery["tries"], server.mails) == (3, [])


@pytest.mark.parametrize(("refusals", "state", "tries"), [(2, "sent", 3), (9, "failed", 3)])
async def test_a_mail_is_tried_three_times(
    office: Any, mailbox: Any, refusals: int, state: str, tries: int
) -> None:
    """With pauses; what the server says beyond its code is not shown; requests notice nothing."""
    mailbox.refusing = [f"451 come back later, {PASSWORD}"] * refusals
    desk = await office([ONE], mailbox=mailbox)
    assert (await desk.chat())[0] == 200
    assert (await desk.chat())[0] == 200
    [delivery] = await delivered(desk, state)
    assert (delivery["channel"], delivery["destination"]) == ("mail", "ops@example.com")
    assert delivery["tries"] == tries
    assert PASSWORD not in str(delivery)
    assert len(mailbox.mails) == (1 if state == "sent" else 0)
    assert refusals - len(mailbox.refusing) == min(refusals, 3)


async def test_a_server_that_is_not_there_harms_nobody(office: Any, mailbox: Any, upstream: Any) -> None:
    desk = await office([ONE], mailbox=mailbox)
    mailbox._server.close()
    for _ in range(3):
        assert (await desk.chat())[0] == 200
    [delivery] = await delivered(desk, "failed")
    assert delivery["error"].startswith("the mail server did not take it")


def test_a_name_cannot_forge_a_header_or_a_line() -> None:
    """CR, LF and other control characters in names end up as spaces; the mail has the lines that we wrote."""
    forged = alert(details={"budget": NASTY})
    forged = msgspec.structs.replace(forged, rule=NASTY, subject=NASTY, message=clean(NASTY, 500))
    data = write_mail(forged, "raven@example.com", ["ops@example.com"]).as_bytes()
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"\nbcc" not in head.lower()
    assert [line for line in body.split(b"\r\n") if line.lower().startswith((b"bcc", b"<img"))] == []
    assert len(head.split(b"\r\n")) <= 12
    assert not set(clean(NASTY)) & set("\r\n\u2028\u202e\x00")
    assert len(clean(NASTY)) == 200


async def test_a_budgets_name_cannot_forge_anything(office: Any, mailbox: Any, heard: list[Event]) -> None:
    """Through the management call, up to the mail server: one recipient, and an inert text."""
    desk = await office(mailbox=mailbox)
    budget = {"name": NASTY[:150], "limit": "0.02", "alertThreshold": 1.0}
    assert (await desk.ask("POST", "/budgets", budget | {"limit": "1"}))[0] == 201
    _, [made] = await desk.ask("GET", "/budgets")
    await desk.chat()
    await desk.ask("PATCH", f"/budgets/{made['id']}", {"limit": "0.02"})
    await delivered(desk, "sent")
    await desk.until(lambda shown: mailbox.mails and heard)
    [mail], [envelope] = mailbox.mails, mailbox.envelopes
    assert envelope.rcpt_tos == ["ops@example.com"]
    assert (mail["Bcc"], mail.get_content_type()) == (None, "text/plain")
    assert "Bcc: thief" in mail.get_content()
    assert not any(line.startswith("Bcc") for line in mail.get_content().splitlines())
    assert not any("\r" in str(event.data.get(name)) for event in heard for name in ("message", "budget"))


# -- events ---------------------------------------------------------------------------


async def test_what_fires_is_published(office: Any, heard: list[Event]) -> None:
    """Once, under a name of its own, for webhooks and whoever else listens; nothing secret is in it."""
    desk = await office([ONE | {"stop": True}])
    await desk.chat()
    await desk.until(lambda shown: shown["paused"])
    await desk.until(lambda shown: heard)
    [row] = (await desk.shown())["alerts"]
    [event] = heard
    assert (event.type, event.organization_id) == ("provider.paused", None)
    assert event.id == "evt_" + row["id"].removeprefix("alert_")
    told = {name: event.data[name] for name in ("alertId", "rule", "upstream", "value", "paused")}
    assert told == {"alertId": row["id"], "rule": "one", "upstream": "mock", "value": 1, "paused": True}
    assert (await desk.ask("DELETE", "/alerts/paused/mock"))[0] == 200
    await desk.until(lambda shown: len(heard) == 2)
    assert (heard[1].type, heard[1].data["upstream"]) == ("provider.reactivated", "mock")


async def test_a_budget_that_is_used_up_is_published(office: Any, heard: list[Event]) -> None:
    """With and without a threshold of its own; once a day, whoever sees it."""
    desk = await office()
    for fields in ({"name": "a"}, {"name": "b", "alertThreshold": 0.5}):
        assert (await desk.ask("POST", "/budgets", {"limit": "1", "period": "daily", **fields}))[0] == 201
    assert (await desk.chat())[0] == 200
    budgets = (await desk.ask("GET", "/budgets"))[1]
    for limit, count in (("0.03", 1), ("0.02", 3)):
        for one in budgets:
            await desk.ask("PATCH", f"/budgets/{one['id']}", {"limit": limit})
        await desk.until(lambda shown, count=count: len(heard) >= count)
        assert heard[0].type == "budget.threshold"
    await asyncio.sleep(0.3)
    exceeded = {event.id: event for event in heard if event.type == "budget.exceeded"}
    assert len(exceeded) == len(heard) - 1 == 2
    assert {event.data["budget"] for event in exceeded.values()} == {"a", "b"}
    assert {event.organization_id for event in exceeded.values()} == {"org_default"}


async def test_a_low_balance_is_published(office: Any, heard: list[Event]) -> None:
    desk = await office([{"name": "low", "when": "balance", "threshold": "0.99"}])
    assert (await desk.ask("POST", "/credits/grants", {"amount": "1"}))[0] == 201
    await desk.chat()
    await desk.until(lambda shown: heard)
    assert [(event.type, event.data["value"]) for event in heard] == [("balance.low", "0.98")]


async def test_what_was_left_undone_is_taken_over(
    office: Any, mailbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that leaves between two tries leaves the delivery to the next one: one mail in all."""
    monkeypatch.setattr("raven_alerts.deliveries._PAUSES_S", (30.0, 30.0))
    mailbox.refusing = ["451 come back later"]
    data = {"data_dir": str(tmp_path / "shared")}
    first = await office([ONE], mailbox=mailbox, config=data)
    await first.chat()
    await first.until(lambda s: s["alerts"][0]["deliveries"][0]["tries"] == 1)
    await plugin_of(first).shutdown()
    second = await office([ONE], mailbox=mailbox, config=data)
    [delivery] = await delivered(second, "sent")
    assert delivery["tries"] == 2
    await asyncio.sleep(0.2)
    assert len(mailbox.mails) == 1


async def test_a_database_that_is_down_stops_no_stop(
    office: Any, mailbox: Any, upstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written down holds in memory; once it can, it is written, and mailed once."""
    monkeypatch.setattr("raven_alerts.watch._PAUSE_S", 0.05)
    desk = await office([ONE | {"stop": True}], mailbox=mailbox)
    working = Register.record
    failures = []

    async def fail(self: Register, *_: Any) -> None:
        failures.append(self)
        raise OSError("the disk is full")

    monkeypatch.setattr(Register, "record", fail)
    assert (await desk.chat())[0] == 200
    assert (await desk.chat())[0] == 429
    await upstream.wait_until(lambda: len(failures) >= 3)
    assert (await desk.chat())[0] == 429
    monkeypatch.setattr(Register, "record", working)
    await delivered(desk, "sent")
    assert (await desk.chat())[0] == 429
    assert len((await desk.shown())["paused"]) == 1
    assert len(mailbox.mails) == 1


async def test_a_delivery_that_could_not_be_written_down_is_taken_over(
    office: Any, mailbox: Any, upstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same process, too: it would be the only one that holds it for under way."""
    working = Register.note_try
    failures = []

    async def fail(self: Register, *_: Any) -> None:
        failures.append(self)
        raise OSError("the disk is full")

    monkeypatch.setattr(Register, "note_try", fail)
    mailbox.refusing = ["451 come back later"]
    desk = await office([ONE], mailbox=mailbox)
    await desk.chat()
    courier = plugin_of(desk)._courier
    await upstream.wait_until(lambda: failures and not courier._under_way)
    monkeypatch.setattr(Register, "note_try", working)
    await desk.gateway.gateway.storage.execute("UPDATE alert_deliveries SET leased_until = 0")
    await courier.adopt()
    await delivered(desk, "sent")
    assert len(mailbox.mails) == 1


# -- secrets --------------------------------------------------------------------------


async def test_no_secret_is_told(office: Any, mailbox: Any, heard: list[Event], capfd: Any) -> None:
    """Neither the gateway's keys, the provider's nor the mail password, anywhere."""
    mailbox.refusing = ["550 no"]
    desk = await office([ONE | {"stop": True}], mailbox=mailbox)
    await desk.chat()
    await desk.chat()
    shown = await desk.until(lambda s: [d["state"] for d in s["alerts"][0]["deliveries"]] == ["sent"])
    out = capfd.readouterr()
    told = [str(shown), out.out, out.err, *(mail.as_string() for mail in mailbox.mails)]
    told += [msgspec.json.encode(event).decode() for event in heard]
    assert heard
    for needle in (ADMIN_KEY, "sk-upstream-test", PASSWORD):
        assert not any(needle in text for text in told)
    await desk.gateway.gateway.storage.flush()
    for path in (desk.gateway.folder / "data").rglob("raven.db*"):
        assert PASSWORD.encode() not in path.read_bytes()
