"""What a management resource is, who asks for it, and what its own rules get to see.

Declarations only: nothing here reads a request or a row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from raven_proxy.errors import InvalidRequest
from raven_proxy.faces import Query

if TYPE_CHECKING:
    from raven_proxy.storage import Row, Transaction

    from .records import Records

__all__ = [
    "NOBODY",
    "ROLES",
    "SYSTEM",
    "Action",
    "ActionCall",
    "Caller",
    "Change",
    "Condition",
    "Operation",
    "Record",
    "Resource",
    "Role",
    "Secret",
    "Unkept",
    "invalid",
    "outranks",
]

B = TypeVar("B", bound=msgspec.Struct)
Role = Literal["viewer", "developer", "admin", "owner"]
Operation = Literal["list", "get", "create", "change", "delete"]

Condition = tuple[str, tuple[Any, ...]]
"""A condition on rows, in SQL with a `?` for each of its values."""

ROLES: tuple[Role, ...] = ("viewer", "developer", "admin", "owner")
"""The roles, the least first; each may do what those before it may."""

Secret = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=16384,
        extra={"secret": True},
        extra_json_schema={"writeOnly": True, "format": "password"},
    ),
]
"""The type of a field that can be written and never read: sealed in the table, shown as its last four."""

Unkept = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1024,
        extra={"unkept": True},
        extra_json_schema={"writeOnly": True, "format": "password"},
    ),
]
"""The type of a field that is judged and thrown away: the resource's rules keep something else (a digest).

It has no column and is never shown; its default is None.
"""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and for which organisation. `is_operator` is true of who runs the gateway: any organisation
    is theirs. `key_id` is the key they came with: a key of a member's acts for its own organisation only,
    wherever else that person belongs.
    """

    organization_id: str
    actor: str  # "key_…", "mem_…", or "system"
    key_id: str = ""  # none: a session, or the command line
    name: str = ""
    role: str = "viewer"
    scopes: frozenset[str] = frozenset()
    is_operator: bool = False
    request_id: str = ""
    address: str = ""


SYSTEM = Caller(organization_id="org_default", actor="system", name="command line", role="owner",
                is_operator=True)  # fmt: skip
"""The gateway itself, and who has its files: the command line."""

NOBODY = Caller(organization_id="", actor="")


class Record(msgspec.Struct, Generic[B], frozen=True, kw_only=True):
    """One thing as it is kept. Secrets of `body` are masked; `Records.reveal` opens one.

    `columns` is the whole row, with what the resource's own rules wrote there.
    """

    id: str
    organization_id: str
    created_at: datetime
    body: B
    columns: Row


class Change(msgspec.Struct, Generic[B], kw_only=True):
    """A create (`before` is None) or a change, decoded and about to be written in `transaction`.

    A `check` rule raises `invalid(…)`, may fill `columns` (columns beside the body's) and `reply`
    (members that this answer alone shows), and may put another `body`. `given` are the fields that were
    sent, `id` is the record's, `prepared` what the resource's `prepare` gave.
    """

    id: str
    caller: Caller
    transaction: Transaction
    body: B
    before: Record[B] | None
    given: frozenset[str]
    prepared: Any = None
    columns: dict[str, Any] = {}
    reply: dict[str, Any] = {}


class ActionCall(msgspec.Struct, kw_only=True):
    """One call of an `Action`. `record` is None for an action on the whole collection."""

    caller: Caller
    records: Records
    record: Record[Any] | None
    body: Any
    query: Mapping[str, str]


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """Something more that can be done: `POST /keys/{id}/rotate` (`on="one"`), `GET /logs/export` ("all").

    `run` gives what is written as JSON, or a `Reply`. What writes (all but GET) is noted in the audit log.
    """

    name: str
    summary: str
    run: Callable[[ActionCall], Awaitable[Any]]
    on: Literal["one", "all"] = "one"
    method: Literal["GET", "POST"] = "POST"
    body: Any = None  # the type of the request's body, if it has one
    reply: Any = None  # the type of the answer, for the documentation
    media: str = "application/json"
    query: tuple[Query, ...] = ()
    role: Role | None = None  # the resource's own roles, if None


