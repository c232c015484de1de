"""The management API over HTTP: the faces that a resource's declaration comes to.

Roles and scopes stand on the faces, where the gateway checks them as it does for every other face.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp.web import BaseRequest
from msgspec import Meta

from raven_proxy.errors import NotFound, Unauthenticated
from raven_proxy.exchange import Exchange, Reply
from raven_proxy.faces import Doc, Face, Query, read_nothing
from raven_proxy.judging import judge

from .fields import as_validation
from .records import MAX_LIMIT, Records
from .resource import Action, ActionCall, Caller, Record, Resource, invalid

__all__ = ["PAGING", "caller_of", "make_faces", "reply_json", "reply_page"]

T = TypeVar("T")
_Serve = Callable[[Exchange], Awaitable[Reply]]
PAGING = (
    Query(
        name="limit",
        type=Annotated[int, Meta(ge=1, le=MAX_LIMIT)],
        summary=f"At most so many, 1 to {MAX_LIMIT}",
    ),
    Query(name="after", type=str, summary="The id of the last one that you have seen"),
)
"""The query of every list."""


class Deleted(msgspec.Struct):
    """The answer to every delete."""

    success: bool = True


def caller_of(exchange: Exchange) -> Caller:
    """Say who asks. Raises NotFound for an organisation in the path that is not theirs."""
    principal = exchange.principal
    if principal is None:
        raise Unauthenticated("Send a key.")
    organization_id = exchange.params.get("organization", principal.organization_id)
    if organization_id != principal.organization_id and not principal.is_operator:
        raise NotFound("There is no such organisation.")
    actor = str(principal.attributes.get("member_id") or principal.key_id)
    is_session = principal.key_id == principal.attributes.get("member_id")
    return Caller(
        organization_id=organization_id,
        actor=actor,
        key_id="" if is_session else principal.key_id,
        name=principal.name,
        role=principal.role,
        scopes=principal.scopes,
        is_operator=principal.is_operator,
        request_id=exchange.id,
        address=exchange.client_address,
    )


def make_faces(resource: Resource[Any], records: Callable[[], Records]) -> list[Face]:
    """List the faces of a resource; `records` gives what is behind them once the gateway has started."""
    operations = resource.operations
    faces = []
    if "list" in operations:
        faces.append(_list_face(resource, records))
    if "create" in operations:
        faces.append(_create_face(resource, records))
    # Before `/{id}`, which would match them.
    faces += [_action_face(resource, action, records) for action in resource.actions if action.on == "all"]
    if "get" in operations:
        faces.append(_get_face(resource, records))
    if "change" in operations:
        faces.append(_change_face(resource, records))
    if "delete" in operations:
        faces.append(_delete_face(resource, records))
    faces += [_action_face(resource, action, records) for action in resource.actions if action.on == "one"]
    return faces


def reply_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Make a JSON reply."""
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, msgspec.json.encode(value))


def reply_page(
    exchange: Exchange,
    items: Sequence[T],
    id_of: Callable[[T], str],
    show: Callable[[T], Any] = lambda item: item,
) -> Reply:
    """Answer with the page of a list in memory that the query asks for. Raises InvalidRequest."""
    query = _query(exchange.request)
    limit, after, start = read_limit(query), query.get("after"), 0
    if after is not None:
        start = next((place for place, item in enumerate(items, 1) if id_of(item) == after), 0)
        if not start:
            raise invalid("after", f"there is no {after[:100]!r} in this list")
    page = items[start : start + limit]
    more = id_of(page[-1]) if start + limit < len(items) else None
    return reply_json([show(item) for item in page], headers=_link(exchange, limit, more))


def read_limit(query: Mapping[str, str]) -> int:
    """Read `limit`. Raises InvalidRequest."""
    text = query.get("limit")
    if text is None:
        return MAX_LIMIT
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT:
        return int(text[:9])
    raise invalid("limit", f"must be a whole number from 1 to {MAX_LIMIT}")


async def _show(
    resource: Resource[Any], records: Records, record: Record[Any], caller: Caller
) -> dict[str, Any]:
    shown = await records.show(resource, record)
    return resource.conceal(caller, shown) if resource.conceal is not None else shown


# -- one face each ---------------------------------------------------------------------


def _list_face(resource: Resource[Any], records: Callable[[], Records]) -> Face:
    columns = {name: _snake(name) for name in resource.filters}

    async def serve(exchange: Exchange) -> Reply:
        query = _query(exchange.request)
        where = {column: query[name] for name, column in columns.items() if name in query}
        narrowed = resource.narrow(query) if resource.narrow is not None else ()
        limit, after, caller = read_limit(query), query.get("after"), caller_of(exchange)
        page, more = await records().find(
            resource, caller, limit=limit, after=after, where=where, narrowed=narrowed
        )
        shown = [await _show(resource, records(), record, caller) for record in page]
        return reply_json(shown, headers=_link(exchange, limit, more))

    query = (
        *PAGING,
        *(Query(name=name, type=str, summary=f"Only those with this {name}") for name in columns),
        *resource.queries,
    )
    doc = Doc(
        summary=f"List: {resource.summary}", tag=resource.name, reply=resource, is_list=True, query=query
    )
    return _face(resource, records, "list", "GET", "", serve, doc)


