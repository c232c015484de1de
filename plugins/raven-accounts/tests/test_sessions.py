"""Signing in and out: what a session is, what it may do, and what ends it (T139)."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import pytest

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream

from .conftest import OWNER, PASSWORD, House, Page

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "hi"}]}
OTHER = "another wire for ravens"


async def ended(page: Page) -> bool:
    """Whether a session is over: 401 `session_expired`."""
    status, body = await page("GET", "/auth/me")
    assert status == 200 or (status, body["error"]["code"]) == (401, "session_expired")
    return status == 401


# -- the first owner -----------------------------------------------------------------------


async def test_set_up_makes_the_first_owner_once(house: House) -> None:
    """201 and signed in; then a 409, whoever asks; the organisation has its name."""
    page = await house.set_up()
    assert page.body["member"]["role"] == "owner"
    assert page.body["organizations"] == [{"id": "org_default", "name": "Ravens", "role": "owner"}]
    status, me = await page("GET", "/auth/me")
    assert (status, me["member"]["email"], me["isOperator"]) == (200, OWNER["email"], True)
    status, body = await house.operator("POST", "/auth/setup", {**OWNER, "email": "b@example.com"})
    assert (status, body["error"]["type"]) == (409, "conflict_error")
    assert "`raven-proxy members add EMAIL --operator`" in body["error"]["message"]


async def test_the_token_of_the_first_start_is_good_once_and_for_that(house: House) -> None:
    """It sets up and does nothing else; it is not stored, and no longer good afterwards."""
    ((kind, token),) = house.gateway.announcements
    assert kind == "setup_token"
    bearer = Page(house, Authorization=f"Bearer {token}")
    assert (await bearer("GET", "/orgs"))[0] == 401
    assert (await bearer("POST", "/auth/setup", {**OWNER, "email": "nobody"}))[0] == 400
    assert (await bearer("POST", "/auth/setup", OWNER))[0] == 201
    assert (await bearer("POST", "/auth/setup", {**OWNER, "email": "b@example.com"}))[0] == 401
    rows = [await house.gateway.storage.fetch_all(f"SELECT * FROM {t}") for t in ("users", "setup_tokens")]
    assert rows[1] == []
    assert token not in repr(rows)


async def test_two_set_ups_at_once_make_one_owner(house: House) -> None:
    """The second is a 409."""
    bodies = [{**OWNER, "email": f"{number}@example.com"} for number in range(3)]
    answers = await asyncio.gather(*(house.operator("POST", "/auth/setup", body) for body in bodies))
    assert sorted(status for status, _ in answers) == [201, 409, 409]


async def test_only_who_runs_the_gateway_sets_it_up(house: House) -> None:
    """Not an administrator's key of the API, nor a stranger."""
    _, key = await house.operator("POST", "/keys", {"name": "x", "scopes": ["admin:read", "admin:write"]})
    admin = Page(house, Authorization=f"Bearer {key['key']}")
    assert (await admin("POST", "/auth/setup", OWNER))[0] == 403
    assert (await house.stranger("POST", "/auth/setup", OWNER))[0] == 401


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"email": "olga"}, "email"),
        ({"email": "a b@example.com"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "olga@example.com"}, "password"),
        ({"password": "Password123456"}, "password"),
        ({"password": "aaaaaaaaaaaaaaa"}, "password"),
        ({"password": "1234567890"}, "password"),
        ({"password": 5}, "password"),
        ({"name": "a\nb"}, "name"),
        ({"organization": "a\u0000b"}, "organization"),
        ({"role": "owner"}, "role"),
    ],
)
async def test_a_bad_field_is_named(house: House, fields: Any, param: str | None) -> None:
    """400 `validation_error`, and the gateway is not set up."""
    status, body = await house.operator("POST", "/auth/setup", {**OWNER, **fields})
    assert (status, body["error"]["type"], body["error"]["param"]) == (400, "validation_error", param)
    await house.set_up()


# -- signing in ----------------------------------------------------------------------------


