"""The command `raven-proxy tail`: follows `GET /logs/stream` of a running gateway, a line for each request.

aiohttp-sse-client reads the feed and, when it ends (a reload, a drain), asks for the rest with
`Last-Event-ID`. A connection that breaks is opened anew here, from the last line that was printed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import click
import msgspec

__all__ = ["describe", "plain", "tail"]

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 8.0
_SILENCE_S = 60.0  # the feed says something every 15 s, or half of a short `idle_timeout_s`
_FILTERS = ("model", "provider", "status", "outcome", "face", "key_id")
_MEANINGS = {
    401: "the gateway does not know this key",
    403: "this key may not read the log (it takes the scope admin:read)",
    404: "there is no live feed here; is this a Raven Proxy with the plugin meter?",
}


class Refused(Exception):
    """The gateway said no; the message is for people, in plain characters."""


@click.command(short_help="Follow the requests of a running gateway as they end.")
@click.option("--url", default="http://127.0.0.1:4000", show_default=True, help="Where the gateway is.")
@click.option(
    "--key", envvar="RAVEN_ADMIN_KEY", help="A key with the scope admin:read. [env: RAVEN_ADMIN_KEY]"
)
@click.option("--json", "as_json", is_flag=True, help="Print each request as a line of JSON.")
@click.option("--model", help="Only this model, as the client wrote it.")
@click.option("--provider", help="Only this upstream.")
@click.option("--status", type=click.IntRange(0, 999), help="Only this status.")
@click.option("--outcome", help="Only this outcome: completed, refused, upstream_error, …")
@click.option("--face", help="Only this face: openai-chat, anthropic-messages, …")
@click.option("--key-id", help="Only this key's requests: key_…")
def tail(url: str, key: str | None, as_json: bool, **filters: Any) -> None:
    """Follow the requests of a running gateway as they end (Ctrl-C stops it)."""
    if not key:
        raise click.UsageError("give a key with --key, or in RAVEN_ADMIN_KEY")
    query = {_camel(name): str(filters[name]) for name in _FILTERS if filters[name] is not None}
    try:
        asyncio.run(_print(url, key, query, as_json=as_json))
    except KeyboardInterrupt:
        return
    except (Refused, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        reason = str(error) if isinstance(error, Refused) else f"{url} cannot be reached: {error}"
        click.echo(f"raven-proxy: tail: {plain(reason)}", err=True)
        sys.exit(1)


def plain(text: str) -> str:
    """Take out what a terminal would obey: every character that is not printable becomes a question mark."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def describe(row: Mapping[str, Any]) -> str:
    """Make one aligned line of a row: time, status, latency, tokens, cost, model and provider, key."""
    ended = datetime.fromisoformat(row["createdAt"]).astimezone() + timedelta(milliseconds=row["latencyMs"])
    tokens = f"{row['promptTokens']}+{row['completionTokens']}{'~' if row['estimated'] else ''}"
    status = f"{row['status']}" if row["outcome"] == "completed" else f"{row['status']} {row['outcome']}"
    if row["errorCode"]:
        status += f" ({row['errorCode']})"
    place = row["model"] or row["face"]
    if row["provider"]:
        place += f" @ {row['provider']}"
    return plain(
        f"{ended:%H:%M:%S}  {row['latencyMs']:>7.0f} ms  {tokens:>13}  ${row['cost']:<11}  "
        f"{row['keyId'] or '-':<26}  {status}  {place}"
    )


async def _print(url: str, key: str, query: Mapping[str, str], *, as_json: bool) -> None:
    address = f"{url.rstrip('/')}/logs/stream"
    limits = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=_SILENCE_S)
    async with aiohttp.ClientSession(  # noqa: TID251 - a client of the gateway, in a process of its own
        headers={"Authorization": f"Bearer {key}"}, timeout=limits, raise_for_status=_judge
    ) as session:
        last = None
        async for data in _follow(session, address, query):
            row = msgspec.json.decode(data)
            # An event that a break cut off before its empty line is given when the next one comes, and again.
            if "requestId" in row and row["id"] != last:
                last = row["id"]
                click.echo(_escape(data) if as_json else describe(row))


async def _follow(
    session: aiohttp.ClientSession,  # noqa: TID251
    address: str,
    query: Mapping[str, str],
) -> AsyncIterator[str]:
    """Give the data of each event. Raises what the first connection raises, and Refused at any time."""
    from aiohttp_sse_client.client import EventSource  # here: a gateway that starts has no use for it

    again = timedelta(seconds=_FIRST_PAUSE_S)
    options = {"params": query, "allow_redirects": False}
    async with EventSource(
        address, session=session, reconnection_time=again, max_connect_retry=0, **options
    ) as source:
        while True:
            try:
                async for event in source:  # asks again by itself where the feed ended well
                    yield event.data
            except (aiohttp.ClientError, TimeoutError) as error:
                reason = type(error).__name__
                click.echo(f"raven-proxy: tail: the connection is lost ({reason}); trying again", err=True)
            await _reconnect(source)


async def _reconnect(source: Any) -> None:
    pause_s = _FIRST_PAUSE_S
    while True:
        await asyncio.sleep(pause_s)
        try:
            await source.connect()
        except (aiohttp.ClientError, TimeoutError):
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        else:
            return


async def _judge(reply: aiohttp.ClientResponse) -> None:
    """Raise Refused for what asking again will not change, before the library makes its own words of it."""
    if reply.status == 200 and reply.content_type == "text/event-stream":
        return
    if reply.status in {502, 503, 504}:
        raise aiohttp.ClientConnectionError(f"it answers {reply.status}")
    try:
        said = msgspec.json.decode(await reply.content.read(4096))["error"]["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        said = "it says nothing more"
    meaning = _MEANINGS.get(reply.status, "this is not the live feed of a Raven Proxy")
    raise Refused(f"{meaning}: {reply.status}, {said}")


def _escape(data: str) -> str:
    """Write JSON with nothing in it that a terminal would obey; what it means stays the same."""
    return "".join(letter if letter.isprintable() else _escape_letter(letter) for letter in data)


def _escape_letter(letter: str) -> str:
    units = letter.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
