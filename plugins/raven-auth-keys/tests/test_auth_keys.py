"""Who has a key gets in, everyone else gets one and the same answer, and a change holds at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import raven_auth_keys
from raven_auth_keys import ADMIN_SCOPES, PROXY_SCOPES, AuthKeys, Issued, KeyStore, NewKey
from raven_auth_keys.keys import digest_of

from raven_proxy import ConfigError, Forbidden, Principal, Unauthenticated
from raven_proxy.organizations import Organizations
from raven_proxy.storage import SQLiteStorage

STRONG = "8Xk2-mQp7_vRz4Lw9TnB3"


class Worker:
    """One process's plugin with its own connection to the shared database."""

    def __init__(self, storage: SQLiteStorage, listen_on_loopback: bool = True) -> None:
        self.storage = storage
        self.store = KeyStore(storage)
        self.announced: list[tuple[str, str]] = []
        self.plugin = AuthKeys()
        self.gateway: Any = SimpleNamespace(
            storage=storage,
            organizations=Organizations(),
            config=SimpleNamespace(is_loopback=lambda: listen_on_loopback),
            announce=lambda kind, value: self.announced.append((kind, value)),
        )

    async def ask(self, address: str = "127.0.0.1", **headers: str) -> Principal | None:
        exchange: Any = SimpleNamespace(
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            client_address=address,
        )
        return await self.plugin.authenticate(exchange)

    async def accepts(self, secret: str) -> bool:
        try:
            return await self.ask(authorization=f"Bearer {secret}") is not None
        except Unauthenticated:
            return False


@asynccontextmanager
async def start_worker(path: Path, **options: bool) -> AsyncIterator[Worker]:
    storage = await SQLiteStorage.open(path)
    worker = Worker(storage, **options)
    try:
        await worker.plugin.startup(worker.gateway)
        yield worker
    finally:
        await worker.plugin.shutdown()
        await storage.close()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAVEN_ADMIN_KEY", raising=False)


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    async with start_worker(tmp_path / "raven.db") as started:
        yield started


async def create(worker: Worker, **fields: Any) -> Issued:
    return await worker.store.create(NewKey(**{"name": "test", **fields}))


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let `authenticate` see a clock that is ahead."""
    real = time.time
    monkeypatch.setattr(raven_auth_keys, "time", SimpleNamespace(time=lambda: real() + seconds))


# Who gets in


async def test_a_key_names_its_caller(worker: Worker) -> None:
    issued = await create(
        worker, name="team", environment="test", allowed_models=("gpt-*",), rate_limit_rpm=60,
        max_concurrency=3, plan="pro", member_id="mem_1", on_disconnect="drain",
    )  # fmt: skip
    principal = await worker.ask(authorization=f"Bearer {issued.secret}")
    assert principal is not None
    assert principal.key_id == issued.key.id
    assert principal.organization_id == "org_default"
    assert principal.name == "team"
    assert principal.scopes == frozenset(PROXY_SCOPES)
    assert principal.allowed_models == ("gpt-*",)
    assert principal.on_disconnect == "drain"
    assert principal.attributes == {
        "environment": "test", "prefix": issued.secret[:12], "plan": "pro", "member_id": "mem_1",
        "max_concurrency": 3, "rate_limit_rpm": 60, "rate_limit_rpd": None, "rate_limit_tpm": None,
        "rate_limit_tpd": None,
    }  # fmt: skip
    assert await worker.ask(authorization=f"Bearer {issued.secret}") is principal, "built once"


async def test_the_scheme_is_case_insensitive_and_anthropic_clients_have_their_own_header(
    worker: Worker,
) -> None:
    secret = (await create(worker)).secret
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert await worker.ask(authorization=f"{scheme} {secret}")
    assert await worker.ask(x_api_key=secret)
    assert await worker.ask(x_api_key=secret, authorization=f"Bearer {secret}")


async def test_googles_clients_have_their_own_header_too(worker: Worker) -> None:
    """As bare as Anthropic's. Who sends several credentials sends one key in all of them."""
    secret = (await create(worker)).secret
    assert await worker.ask(x_goog_api_key=secret)
    assert await worker.ask(x_goog_api_key=secret, authorization=f"Bearer {secret}")
    assert await worker.ask(x_goog_api_key=secret, x_api_key=secret)
    for bad in ("", "wrong", f"Bearer {secret}"):
        with pytest.raises(Unauthenticated):
            await worker.ask(x_goog_api_key=bad)
    for others in (
        {"x_api_key": "wrong"},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {secret}", "x_api_key": "wrong"},
    ):
        with pytest.raises(Unauthenticated):
            await worker.ask(x_goog_api_key=secret, **others)
    for name in ("x_goog_api_key", "x_api_key"):
        with pytest.raises(Unauthenticated):
            await worker.ask(authorization=f"Bearer {secret}", **{name: "another"})