class Resource(msgspec.Struct, Generic[B], frozen=True, kw_only=True):
    """One kind of thing of the management API.

    `body` is a camelCase Struct of what can be written; it forbids unknown fields, and a default makes a
    field optional. `shown` is a Struct of what reading adds. `table` needs the columns `id`,
    `organization_id` and `created_at` (Unix seconds), and one for each field of `body` under its name;
    the plugin makes it with its migrations. Lists, dicts and Structs are JSON in a TEXT column, times Unix
    seconds, secrets sealed bytes. `unique` names fields that no two of an organisation may share. `check`
    judges a create or change, `forget` a delete, `show` adds to what is read; all may be left out. Every
    change is announced as the topic `name`.

    `check` and `forget` run inside the write transaction: what takes its time (hashing a password) belongs
    into `prepare`, which sees the fields as they were sent, before anything is judged or locked; None means
    that there was nothing to do. `conceal` may leave out of a record, as it is read, what a caller's role is
    not to see. `visible` says whose rows a caller sees where that is not just their
    organisation's: the ids of organisations, None for all. Who sees a row need not be allowed to change it:
    that is for `check` and `forget`.
    """

    name: str
    singular: str
    table: str
    prefix: str
    body: type[B]
    summary: str
    example: Mapping[str, Any] = {}  # a body that makes one
    path: str = ""  # "/name" if left out; may hold {organization}
    shown: type[msgspec.Struct] | None = None
    created: type[msgspec.Struct] | None = None  # what only the answer to a create adds, for its document
    holds_all: bool = False  # each is an organisation: when one goes, everything that is its own goes with it
    operations: frozenset[Operation] = frozenset({"list", "get", "create", "change", "delete"})
    unique: tuple[str, ...] = ("name",)
    most: int = 10_000  # of one organisation
    filters: tuple[str, ...] = ()  # columns that the query of a list may ask for, as camelCase
    narrow: Callable[[Mapping[str, str]], Sequence[Condition]] | None = None  # what else that query asks for
    queries: tuple[Query, ...] = ()  # the parameters that `narrow` reads
    newest_first: bool = False
    ids_rise: bool = False  # with time: then their order is the list's, and no other index is needed
    written_behind: bool = False  # rows are queued (`Storage.write_behind`): written before they are read
    read_role: Role = "viewer"
    write_role: Role = "admin"
    visible: Callable[[Caller], tuple[str, ...] | None] | None = None
    prepare: Callable[[Mapping[str, Any]], Awaitable[Any]] | None = None
    check: Callable[[Change[B]], Awaitable[None]] | None = None
    forget: Callable[[Caller, Record[B], Transaction], Awaitable[None]] | None = None
    show: Callable[[Record[B]], Awaitable[Mapping[str, Any]]] | None = None
    conceal: Callable[[Caller, dict[str, Any]], dict[str, Any]] | None = None
    actions: tuple[Action, ...] = ()

    @property
    def base_path(self) -> str:
        """Give the path of the collection."""
        return self.path or f"/{self.name}"

    def places_of(self, caller: Caller) -> tuple[str, ...] | None:
        """Give the organisations whose rows a caller sees; None for all."""
        return (caller.organization_id,) if self.visible is None else self.visible(caller)


def outranks(role: str, least: str) -> bool:
    """Say whether a role may do what takes `least`. An unknown role may do nothing."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(least)


def invalid(param: str, message: str) -> InvalidRequest:
    """Make the 400 of a bad field: `invalid("expiresAt", "must be in the future")`."""
    return InvalidRequest(f"{param}: {message}.", type="validation_error", param=param)
