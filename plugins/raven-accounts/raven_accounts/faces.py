"""The faces of `/auth`: paths, and what each takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raven_proxy import Exchange, Face, Reply, read_nothing
from raven_proxy.faces import Doc, Grant

from .entrance import Entrance
from .sessions import COOKIE
from .shapes import Ended, Login, Me, PasswordChange, Setup, SignedIn

__all__ = ["SETUP", "make_faces"]

SETUP = "auth-setup"
_GRANTS = (
    Grant(name="session", place="cookie", field=COOKIE, summary="The session of somebody who has signed in."),
    Grant(
        name="csrf", place="header", field="X-CSRF-Token", for_changes=True,
        summary="The `csrfToken` of the answer to a login: what changes something takes it, and an "
        "`Origin` that is the gateway's own.",
    ),
)  # fmt: skip


def make_faces(entrance: Callable[[], Entrance]) -> tuple[Face, ...]:
    """List the faces of `/auth`; `entrance` gives what is behind them once the gateway has started."""

    async def log_in(exchange: Exchange) -> Reply:
        return await entrance().log_in(exchange)

    async def log_out(exchange: Exchange) -> Reply:
        return await entrance().log_out(exchange)

    async def show_me(exchange: Exchange) -> Reply:
        return await entrance().show_me(exchange)

    async def change_password(exchange: Exchange) -> Reply:
        return await entrance().change_password(exchange)

    async def set_up(exchange: Exchange) -> Reply:
        return await entrance().set_up(exchange)

    def face(name: str, serve: Any, doc: Doc, **more: Any) -> Face:
        return Face(
            name=f"auth-{name}", path=f"/auth/{name}", read_call=read_nothing, serve=serve, doc=doc,
            json_body=doc.request is not None, **more,
        )  # fmt: skip

    def doc(summary: str, reply: Any, request: Any = None, status: int = 200, **more: Any) -> Doc:
        return Doc(summary=summary, tag="auth", request=request, reply=reply, status=status, **more)

    return (
        face("login", log_in, doc("Sign in", SignedIn, Login, grants=_GRANTS), public=True),
        face("logout", log_out, doc("Sign out", Ended), scope="admin:read", role="viewer"),
        face("me", show_me, doc("Who asks", Me), methods=("GET",), scope="models:read"),
        face(
            "password", change_password, doc("Change one's password", SignedIn, PasswordChange),
            scope="admin:read", role="viewer",
        ),
        face(
            "setup", set_up, doc("Make the first owner, once", SignedIn, Setup, 201),
            scope="admin:write", role="owner",
        ),
    )  # fmt: skip
