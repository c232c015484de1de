"""What a model's name stands for: an alias, `upstream/model`, `provider/model`, or a bare id.

Resolution reads what is in memory and never the network. What the caller's organisation holds comes before
what everybody has. Which of several candidates is used, and in what order, is for `choose_upstreams`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import msgspec

from .config import ModelAlias
from .errors import ConfigError, InvalidRequest
from .exchange import Candidate, Principal
from .holdings import Held, Holding, Holdings, Match
from .providers import ModelInfo
from .upstream import Upstream

__all__ = ["Catalogue", "may_call"]

_CACHE_SIZE = 4096


class Catalogue:
    """An immutable table of names, built at start and reload."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        aliases: Iterable[ModelAlias],
        holdings: Holdings | None = None,
    ) -> None:
        self.holdings = holdings or Holdings()
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
                raise self._unknown(name)
            if len(self._resolved) < _CACHE_SIZE:  # names come from clients: bounded
                self._resolved[name] = found
        return found

    def resolve_in(self, holding: Holding, name: str, *, brings_key: bool) -> tuple[Candidate, ...]:
        """List the places that serve `name` for an organisation: its own in their order, then everybody's.

        `brings_key` says that the caller has a key of their own. Raises InvalidRequest for an unknown name,
        NoActiveKey (503) for one that only upstreams serve which are switched off or lack their key.
        """
        match = holding.matches.get(name)
        if match is None:
            match = self._match(holding, name)
            if not match.own and not match.others:
                raise self._unknown(name)
            holding.keep(name, match)
        return holding.pick(match, brings_key=brings_key)

    def forget(self) -> None:
        """Look names up anew: upstreams have learned what they offer."""
        self._resolved = {}
        self.holdings.forget()

    def raw_upstreams(
        self, name: str, holding: Holding | None = None, *, brings_key: bool = False
    ) -> tuple[Candidate, ...]:
        """List the upstreams that `/v1/{name}/…` addresses: that upstream, or that provider's.

        Raises NoActiveKey (503) where all are an organisation's own and switched off.
        """
        own = holding.named(name) if holding is not None else ()
        if holding is None or not own:
            return self._named(name, None)
        others = () if holding.is_one(name) else self._named(name, None)
        return holding.pick(Match(own, None, others), brings_key=brings_key)

    def list_models(self, principal: Principal, holding: Holding | None = None) -> list[ModelInfo]:
        """List what this key may call, by name: aliases, then what upstreams are known to offer."""
        seen: dict[str, ModelInfo] = {}
        for alias, candidates in self._aliases.items():
            if may_call(principal, alias, candidates):
                place = candidates[0]
                info = place.upstream.describe(place.model or "")
                seen[alias] = msgspec.structs.replace(info, id=alias, owned_by=place.upstream.preset)
        held = holding.upstreams().values() if holding is not None else ()
        for upstream in (*held, *self._upstreams.values()):
            known = (*upstream.provider.known_models(upstream.preset), *upstream.listed)
            named = [model for model in upstream.models if not _is_pattern(model)]
            for name in (*(model.id for model in known), *named):
                if name not in seen and may_call(principal, name, (Candidate(upstream, name),)):
                    seen[name] = upstream.describe(name)
        return list(seen.values())

    def _unknown(self, name: str) -> InvalidRequest:
        prefix = name.partition("/")[0]
        why = f"The model {name!r} is unknown here"
        if prefix != name and prefix in self.holdings.providers:
            why += f", as no upstream of the provider {prefix!r} is set up"
        return InvalidRequest(
            f"{why}; GET /v1/models lists the ones you may call.", code="model_not_found", param="model"
        )

    def _find(self, name: str) -> tuple[Candidate, ...]:
        if name in self._aliases:
            return self._aliases[name]
        prefix, slash, rest = name.partition("/")
        if slash and rest and (named := self._named(prefix, rest)):
            return named
        return self._find_bare(name)

    def _named(self, name: str, model: str | None) -> tuple[Candidate, ...]:
        if name in self._upstreams:
            return (Candidate(self._upstreams[name], model),)
        return tuple(Candidate(u, model) for u in self._upstreams.values() if u.preset == name)

    def _find_bare(self, name: str) -> tuple[Candidate, ...]:
        offering = [upstream for upstream in self._upstreams.values() if _has(upstream, name)]
        if not offering:
            # An upstream without `models` takes what no other claims.
            unlisted = self._unlisted()
            offering = [u for u in unlisted if u.preset == unlisted[0].preset]
        return tuple(Candidate(u, name) for u in offering)

    def _unlisted(self) -> list[Upstream]:
        return [u for u in self._upstreams.values() if not u.models and not u.implicit]

    def _match(self, holding: Holding, name: str) -> Match:
        if name in self._aliases:  # the config's word, for everybody
            return Match((), None, self._aliases[name])
        prefix, slash, rest = name.partition("/")
        if slash and rest:
            own = holding.named(prefix)
            others = () if holding.is_one(prefix) else self._named(prefix, rest)
            if own or others:
                return Match(own, rest, others)
        own = tuple(one for one in holding.held if _has(one.upstream, name))
        offering = [upstream for upstream in self._upstreams.values() if _has(upstream, name)]
        if not own and not offering:
            own, offering = self._match_unlisted(holding)
        return Match(own, name, tuple(Candidate(upstream, name) for upstream in offering))

    def _match_unlisted(self, holding: Holding) -> tuple[tuple[Held, ...], list[Upstream]]:
        """Find those without `models`: of one provider, the first that is switched on."""
        own = [one for one in holding.held if not one.upstream.models]
        others = self._unlisted()
        active = [one.upstream for one in own if one.is_active]
        ranked = [*active, *others, *(one.upstream for one in own)]
        if not ranked:
            return (), []
        preset = ranked[0].preset
        return (
            tuple(one for one in own if one.upstream.preset == preset),
            [upstream for upstream in others if upstream.preset == preset],
        )

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


def _has(upstream: Upstream, model: str) -> bool:
    return upstream.offers(model) or upstream.lists(model)


def may_call(principal: Principal, name: str | None, candidates: Iterable[Candidate]) -> bool:
    """Say whether a key's `allowed_models` admit a name, or the place it resolves to.

    A pattern matches the name as the client wrote it (None where only the place counts), the place
    (`upstream/model` by name or label, `provider/model`), or, without a slash, the bare model. Every
    candidate must be admitted: a fallback cannot lead where the key may not go.
    """
    patterns = principal.allowed_models
    if patterns is None:
        return True
    if name is not None and _matches(name, patterns):
        return True
    bare = [pattern for pattern in patterns if "/" not in pattern]
    places = list(candidates)
    return bool(places) and all(
        not {"*", *(f"{name}/*" for name in _names(place))}.isdisjoint(patterns)
        if place.model is None
        else any(_matches(f"{name}/{place.model}", patterns) for name in _names(place))
        or _matches(place.model or "", bare)
        for place in places
    )


def _names(place: Candidate) -> tuple[str, str, str]:
    return place.upstream.name, place.upstream.label, place.upstream.preset


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_pattern(name: str) -> bool:
    return any(letter in name for letter in "*?[")
