"""T52, T55: which credentials are taken, and when a change of a key holds."""

from __future__ import annotations

import re
import signal
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from raven_auth_keys import KeyStore, NewKey

from raven_proxy.gateway import Gateway
from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream

from .conftest import Case
from .running import call, serve, write_config
from .wire import CHAT, chat, post

BASE = ("auth-keys", "openai")
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: g\r\n%b\r\n\r\n"


def models(*lines: bytes) -> bytes:
    return MODELS % b"\r\n".join(lines) if lines else MODELS.replace(b"%b\r\n", b"")


# -- T52: credentials ---------------------------------------------------------------------

KEY = ADMIN_KEY.encode()
NO_GOOD: list[tuple[bytes, ...]] = [
    (),
    (b"Authorization:",),
    (b"Authorization: Bearer",),
    (b"Authorization: Bearer  " + KEY,),
    (b"Authorization: Basic " + KEY,),
    (b"Authorization: " + KEY,),
    (b"Authorization: bearer",),
    (b"Authorization: Bearer" + KEY,),
    (b"Authorization: Bearer\t" + KEY,),
    (b"Authorization: Bearer " + KEY + b" x",),
    (b"Authorization: Bearer " + KEY + b", " + KEY,),
    (b"Authorization: Bearer " + KEY[:-1],),
    (b"Authorization: Bearer " + KEY + b"x",),
    (b"Authorization: Bearer " + KEY.swapcase(),),
    (b'Authorization: Bearer "' + KEY + b'"',),
    (b"Authorization: Bearer \xe9\xff" + KEY,),
    ("Authorization: Bearer ключ-é".encode(),),
    (b"Authorization: Bearer " + b"x" * 8000,),
    (b"Authorization: Bearer " + b"x" * 9000,),
    (b"Authorization: Bearer " + KEY, b"Authorization: Bearer " + KEY),
    (b"Authorization: Bearer " + KEY, b"authorization: Bearer other"),
    (b"Authorization: Bearer other", b"Authorization: Bearer " + KEY),
    (b"Authorization: Bearer other", b"x-api-key: " + KEY),
    (b"Authorization: Bearer " + KEY, b"x-api-key: other"),
    (b"x-api-key: " + KEY, b"x-api-key: " + KEY),
    (b"x-api-key:",),
    (b"api-key: " + KEY,),
    (b"Proxy-Authorization: Bearer " + KEY,),
    (b"Cookie: key=" + KEY,),
    (b"Authorization : Bearer " + KEY,),
    (b"X-A: b\r\n Authorization: Bearer " + KEY,),
]


@pytest.mark.parametrize("lines", NO_GOOD, ids=range(len(NO_GOOD)))
async def test_t52_odd_credentials_are_refused(case: Case, lines: tuple[bytes, ...]) -> None:
    """Anything but one well-formed, known key is a 401, or a 400 where it is not valid HTTP."""
    await case.start(base=BASE)
    reply = await case.ask(models(*lines))
    assert reply.status in {400, 401}, reply
    case.refused(reply, reply.status)
    case.refused(await case.ask(post(chat(), key=None, headers=())), 401)
    assert case.upstream.seen == []


async def test_t52_every_bad_key_gets_the_same_answer(case: Case) -> None:
    """Unknown, nearly right, revoked and expired keys are told apart by nothing in the reply."""
    gateway = await case.start(base=BASE)
    store = KeyStore(gateway.gateway.storage)
    soon = datetime.now(UTC) + timedelta(hours=1)
    revoked, expired = (
        await store.create(NewKey(name="a")),
        await store.create(NewKey(name="b", expires_at=soon)),
    )
    case.needles += [revoked.secret, expired.secret]
    await store.revoke(revoked.key.id)
    await change(gateway.gateway, "UPDATE keys SET expires_at = 1 WHERE id = ?", expired.key.id)
    bad = ["x", revoked.secret, expired.secret, expired.secret[:-1], ADMIN_KEY[:-1], "rk_live_" + "0" * 32]
    replies = [await case.ask(post(chat(), key=key)) for key in bad]
    bodies = {re.sub(rb"req_[0-9a-f]+", b"", reply.body) for reply in replies}
    heads = {tuple(sorted(reply.headers.keys() - {"date", "x-request-id"})) for reply in replies}
    assert [reply.status for reply in replies] == [401] * len(bad)
    assert len(bodies) == len(heads) == 1
    case.refused(replies[0], 401, code="invalid_api_key", type="authentication_error")
    assert case.upstream.seen == []