def _create_face(resource: Resource[Any], records: Callable[[], Records]) -> Face:
    async def serve(exchange: Exchange) -> Reply:
        return reply_json(await records().create(resource, exchange.body, caller_of(exchange)), 201)

    doc = Doc(
        summary=f"Create {_a(resource)}", tag=resource.name, request=resource.body, reply=resource, status=201
    )
    return _face(resource, records, "create", "POST", "", serve, doc)


def _get_face(resource: Resource[Any], records: Callable[[], Records]) -> Face:
    async def serve(exchange: Exchange) -> Reply:
        caller = caller_of(exchange)
        record = await records().get(resource, exchange.params["id"], caller)
        return reply_json(await _show(resource, records(), record, caller))

    doc = Doc(summary=f"Get {_a(resource)}", tag=resource.name, reply=resource)
    return _face(resource, records, "get", "GET", "/{id}", serve, doc)


def _change_face(resource: Resource[Any], records: Callable[[], Records]) -> Face:
    async def serve(exchange: Exchange) -> Reply:
        changed = await records().change(
            resource,
            exchange.params["id"],
            exchange.body,
            caller_of(exchange),
            replace=exchange.request.method == "PUT",
        )
        return reply_json(changed)

    doc = Doc(
        summary=f"Change {_a(resource)}",
        tag=resource.name,
        request=resource.body,
        reply=resource,
        partial=True,
    )
    return _face(resource, records, "change", "PATCH PUT", "/{id}", serve, doc)


def _delete_face(resource: Resource[Any], records: Callable[[], Records]) -> Face:
    async def serve(exchange: Exchange) -> Reply:
        await records().delete(resource, exchange.params["id"], caller_of(exchange))
        return reply_json({"success": True})

    doc = Doc(summary=f"Delete {_a(resource)}", tag=resource.name, reply=Deleted)
    return _face(resource, records, "delete", "DELETE", "/{id}", serve, doc)


def _action_face(resource: Resource[Any], action: Action, records: Callable[[], Records]) -> Face:
    decode = msgspec.json.Decoder(action.body).decode if action.body is not None else None

    async def serve(exchange: Exchange) -> Reply:
        caller, kept = caller_of(exchange), records()
        record = await kept.get(resource, exchange.params["id"], caller) if action.on == "one" else None
        body = None
        if decode is not None:
            body = as_validation(lambda: judge(decode, exchange.body or b"{}"))
        result = await action.run(
            ActionCall(caller=caller, records=kept, record=record, body=body, query=_query(exchange.request))
        )
        return result if isinstance(result, Reply) else reply_json(result)

    path = f"/{{id}}/{action.name}" if action.on == "one" else f"/{action.name}"
    doc = Doc(
        summary=action.summary, tag=resource.name, request=action.body, reply=action.reply,
        media=action.media, query=action.query,
    )  # fmt: skip
    face = _face(resource, records, action.name, action.method, path, serve, doc)
    json_body = action.method != "GET" and action.body is not None
    return msgspec.structs.replace(face, role=action.role or face.role, json_body=json_body)


def _face(
    resource: Resource[Any],
    records: Callable[[], Records],
    name: str,
    methods: str,
    path: str,
    serve: _Serve,
    doc: Doc,
) -> Face:
    writes = methods != "GET"

    async def serve_and_spread(exchange: Exchange) -> Reply:
        """Answer when the change holds in every worker: whoever reads the answer goes on from there."""
        reply = await serve(exchange)
        await records().spread()
        return reply

    return Face(
        name=f"{resource.name}-{name}",
        path=resource.base_path + path,
        methods=tuple(methods.split()),
        scope="admin:write" if writes else "admin:read",
        role=resource.write_role if writes else resource.read_role,
        read_call=read_nothing,
        json_body=writes and methods != "DELETE",
        serve=serve_and_spread if writes else serve,
        doc=doc,
    )


def _link(exchange: Exchange, limit: int, more: str | None) -> Mapping[str, str]:
    """Name the next page (RFC 8288), if there is more."""
    if more is None:
        return {}
    rest = exchange.request.rel_url.update_query(limit=str(limit), after=more)
    return {"Link": f'<{rest}>; rel="next"'}


def _query(request: BaseRequest) -> Mapping[str, str]:
    return request.query


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _a(resource: Resource[Any]) -> str:
    return f"{'an' if resource.singular[0] in 'aeiou' else 'a'} {resource.singular}"
