"""Build a `Pipeline` from a config: plugins, faces, providers, upstreams, aliases.

The order is that of the errors a person would want to see first. Nothing is bound and no plugin
is started here: `raven-proxy check` stops after it.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import plugins as loader
from .catalogue import Catalogue
from .config import Config, UpstreamConfig
from .errors import ConfigError
from .faces import Face
from .holdings import Holdings
from .pipeline import Pipeline
from .plugin_list import Registered, list_plugin
from .providers import Checking, Provider, find_provider
from .resources import AUDIT_LOG, Records, Resource
from .resources.routes import make_faces
from .routes import RESERVED, Routes
from .upstream import Describe, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["assemble"]


class _Registry:
    """Collects what plugins register; a duplicate is an error at the line that caused it."""

    def __init__(self) -> None:
        self.faces: dict[tuple[str, str], Face] = {}
        self.providers: dict[str, Provider] = {}
        self.implicit: list[str] = []
        self.describers: list[Describe] = []
        self.resources: dict[str, Resource[Any]] = {}
        self.by_plugin: dict[str, Registered] = {}
        self._current = Registered()  # whose turn it is to register; the core's own at first

    def begin(self, plugin: str) -> None:
        self._current = self.by_plugin.setdefault(plugin, Registered())

    def add_face(self, face: Face) -> None:
        if not isinstance(face, Face):
            raise TypeError(f"expected a Face, got {type(face).__name__}")
        for method in face.methods:
            if (method, face.path) in self.faces:
                raise ConfigError(
                    f"{method} {face.path} is already served by {self.faces[method, face.path].name!r}"
                )
            self.faces[method, face.path] = face
            self._current.faces.append(f"{method} {face.path}")

    def add_route(self, face: Face) -> None:
        if face.serve is None or not inspect.iscoroutinefunction(face.serve):
            raise ConfigError(f"the route {face.path} needs an async serve function")
        self.add_face(face)

    def add_resource(self, resource: Resource[Any]) -> None:
        if resource.name in self.resources:
            raise ConfigError(f"the resource {resource.name!r} is already registered")
        self.resources[resource.name] = resource
        self._current.resources.append(resource.name)

    def add_provider(
        self, provider: Provider, presets: Iterable[str] = (), *, implicit: bool = False
    ) -> None:
        for name in (provider.name, *presets):
            if name in self.providers:
                raise ConfigError(f"the provider {name!r} is already registered")
            self.providers[name] = provider
            self._current.providers.append(name)
        if implicit:  # an upstream of its own name exists without any config
            self.implicit.append(provider.name)


def assemble(
    config: Config,
    core: Iterable[Face],
    drop_in_dir: Path | None = None,
    records: Callable[[], Records] | None = None,
) -> Pipeline:
    """Build the pipeline of a config; `records` is what serves the resources, if they are to be served.

    Raises ConfigError with what is wrong in one line.
    """
    plugins = loader.load(config, drop_in_dir)
    manager = loader.register(plugins)
    registry = _Registry()
    for face in core:
        registry.add_face(face)
    if records is not None:
        registry.add_resource(AUDIT_LOG)
    for hook, add in (
        ("register_providers", registry.add_provider),
        ("register_models", registry.describers.append),
        ("register_faces", registry.add_face),
        ("register_routes", registry.add_route),
        ("register_resources", registry.add_resource),
    ):
        loader.call_register(manager, hook, add, registry.begin)
    listed = [list_plugin(one, manager, registry.by_plugin.get(one.name, Registered())) for one in plugins]
    for resource in registry.resources.values():
        for face in make_faces(resource, records or _nothing_is_served):
            registry.add_face(face)
    upstreams = _build_upstreams(config, registry)
    hooks, plain = loader.resolve_hooks(manager, plugins)
    faces = {id(face): face for face in registry.faces.values()}.values()
    routes = Routes(faces)
    holdings = Holdings(
        registry.providers, tuple(registry.describers), allow_private=config.allow_private_upstreams
    )
    catalogue = Catalogue(upstreams, config.models, holdings)
    resources = tuple(registry.resources.values())
    return Pipeline(config, plugins, hooks, plain, routes, catalogue, upstreams, resources, tuple(listed))


def _nothing_is_served() -> Records:
    raise RuntimeError("this pipeline was built to be looked at")


def _build_upstreams(config: Config, registry: _Registry) -> dict[str, Upstream]:
    upstreams: dict[str, Upstream] = {}
    named = {upstream.name for upstream in config.upstreams}
    implicit = [UpstreamConfig(name=name, provider=name) for name in registry.implicit if name not in named]
    for table in (*config.upstreams, *implicit):
        if table.name in RESERVED:
            raise ConfigError(f"[[upstreams]] {table.name}: this name is a path under /v1; choose another")
        try:
            provider = find_provider(registry.providers, table.provider)
            if isinstance(provider, Checking):
                provider.check_options(table.provider, table.options)
        except ConfigError as error:
            raise ConfigError(f"[[upstreams]] {table.name}: {error}") from None
        upstreams[table.name] = Upstream(
            table,
            provider,
            allow_private=table.allow_private or config.allow_private_upstreams,
            implicit=table in implicit,
            describers=tuple(registry.describers),
        )
    return upstreams
