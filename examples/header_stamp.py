"""Stamp requests on their way to the provider, and replies on their way to the client.

A plugin without settings needs no class: a module of hooks is enough. Put this file into the folder of
`--plugins-dir`.
"""

from raven_proxy import Exchange, hookimpl


@hookimpl
async def check_request(exchange: Exchange) -> None:
    """Tell the client which key it came with: every reply to it carries this header."""
    if exchange.principal is not None:
        exchange.response_headers["x-key-name"] = exchange.principal.name or exchange.principal.key_id


@hookimpl
async def before_send(exchange: Exchange) -> None:
    """Tell the provider which team is calling, on each attempt. Header names are lower case."""
    if exchange.outgoing is not None and exchange.principal is not None:
        exchange.outgoing.headers["x-team"] = exchange.principal.organization_id
        exchange.outgoing.headers["x-gateway-request"] = exchange.id
