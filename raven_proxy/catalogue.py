"""What a model's name stands for: an alias, `upstream/model`, `provider/model`, or a bare id.

Resolution reads config alone and never the network. Which of several candidates is used, and in
what order, is for `choose_upstreams`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import msgspec

from .config import ModelAlias
from .errors import ConfigError, InvalidRequest
from .exchange import Candidate, Principal
from .providers import ModelInfo
from .upstream import Upstream

__all__ = ["Catalogue", "may_call"]

_CACHE_SIZE = 4096


class Catalogue:
    """An immutable table of names, built at start and reload."""

    def __init__(self, upstreams: Mapping[str, Upstream], aliases: Iterable[ModelAlias]) -> None:
        self._upstreams = upstreams
        self._aliases: dict[str, tuple[Candidate, ...]] = {}
        self._resolved: dict[str, tuple[Candidate, ...]] = {}
        for alias in aliases:
            self._aliases[alias.name] = tuple(
                candidate for target in alias.all_targets() for candidate in self._target(alias.name, target)
            )

    def resolve(self, name: str) -> tuple[Candidate, ...]:
        """List the places that serve `name`, in config order.

        Raises InvalidRequest (400, `model_not_found`, param "model") for an unknown name.
        """
        found = self._resolved.get(name)
        if found is None:
            found = self._find(name)
            if not found:
                raise InvalidRequest(
                    f"The model {name!r} is unknown here; GET /v1/models lists the ones you may call.",
                    code="model_not_found",
                    param="model",
                )
            if len(self._resolved) < _CACHE_SIZE:  # names come from clients: bounded
                self._resolved[name] = found
        return found

    def forget(self) -> None:
        """Look names up anew: upstreams have learned what they offer."""
        self._resolved = {}

    def raw_upstreams(self, name: str) -> tuple[Candidate, ...]:
        """List the upstreams that `/v1/{name}/…` addresses: that upstream, or that provider's."""
        if name in self._upstreams:
            return (Candidate(self._upstreams[name], None),)
        return tuple(Candidate(u, None) for u in self._upstreams.values() if u.preset == name)

    def list_models(self, principal: Principal) -> list[ModelInfo]:
        """List what this key may call, by name: aliases, then what upstreams are known to offer."""
        seen: dict[str, ModelInfo] = {}
        for alias, candidates in self._aliases.items():
            if may_call(principal, alias, candidates):
                place = candidates[0]
                info = place.upstream.describe(place.model or "")
                seen[alias] = msgspec.structs.replace(info, id=alias, owned_by=place.upstream.preset)
        for upstream in self._upstreams.values():
            known = (*upstream.provider.known_models(upstream.preset), *upstream.listed)
            named = [model for model in upstream.models if not _is_pattern(model)]
            for name in (*(model.id for model in known), *named):
                if name not in seen and may_call(principal, name, (Candidate(upstream, name),)):
                    seen[name] = upstream.describe(name)
        return list(seen.values())

    def _find(self, name: str) -> tuple[Candidate, ...]:
        if name in self._aliases:
            return self._aliases[name]
        prefix, slash, rest = name.partition("/")
        if slash and rest:
            if prefix in self._upstreams:
                return (Candidate(self._upstreams[prefix], rest),)
            same = [u for u in self._upstreams.values() if u.preset == prefix]
            if same:
                return tuple(Candidate(u, rest) for u in same)
        return self._find_bare(name)

    def _find_bare(self, name: str) -> tuple[Candidate, ...]:
        offering = [u for u in self._upstreams.values() if u.offers(name) or u.lists(name)]
        if not offering:
            # An upstream without `models` takes what no other claims.
            unlisted = [u for u in self._upstreams.values() if not u.models and not u.implicit]
            offering = [u for u in unlisted if u.preset == unlisted[0].preset]
        return tuple(Candidate(u, name) for u in offering)

    def _target(self, alias: str, target: str) -> tuple[Candidate, ...]:
        prefix, _, model = target.partition("/")
        if prefix in self._upstreams and model:
            return (Candidate(self._upstreams[prefix], model),)
        same = tuple(Candidate(u, model) for u in self._upstreams.values() if u.preset == prefix and model)
        if not same:
            raise ConfigError(
                f"[[models]] {alias}: target {target!r} is not upstream/model; "
                f"upstreams: {', '.join(self._upstreams) or 'none'}"
            )
        return same


def may_call(principal: Principal, name: str | None, candidates: Iterable[Candidate]) -> bool:
    """Say whether a key's `allowed_models` admit a name, or the place it resolves to.

    A pattern matches the name as the client wrote it (None where only the place counts), the place
    (`upstream/model`, `provider/model`), or, without a slash, the bare model. Every candidate must
    be admitted: a fallback cannot lead where the key may not go.
    """
    patterns = principal.allowed_models
    if patterns is None:
        return True
    if name is not None and _matches(name, patterns):
        return True
    bare = [pattern for pattern in patterns if "/" not in pattern]
    places = list(candidates)
    return bool(places) and all(
        not {"*", f"{place.upstream.name}/*", f"{place.upstream.preset}/*"}.isdisjoint(patterns)
        if place.model is None
        else _matches(f"{place.upstream.name}/{place.model}", patterns)
        or _matches(f"{place.upstream.preset}/{place.model}", patterns)
        or _matches(place.model or "", bare)
        for place in places
    )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_pattern(name: str) -> bool:
    return any(letter in name for letter in "*?[")