async def test_the_cookie_is_for_this_host_and_no_script(house: House) -> None:
    """HttpOnly, SameSite=Lax, the whole path; 256 random bits, of which the table has a digest."""
    await house.add("ann@example.com", "viewer")
    page = await house.sign_in("ann@example.com")
    words = house.stranger.replied.headers["Set-Cookie"].split("; ")
    assert words[0] == f"raven_session={page.cookie}"
    assert {"Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=604800"} == set(words[1:])
    assert house.stranger.replied.headers["Cache-Control"] == "no-store"
    assert len(page.cookie.partition(".")[0]) == 43
    rows = await house.gateway.storage.fetch_all("SELECT * FROM sessions")
    assert [row["digest"] for row in rows] == [hashlib.sha256(page.cookie.encode()).hexdigest()]
    assert page.cookie.partition(".")[0] not in repr(rows)


@pytest.mark.parametrize(
    ("trusted", "proto", "secure"),
    [
        (["127.0.0.1/32"], "https", True),
        (["127.0.0.1/32"], "http, https", True),
        (["127.0.0.1/32"], "https, http", False),
        (["192.0.2.1/32"], "https", False),
        ([], "https", False),
    ],
)
async def test_behind_tls_the_cookie_is_secure(
    open_house: Any, trusted: list[str], proto: str, secure: bool
) -> None:
    """Where a trusted proxy says so, and nobody else."""
    house = await open_house(config={"trusted_proxies": trusted})
    await house.add("ann@example.com", "viewer")
    login = {"email": "ann@example.com", "password": PASSWORD}
    assert (await house.stranger("POST", "/auth/login", login, X_Forwarded_Proto=proto))[0] == 200
    assert ("; Secure" in house.stranger.replied.headers["Set-Cookie"]) == secure


async def test_each_login_is_a_new_session(house: House) -> None:
    """Never the same id; what the browser sent is not taken over, and what it had is ended."""
    await house.add("ann@example.com", "viewer")
    first, second = await house.sign_in("ann@example.com"), await house.sign_in("ann@example.com")
    assert first.cookie != second.cookie
    assert not await ended(first)
    login = {"email": "ann@example.com", "password": PASSWORD}
    planted = Page(house, Cookie="raven_session=chosen-by-somebody")
    assert (await planted("POST", "/auth/login", login))[0] == 200
    assert "chosen" not in planted.replied.headers["Set-Cookie"]
    assert (await Page(house, Cookie=first.headers["Cookie"])("POST", "/auth/login", login))[0] == 200
    assert await ended(first)
    assert not await ended(second)