async def test_t52_and_in_about_the_same_time(case: Case) -> None:
    """How long a refusal takes does not tell how much of a key was right."""
    await case.start(base=BASE)
    times: dict[str, list[float]] = {"x": [], ADMIN_KEY[:-1] + "x": [], "rk_live_" + "0" * 32: []}
    async with await case.wire() as wire:
        for key in list(times) * 150:
            began = time.perf_counter()
            await wire.send(models(b"Authorization: Bearer " + key.encode()))
            assert (await wire.reply()).status == 401
            times[key].append(time.perf_counter() - began)
    medians = [statistics.median(taken) for taken in times.values()]
    assert max(medians) < 3 * min(medians) + 0.001


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "token", "x-api-key", "Authorization"])
async def test_t52_a_key_in_the_query_is_never_looked_at(case: Case, name: str) -> None:
    """A key in the URL ends up in logs and histories: it is not accepted, and not logged."""
    await case.start(base=BASE)
    for path in (f"{CHAT}?{name}={ADMIN_KEY}", f"/v1/mock/chat/completions?{name}=Bearer%20{ADMIN_KEY}"):
        case.refused(await case.ask(post(chat(), path, key=None)), 401)
    assert case.upstream.seen == []


async def test_t52_a_proxy_key_in_a_raw_query_never_goes_upstream(case: Case) -> None:
    """A raw path's query goes up as it is, so one with a proxy key in it is refused."""
    await case.start(base=BASE)
    path = f"/v1/mock/chat/completions?key={ADMIN_KEY}"
    case.refused(await case.ask(post(chat(), path)), 400, param="query")
    assert case.upstream.seen == []


@pytest.mark.parametrize(
    "line",
    [b"Authorization: Bearer " + KEY, b"authorization:Bearer " + KEY, b"Authorization: bearer " + KEY + b"  ",
     b"x-api-key: " + KEY, b"Authorization: Bearer " + KEY + b"\r\nx-api-key: " + KEY],
)  # fmt: skip
async def test_t52_the_good_spellings_pass(case: Case, line: bytes) -> None:
    """The scheme's case and white space around a field do not matter (RFC 9110)."""
    await case.start(base=BASE)
    assert (await case.ask(models(line))).status == 200


async def change(gateway: Gateway, sql: str, key_id: str) -> None:
    """Change the table of keys as another plugin, or another process, would."""
    async with gateway.storage.transaction() as transaction:
        await transaction.execute(sql, (key_id,))
        await transaction.bump("keys")


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("UPDATE keys SET is_active = 0 WHERE id = ?", 401, "invalid_api_key"),
        ("UPDATE keys SET expires_at = 1 WHERE id = ?", 401, "invalid_api_key"),
        ("DELETE FROM keys WHERE id = ?", 401, "invalid_api_key"),
        ("UPDATE keys SET scopes = '[\"models:read\"]' WHERE id = ?", 403, "missing_scope"),
        ("UPDATE keys SET allowed_models = '[\"gpt-*\"]' WHERE id = ?", 403, "model_not_allowed"),
        ("UPDATE keys SET ip_allowlist = '[\"10.0.0.0/8\"]' WHERE id = ?", 403, "ip_not_allowed"),
    ],
)
async def test_t55_a_change_of_a_key_holds_from_the_next_request(
    case: Case, sql: str, status: int, code: str
) -> None:
    """Revoked, expired, deleted, narrowed: the next request on the same connection is refused."""
    gateway = await case.start(base=BASE)
    issued = await KeyStore(gateway.gateway.storage).create(NewKey(name="a"))
    case.needles.append(issued.secret)
    async with await case.wire() as wire:
        await wire.send(post(chat(), key=issued.secret))
        assert (await wire.reply()).status == 200
        await change(gateway.gateway, sql, issued.key.id)
        await wire.send(post(chat(), key=issued.secret))
        case.refused(await wire.reply(), status, code=code)
    assert len(case.upstream.seen) == 1


async def test_t55_a_rotated_key_is_another_key(case: Case) -> None:
    """After a rotation the new secret works and the old one does not."""
    gateway = await case.start(base=BASE)
    store = KeyStore(gateway.gateway.storage)
    old = await store.create(NewKey(name="a"))
    new = await store.rotate(old.key.id)
    case.needles += [old.secret, new.secret]
    assert old.secret[:8] == new.secret[:8]
    assert (await case.ask(post(chat(), key=new.secret))).status == 200
    case.refused(await case.ask(post(chat(), key=old.secret)), 401)
    case.refused(await case.ask(post(chat(), key=new.secret[:12] + old.secret[12:])), 401)


async def test_t55_every_worker_obeys_the_command_at_once(tmp_path: Path, upstream: MockUpstream) -> None:
    """`keys create` and `keys revoke` beside two running workers: both obey when the command returns."""
    config = write_config(tmp_path, upstream)
    async with serve(config, "--workers", "2") as gateway:
        pids = await gateway.two_workers()
        status, output, errors = await call(
            "keys", "create", "--name", "x", "--json", "--config", str(config)
        )
        assert status == 0, errors
        issued = msgspec.json.decode(output)
        secret, key_id = issued["key"], issued["id"]
        assert await gateway.each_worker(pids, post(chat(), key=secret)) == [200, 200]
        status, _, errors = await call("keys", "revoke", key_id, "--config", str(config))
        assert status == 0, errors
        assert await gateway.each_worker(pids, post(chat(), key=secret)) == [401, 401]
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
        assert secret not in gateway.errors()
    assert len(upstream.seen) == 2