async def test_T52_whatever_is_no_valid_key_gets_the_same_answer(worker: Worker) -> None:
    secret = (await create(worker)).secret
    other = (await create(worker)).secret
    revoked = await create(worker)
    await worker.store.revoke(revoked.key.id)
    bad: list[dict[str, str]] = [
        {"authorization": value}
        for value in (
            "", "Bearer", "Bearer ", f"Bearer  {secret}", f"Bearer {secret} ", f"Bearer {secret} x",
            f"Bearer\t{secret}", f"Bearer {secret},Bearer {secret}", f"Basic {secret}", secret,
            f"Token {secret}", f"Bearer {secret[:-1]}", f"Bearer {secret.upper()}", f"Bearer {secret}\x00",
            "Bearer schlüssel", "Bearer \udcff\udcfe", "Bearer " + "k" * 8192, f"Bearer {digest_of(secret)}",
            f"Bearer {revoked.secret}", "Bearer " + "0" * 64,
        )
    ]  # fmt: skip
    bad += [{"x_api_key": ""}, {"x_api_key": f"Bearer {secret}"}, {"x_api_key": "wrong"}]
    bad += [{"x_api_key": other, "authorization": f"Bearer {secret}"}]
    bad += [{"x_api_key": "", "authorization": f"Bearer {secret}"}]
    answers = set()
    for headers in bad:
        with pytest.raises(Unauthenticated) as caught:
            await worker.ask(**headers)
        error = caught.value
        answers.add((error.status, error.code, error.type, error.message, error.param, str(error.headers)))
    assert len(answers) == 1
    assert answers.pop()[:4] == (401, "invalid_api_key", "authentication_error", "Invalid API key.")


async def test_no_credential_at_all_says_how_to_send_one(worker: Worker) -> None:
    with pytest.raises(Unauthenticated, match="Authorization: Bearer"):
        await worker.ask(content_type="application/json")
    assert await worker.ask(cookie="session=abc") is None, "a plugin for sessions may know"


async def test_T52_a_bad_key_takes_about_as_long_whatever_is_bad_about_it(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = await create(worker, expires_at=datetime.now(UTC) + timedelta(seconds=2))
    pass_time(monkeypatch, 3)
    took: dict[str, list[float]] = {expired.secret: [], "rk_live_" + "x" * 32: [], "x": []}
    for _ in range(500):  # in turn, so that a busy machine slows all of them
        for secret, times in took.items():
            start = time.perf_counter()
            assert not await worker.accepts(secret)
            times.append(time.perf_counter() - start)
    medians = sorted(sorted(times)[250] for times in took.values())
    assert medians[-1] < 2 * medians[0]


async def test_T55_an_expired_key_ends_with_its_second(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await create(worker, expires_at=datetime.now(UTC) + timedelta(hours=1))
    pass_time(monkeypatch, 3590)
    assert await worker.accepts(issued.secret)
    pass_time(monkeypatch, 3601)
    assert not await worker.accepts(issued.secret)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("2001:db8::1", True), ("192.0.2.7", True),
        ("11.0.0.1", False), ("192.0.2.8", False), ("2001:db9::1", False), ("", False), ("unix:", False),
    ],
)  # fmt: skip
async def test_a_key_can_be_bound_to_networks(worker: Worker, address: str, inside: bool) -> None:
    issued = await create(worker, ip_allowlist=("10.0.0.0/8", "2001:db8::/32", "192.0.2.7"))
    asking = worker.ask(address, authorization=f"Bearer {issued.secret}")
    if inside:
        assert await asking
    else:
        with pytest.raises(Forbidden) as caught:
            await asking
        assert (caught.value.status, caught.value.code) == (403, "ip_not_allowed")


# What is stored


async def test_the_database_never_holds_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "raven.db"
    secrets = []
    async with start_worker(path) as worker:
        secrets.append(worker.announced[0][1])
        issued = await create(worker)
        rotated = await worker.store.rotate(issued.key.id, grace_s=60)
        secrets += [issued.secret, rotated.secret]
        assert issued.secret not in repr(issued)
        content = b"".join(file.read_bytes() for file in sorted(tmp_path.iterdir()))
    content += path.read_bytes()
    for secret in secrets:
        assert secret.encode() not in content
        assert secret[13:].encode() not in content
        assert secret[:12].encode() in content
        assert digest_of(secret).encode() in content


async def test_secrets_are_long_random_and_say_their_environment(worker: Worker) -> None:
    made = [await create(worker, environment=env) for env in ("live", "test") for _ in range(50)]
    assert len({issued.secret for issued in made}) == 100
    assert {issued.secret[:8] for issued in made} == {"rk_live_", "rk_test_"}
    assert all(len(issued.secret) == 40 for issued in made), "32 of 62 letters are 190 bits"
    assert all(issued.key.prefix == issued.secret[:12] for issued in made)


async def test_last_use_is_noted_at_most_once_a_minute(worker: Worker) -> None:
    issued = await create(worker)
    assert issued.key.last_used_at is None
    writes = 0
    write_behind = worker.storage.write_behind

    def count(sql: str, row: tuple[Any, ...]) -> None:
        nonlocal writes
        writes += 1
        write_behind(sql, row)

    worker.storage.write_behind = count  # type: ignore[method-assign]
    for _ in range(5):
        assert await worker.accepts(issued.secret)
    await worker.storage.flush()
    used_at = (await worker.store.get(issued.key.id)).last_used_at
    assert used_at is not None
    assert abs(used_at.timestamp() - time.time()) < 5
    assert writes == 1