async def test_who_does_not_know_the_password_learns_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T52: an unknown address, a wrong password and a person without a seat get one answer, for one work."""
    await house.add("ann@example.com", "viewer")
    gone = await house.add("gone@example.com", "viewer", isActive=False)
    from argon2 import PasswordHasher

    compared: list[str] = []
    real = PasswordHasher.verify

    def verify(self: Any, digest: Any, password: Any) -> Any:
        compared.append(str(digest).rpartition("$")[0].rpartition("$")[0])
        return real(self, digest, password)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    answers = []
    for email, password in (
        ("ann@example.com", OTHER), ("nobody@example.com", PASSWORD), (gone["email"], PASSWORD),
    ):  # fmt: skip
        status, body = await house.stranger("POST", "/auth/login", {"email": email, "password": password})
        answers.append((status, body["error"]["code"], body["error"]["message"]))
        assert "Set-Cookie" not in house.stranger.replied.headers
    assert len(set(answers)) == 1
    assert answers[0][:2] == (401, "invalid_credentials")
    assert len(compared) == 3
    assert len(set(compared)) == 1, "the same algorithm and the same parameters"


async def test_an_address_is_one_however_it_is_written(house: House) -> None:
    """Case and spaces around it do not count; how a password is typed does not either (NFKC)."""
    await house.add("Ann@Example.COM ", "viewer", password="ﬁve ravens on a wire")
    await house.sign_in("ann@example.com", "five ravens on a wire")
    await house.sign_in(" ANN@example.com", "ﬁve ravens on a wire")


async def test_a_digest_of_old_parameters_is_made_anew(open_house: Any) -> None:
    """At the login, when the password is at hand."""
    house = await open_house(argon2_rounds=3)
    await house.add("ann@example.com", "viewer")
    old = "$argon2id$v=19$m=19456,t=2,p=1$"
    from argon2 import PasswordHasher

    digest = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1).hash(PASSWORD)
    assert digest.startswith(old)
    await house.gateway.storage.execute("UPDATE users SET password = ?", (digest,))
    await house.sign_in("ann@example.com")
    row = await house.gateway.storage.fetch_one("SELECT password FROM users")
    assert row["password"].startswith("$argon2id$v=19$m=19456,t=3,p=1$")
    await house.sign_in("ann@example.com")


async def test_what_is_no_login_is_refused(house: House) -> None:
    """A form, a body that is too large, an unknown field: 4xx, and nobody is asked."""
    login = {"email": "ann@example.com", "password": PASSWORD}
    form = "application/x-www-form-urlencoded"
    assert (await house.stranger("POST", "/auth/login", login, Content_Type=form))[0] == 400
    assert (await house.stranger("POST", "/auth/login", {**login, "x": "y" * 20_000}))[0] == 413
    status, body = await house.stranger("POST", "/auth/login", {**login, "role": "owner"})
    assert (status, body["error"]["type"]) == (400, "validation_error")
    assert (await house.stranger("GET", "/auth/login"))[0] == 405


# -- attempts ------------------------------------------------------------------------------


async def test_attempts_for_an_account_are_bounded(open_house: Any) -> None:
    """429 with Retry-After, for the right password too, and for an account that there is not."""
    house = await open_house(attempts_per_account=3)
    await house.add("ann@example.com", "viewer")
    for email in ("ann@example.com", "nobody@example.com"):
        wrong = {"email": email, "password": OTHER}
        statuses = [(await house.stranger("POST", "/auth/login", wrong))[0] for _ in range(4)]
        assert statuses == [401, 401, 401, 429]
    right = {"email": "ann@example.com", "password": PASSWORD}
    status, body = await house.stranger("POST", "/auth/login", right)
    assert (status, body["error"]["type"]) == (429, "rate_limit_error")
    assert 0 < int(house.stranger.replied.headers["Retry-After"]) <= 930
    await house.add("bob@example.com", "viewer")
    await house.sign_in("bob@example.com")


async def test_attempts_from_an_address_are_bounded(open_house: Any) -> None:
    """Whatever the accounts are; the address is the client's, of IPv6 its network."""
    house = await open_house(attempts_per_address=3, config={"trusted_proxies": ["127.0.0.1/32"]})

    async def attempt(number: int, address: str) -> int:
        wrong = {"email": f"{number}@example.com", "password": OTHER}
        return int((await house.stranger("POST", "/auth/login", wrong, X_Forwarded_For=address))[0])

    assert [await attempt(n, "192.0.2.7") for n in range(4)] == [401, 401, 401, 429]
    assert await attempt(9, "192.0.2.8") == 401
    assert [await attempt(n, f"2001:db8::{n}") for n in range(4)] == [401, 401, 401, 429]
    assert await attempt(9, "2001:db8:0:1::1") == 401


async def test_who_is_right_has_used_up_nothing(open_house: Any) -> None:
    """Signing in often is no attack; that everybody together is bounded is."""
    house = await open_house(attempts_per_account=2, attempts_per_minute=8)
    await house.add("ann@example.com", "viewer")
    for _ in range(6):
        await house.sign_in("ann@example.com")
    wrong = {"email": "x@example.com", "password": OTHER}
    statuses = {(await house.stranger("POST", "/auth/login", {**wrong, "email": f"{n}@example.com"}))[0]
                for n in range(4)}  # fmt: skip
    assert statuses == {401, 429}


# -- what a session may do -----------------------------------------------------------------


async def test_a_session_may_do_what_its_role_says(house: House) -> None:
    """A viewer reads, a developer calls models and makes keys, an admin manages people."""
    statuses = {}
    for role in ("viewer", "developer", "admin"):
        await house.add(f"{role}@example.com", role)
        page = await house.sign_in(f"{role}@example.com")
        invited = {"email": f"by-{role}@example.com", "password": PASSWORD}
        statuses[role] = [
            (await page("GET", "/keys"))[0],
            (await page("POST", "/v1/chat/completions", CHAT))[0],
            (await page("POST", "/keys", {"name": "mine"}))[0],
            (await page("POST", "/orgs/org_default/members", invited))[0],
            (await page("POST", "/orgs", {"name": "New"}))[0],
        ]
    assert statuses == {
        "viewer": [200, 403, 403, 403, 403],
        "developer": [200, 200, 201, 403, 403],
        "admin": [200, 200, 201, 201, 403],
    }


