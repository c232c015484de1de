"""`GET /plugins`: which plugins are on, in order of call, and what each brings.

Filled in where a pipeline is assembled; a plugin's own files and settings are never shown.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

import msgspec

from . import hookspecs
from .exchange import Exchange, Reply
from .faces import Doc, Face, read_nothing
from .resources.routes import PAGING, reply_page

if TYPE_CHECKING:
    import pluggy

    from .plugins import Plugin

__all__ = ["ListedPlugin", "Registered", "list_plugin", "plugins_face"]

_HOOKS = [name for name, spec in vars(hookspecs).items() if hasattr(spec, f"{hookspecs.PROJECT}_spec")]


class Registered(msgspec.Struct):
    """What one plugin registered, by name: "POST /v1/messages", "keys", a provider or preset."""

    faces: list[str] = []
    resources: list[str] = []
    providers: list[str] = []


class ListedPlugin(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin. `source` is its distribution, or the name of its file; `hooks` come in order of call."""

    name: str
    version: str
    source: str
    hooks: tuple[str, ...]
    faces: tuple[str, ...]
    resources: tuple[str, ...]
    providers: tuple[str, ...]


def list_plugin(plugin: Plugin, manager: pluggy.PluginManager, registered: Registered) -> ListedPlugin:
    """Describe a registered plugin."""
    has = {caller.name for caller in manager.get_hookcallers(plugin.instance) or ()}
    return ListedPlugin(
        name=plugin.name,
        version=plugin.version,
        source=PurePath(plugin.source).name,  # where a machine keeps its files is not for everybody
        hooks=tuple(name for name in _HOOKS if name in has),
        faces=tuple(registered.faces),
        resources=tuple(registered.resources),
        providers=tuple(registered.providers),
    )


def plugins_face() -> Face:
    """Build the face `GET /plugins`."""
    return Face(
        name="plugins",
        path="/plugins",
        methods=("GET",),
        scope="admin:read",
        role="viewer",
        read_call=read_nothing,
        json_body=False,
        serve=_serve,
        doc=Doc(
            summary="Which plugins are on, in order of call, and what each brings",
            tag="gateway",
            reply=ListedPlugin,
            is_list=True,
            query=PAGING,
        ),
    )


async def _serve(exchange: Exchange) -> Reply:
    return reply_page(exchange, exchange.pipeline.listed, lambda one: one.name)