# Changes hold everywhere, at once


async def test_T55_revoke_and_rotate_hold_here_at_once_and_elsewhere_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "raven.db"
    async with start_worker(path) as here, start_worker(path) as there:
        first, second = await create(here), await create(here)
        assert await here.accepts(first.secret)
        await asyncio.sleep(0.3)
        assert await there.accepts(first.secret)
        await here.store.revoke(first.key.id)
        rotated = await here.store.rotate(second.key.id)
        assert not await here.accepts(first.secret)
        assert not await here.accepts(second.secret)
        assert await here.accepts(rotated.secret)
        await asyncio.sleep(0.3)
        assert not await there.accepts(first.secret)
        assert not await there.accepts(second.secret)
        assert await there.accepts(rotated.secret)


async def test_rotation_with_grace_lets_the_old_secret_go_on_for_a_while(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await create(worker)
    rotated = await worker.store.rotate(issued.key.id, grace_s=60)
    assert rotated.key.id == issued.key.id
    assert await worker.accepts(issued.secret)
    assert await worker.accepts(rotated.secret)
    pass_time(monkeypatch, 61)
    assert not await worker.accepts(issued.secret)
    assert await worker.accepts(rotated.secret)
    again = await worker.store.rotate(issued.key.id, grace_s=60)
    await worker.store.revoke(issued.key.id)
    assert not await worker.accepts(again.secret)
    assert not await worker.accepts(rotated.secret), "revoking ends the grace too"


async def test_many_changes_at_once_leave_the_newest_state(worker: Worker) -> None:
    issued = [await create(worker) for _ in range(20)]
    await asyncio.gather(*[worker.store.revoke(one.key.id) for one in issued[::2]])
    assert [await worker.accepts(one.secret) for one in issued] == [False, True] * 10


# The first administrator


async def test_the_first_start_makes_one_administrator_and_tells_it_once(tmp_path: Path) -> None:
    path = tmp_path / "raven.db"
    async with start_worker(path) as worker:
        [(kind, secret)] = worker.announced
        assert kind == "admin_key"
        principal = await worker.ask(authorization=f"Bearer {secret}")
        assert principal is not None
        assert principal.scopes == frozenset((*PROXY_SCOPES, *ADMIN_SCOPES))
    async with start_worker(path) as worker:
        assert worker.announced == []
        [key] = await worker.store.list_all()
        await worker.store.revoke(key.id)
    async with start_worker(path) as worker:
        assert len(worker.announced) == 1, "there must be a way back in"


async def test_workers_that_start_at_once_make_one_administrator(tmp_path: Path) -> None:
    async def start() -> int:
        async with start_worker(tmp_path / "raven.db") as worker:
            return len(worker.announced)

    assert sum(await asyncio.gather(*[start() for _ in range(4)])) == 1


async def test_the_variable_s_key_holds_while_it_is_set_and_is_stored_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "raven.db"
    monkeypatch.setenv("RAVEN_ADMIN_KEY", STRONG)
    async with start_worker(path, listen_on_loopback=False) as worker:
        assert worker.announced == []
        assert await worker.store.list_all() == []
        principal = await worker.ask(authorization=f"Bearer {STRONG}")
        assert principal is not None
        assert principal.key_id == "key_admin_env"
        assert {"admin:read", "admin:write", "chat:write"} <= principal.scopes
        await create(worker)
        assert await worker.accepts(STRONG), "also after the keys were read anew"
        content = b"".join(file.read_bytes() for file in sorted(tmp_path.iterdir()))
        assert STRONG.encode() not in content
        assert digest_of(STRONG).encode() not in content
    monkeypatch.delenv("RAVEN_ADMIN_KEY")
    async with start_worker(path) as worker:
        assert not await worker.accepts(STRONG)


@pytest.mark.parametrize(
    "value",
    [
        "", "admin", "changeme", "a" * 64, "changeme-changeme-changeme", "admin123admin123admin123",
        "password1234567890password", "testtesttesttesttest", "8Xk2-mQp7 vRz4Lw9TnB3x",
        "schlüssel-8Xk2-mQp7-vRz4",
    ],
)  # fmt: skip
async def test_T133_a_weak_administrator_key_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("RAVEN_ADMIN_KEY", value)
    with pytest.raises(ConfigError, match="RAVEN_ADMIN_KEY") as caught:
        async with start_worker(tmp_path / "raven.db"):
            pass
    assert not value or value not in str(caught.value).replace("RAVEN_ADMIN_KEY", "")


async def test_T133_where_others_can_reach_it_the_rule_is_stricter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAVEN_ADMIN_KEY", "raven-example-test-raven-example")
    async with start_worker(tmp_path / "raven.db"):
        pass
    with pytest.raises(ConfigError, match="RAVEN_ADMIN_KEY"):
        async with start_worker(tmp_path / "raven.db", listen_on_loopback=False):
            pass