async def test_the_first_owner_runs_the_gateway(house: House) -> None:
    """They make organisations, act for any, and see all."""
    olga = await house.set_up()
    status, made = await olga("POST", "/orgs", {"name": "B"})
    assert status == 201
    assert (await olga("POST", "/keys", {"name": "theirs"}, X_Org_Id=made["id"]))[0] == 201
    assert (await olga("GET", "/keys"))[1] == []
    assert [key["name"] for key in (await olga("GET", "/keys", X_Org_Id=made["id"]))[1]] == ["theirs"]
    assert (await olga("GET", "/keys", X_Org_Id="org_none"))[0] == 404
    assert (await olga("POST", "/reload", {}))[0] == 200


async def test_a_session_may_not_reload(house: House) -> None:
    """Another owner of `org_default` does not run the gateway."""
    await house.add("second@example.com", "owner")
    second = await house.sign_in("second@example.com")
    assert (await second("GET", "/auth/me"))[1]["isOperator"] is False
    assert (await second("POST", "/reload", {}))[0] == 403


async def test_x_org_id_chooses_among_ones_own(house: House) -> None:
    """The oldest membership if it is left out; another's is a 404; two of it a 400."""
    b, c = await house.found("B"), await house.found("C")
    await house.add("ann@example.com", "viewer")
    await house.add("ann@example.com", "admin", b, password=None)
    ann = await house.sign_in("ann@example.com")
    assert [one["id"] for one in ann.body["organizations"]] == ["org_default", b]
    for headers, place, role in (({}, "org_default", "viewer"), ({"X_Org_Id": b}, b, "admin")):
        _, me = await ann("GET", "/auth/me", **headers)
        assert (me["organizationId"], me["role"], me["member"]["organizationId"]) == (place, role, place)
    assert (await ann("GET", "/auth/me", X_Org_Id=c))[0] == 404
    assert (await ann("GET", "/auth/me", X_Org_Id="org_none"))[0] == 404
    assert (await ann("POST", "/keys", {"name": "of B"}, X_Org_Id=b))[0] == 201
    assert (await ann("POST", "/keys", {"name": "of A"}))[0] == 403
    assert (await ann("GET", "/keys"))[1] == []
    twice = [("Cookie", ann.headers["Cookie"]), ("X-Org-Id", b), ("X-Org-Id", b)]
    async with house.client.get("/auth/me", headers=twice) as reply:
        assert reply.status == 400


async def test_a_key_that_is_sent_as_well_wins(house: House) -> None:
    """It says itself what it may; a bad one is a 401, whatever the cookie is."""
    await house.add("ann@example.com", "admin")
    ann = await house.sign_in("ann@example.com")
    _, key = await house.operator("POST", "/keys", {"name": "x"})
    for headers, member, status in (
        ({"Authorization": f"Bearer {key['key']}"}, None, 200),
        ({"x_api_key": key["key"]}, None, 200),
        ({"Authorization": "Bearer rk_live_none"}, None, 401),
    ):
        got, me = await ann("GET", "/auth/me", **headers)
        assert got == status
        if status == 200:
            assert (me["member"], me["key"]["id"]) == (member, key["id"])
    bearer = {"Authorization": f"Bearer {key['key']}"}
    assert (await ann("GET", "/keys", **bearer))[0] == 403
    assert (await ann("POST", "/auth/logout", **bearer))[0] == 403
    assert (await ann("POST", "/auth/logout", Authorization=f"Bearer {ADMIN_KEY}"))[0] == 400
    assert not await ended(ann)


async def test_nothing_of_a_session_goes_to_a_provider(
    raven: Any, client_of: Any, upstream: MockUpstream
) -> None:
    """The cookie, the token and the origin stay here."""
    running = await raven(base=("auth-keys", "accounts", "openai"), upstreams=[upstream])
    house = House(running, client_of(running.url))
    olga = await house.set_up()
    assert (await olga("POST", "/v1/chat/completions", {**CHAT, "model": "mock/any"}))[0] == 200
    (seen,) = upstream.seen
    assert olga.cookie not in repr(seen.headers)
    assert olga.headers["X-CSRF-Token"] not in repr(seen.headers)
    assert not {"cookie", "origin", "x-csrf-token"} & {name.lower() for name in seen.headers}


# -- what ends a session -------------------------------------------------------------------


async def test_a_logout_ends_it_for_good(house: House) -> None:
    """The old cookie is a 401 `session_expired`; the browser is told to forget it; others go on."""
    await house.add("ann@example.com", "viewer")
    ann, elsewhere = await house.sign_in("ann@example.com"), await house.sign_in("ann@example.com")
    assert await ann("POST", "/auth/logout") == (200, {"success": True})
    assert "Max-Age=0" in ann.replied.headers["Set-Cookie"]
    assert await ended(ann)
    assert await ended(ann)
    assert not await ended(elsewhere)


async def test_a_new_password_ends_the_other_sessions(house: House) -> None:
    """This one goes on under a new id; the old password is no longer one."""
    await house.add("ann@example.com", "viewer")
    ann, elsewhere = await house.sign_in("ann@example.com"), await house.sign_in("ann@example.com")
    for sent, param in (
        ({"currentPassword": OTHER, "newPassword": OTHER}, "currentPassword"),
        ({"currentPassword": PASSWORD, "newPassword": "short"}, "newPassword"),
        ({"currentPassword": PASSWORD, "newPassword": "ann@example.com"}, "newPassword"),
    ):
        status, body = await ann("POST", "/auth/password", sent)
        assert (status, body["error"]["param"]) == (400, param)
    assert not await ended(elsewhere)
    status, body = await ann("POST", "/auth/password", {"currentPassword": PASSWORD, "newPassword": OTHER})
    assert status == 200
    house.stranger.replied = ann.replied
    anew = house.enter(body)
    assert anew.cookie != ann.cookie
    assert not await ended(anew)
    assert await ended(ann)
    assert await ended(elsewhere)
    assert (await house.stranger("POST", "/auth/login", {"email": "ann@example.com", "password": PASSWORD}))[
        0
    ] == 401
    await house.sign_in("ann@example.com", OTHER)


@pytest.mark.parametrize(
    "change",
    [{"role": "admin"}, {"isActive": False}, {"password": OTHER}, {"email": "eve@example.com"}, None],
    ids=str,
)  # fmt: skip
async def test_who_is_changed_signs_in_again(house: House, change: Any) -> None:
    """Another role, password or address, switched off, or removed: every session ends at once."""
    member = await house.add("ann@example.com", "viewer")
    pages = [await house.sign_in("ann@example.com") for _ in range(2)]
    path = f"/orgs/org_default/members/{member['id']}"
    if change is None:
        assert (await house.operator("DELETE", path))[0] == 200
    else:
        assert (await house.operator("PATCH", path, change))[0] == 200
    assert [await ended(page) for page in pages] == [True, True]
    if change == {"isActive": False}:
        assert (await house.operator("PATCH", path, {"isActive": True}))[0] == 200
        assert [await ended(page) for page in pages] == [True, True]


async def test_what_changes_nobody_ends_nothing(house: House) -> None:
    """Another name, another multiplier."""
    member = await house.add("ann@example.com", "viewer")
    page = await house.sign_in("ann@example.com")
    path = f"/orgs/org_default/members/{member['id']}"
    assert (await house.operator("PATCH", path, {"name": "Ann", "rateMultiplier": "2"}))[0] == 200
    assert not await ended(page)


@pytest.mark.parametrize("end", ["logout", "demote", "switch off"])
async def test_T147_a_live_feed_ends_with_its_session(open_house: Any, end: str) -> None:
    """Who is signed out, demoted or switched off sees nothing more of it."""
    house = await open_house(base=("auth-keys", "accounts", "meter", "openai", "demo"))
    member = await house.add("ann@example.com", "admin")
    ann = await house.sign_in("ann@example.com")
    async with house.client.get("/logs/stream", headers=ann.headers) as feed:
        assert feed.status == 200
        assert (await feed.content.readline()).startswith(b"retry:")
        path = f"/orgs/org_default/members/{member['id']}"
        method, path, body = {
            "logout": ("POST", "/auth/logout", None),
            "demote": ("PATCH", path, {"role": "viewer"}),
            "switch off": ("PATCH", path, {"isActive": False}),
        }[end]
        who = ann if end == "logout" else house.operator
        assert (await who(method, path, body))[0] == 200
        async with asyncio.timeout(20):
            await feed.read()


@pytest.mark.parametrize(("column", "age_s"), [("seen_at", 28_800), ("created_at", 604_800)])
async def test_a_session_ends_by_itself(house: House, column: str, age_s: int) -> None:
    """After a time without a request, and after its whole time whatever happens."""
    await house.add("ann@example.com", "viewer")
    page = await house.sign_in("ann@example.com")
    for age, is_over in ((age_s - 30, False), (age_s + 1, True)):
        await house.gateway.storage.flush()
        sql = f"UPDATE sessions SET {column} = ?"
        await house.gateway.storage.execute(sql, (int(time.time()) - age,))
        await house.gateway.storage.bump("sessions")
        accounts = next(p.instance for p in house.gateway.pipeline.plugins if p.name == "accounts")
        accounts._directory._seen.clear()
        assert await ended(page) == is_over


async def test_a_request_is_remembered(house: House) -> None:
    """Behind the request, and once a minute at most; so that another worker knows of it."""
    await house.add("ann@example.com", "viewer")
    page = await house.sign_in("ann@example.com")
    storage = house.gateway.storage
    await storage.execute("UPDATE sessions SET seen_at = seen_at - 100")
    await storage.bump("sessions")
    before = await storage.fetch_one("SELECT seen_at FROM sessions")
    assert not await ended(page)
    await storage.flush()
    assert (await storage.fetch_one("SELECT seen_at FROM sessions"))["seen_at"] >= before["seen_at"] + 100


@pytest.mark.parametrize(
    "cookie",
    ["raven_session=", "raven_session=x", "raven_session=x.y", f"raven_session={'a' * 43}.{'b' * 22}",
     "raven_session=" + "a" * 5000, "raven_session=é", "raven_session=a; raven_session=b"],
)  # fmt: skip
async def test_what_is_no_session_is_a_401(house: House, cookie: str) -> None:
    """In the words of one that is over; no other cookie is looked at."""
    assert await ended(Page(house, Cookie=cookie))
    status, body = await Page(house, Cookie=f"theme=dark; other_{cookie.partition(';')[0]}")(
        "GET", "/auth/me"
    )
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")


async def test_a_person_has_so_many_sessions(house: House) -> None:
    """The oldest go: nobody fills the table by signing in."""
    await house.add("ann@example.com", "viewer")
    first = await house.sign_in("ann@example.com")
    rows = "SELECT COUNT(*) AS n FROM sessions"
    await house.gateway.storage.execute("UPDATE sessions SET seen_at = seen_at - 10")
    for _ in range(20):
        await house.sign_in("ann@example.com")
    assert (await house.gateway.storage.fetch_one(rows))["n"] == 20
    assert await ended(first)


async def test_what_happened_is_in_the_audit_log(house: House) -> None:
    """Set up, sign in, change the password, sign out: who and from where, and no secret."""
    olga = await house.set_up()
    _, body = await olga("POST", "/auth/password", {"currentPassword": PASSWORD, "newPassword": OTHER})
    house.stranger.replied = olga.replied
    olga = house.enter(body)
    await olga("POST", "/auth/logout")
    _, log = await house.operator("GET", "/audit-logs")
    assert [one["action"] for one in log] == ["auth.logout", "auth.password", "auth.login", "auth.setup"]
    assert {one["targetId"] for one in log} == {body["member"]["id"]}
    assert {one["address"] for one in log} == {"127.0.0.1"}
    for secret in (PASSWORD, OTHER, olga.cookie, "argon2"):
        assert secret not in repr(log)


@pytest.mark.parametrize("idle_s", [1.0, 20.0, 90.0])
async def test_a_session_in_constant_use_goes_on_however_short_its_idle_time_is(
    open_house: Any, monkeypatch: pytest.MonkeyPatch, idle_s: float
) -> None:
    """It is idle from its last request on, not from one that was written down a minute ago."""
    house = await open_house(session_idle_s=idle_s)
    page = await house.set_up()
    now = time.time()
    monkeypatch.setattr("raven_accounts.directory.time.time", lambda: now)
    for _ in range(20):
        now += idle_s * 0.7
        assert (await page("GET", "/auth/me"))[0] == 200
    now += idle_s + 2.0
    assert (await page("GET", "/auth/me"))[0] == 401
