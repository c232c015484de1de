"""Find a model in the packaged catalogue, by the gateway's provider name and the vendor's model name."""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from raven_proxy import ModelInfo

from .entries import CatalogueFile, ModelEntry, ProviderEntry
from .matching import canonical, matches

__all__ = ["PackagedCatalogue", "load_packaged"]

_MAX_FOUND = 4096

# The gateway's provider names where the catalogue has another. Hosts that run on the operator's own
# machines (ollama, vllm, …) are not there: they cost nothing that a list could know.
_NAMES = {
    "bedrock": "aws",
    "bedrock_mantle": "aws",
    "cohere_openai": "cohere",
    "gemini": "google",
    "gemini_openai": "google",
    "github": "github-copilot",
    "moonshot": "moonshotai",
    "vertex": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
}


class PackagedCatalogue:
    """The file, and the answers it gave. Nothing here is asked on the network."""

    def __init__(self, file: CatalogueFile) -> None:
        self.file = file
        self._providers: dict[str, ProviderEntry] = {}
        self._found: dict[tuple[str, str], ModelEntry | None] = {}

    def find(self, provider: str, model: str) -> ModelEntry | None:
        """Find what `provider` offers under the vendor's name `model`; None if it is unknown."""
        key = (provider, model)
        if key not in self._found:
            if len(self._found) >= _MAX_FOUND:  # names come from clients: bounded
                self._found.clear()
            self._found[key] = self._find(_NAMES.get(provider, provider), model.lower())
        return self._found[key]

    def describe(self, provider: str, model: str) -> ModelInfo | None:
        """Tell the core what is known of a model, for `hookspecs.register_models`."""
        entry = self.find(provider, model)
        if entry is None:
            return None
        return ModelInfo(id=model, display_name=entry.name, context_window=entry.context_window)

    def providers(self) -> list[ProviderEntry]:
        """Decode everything: for listings, not for requests."""
        return [self._provider(name) for name in self.file.providers]

    @staticmethod
    def gateway_names(provider: str) -> list[str]:
        """Name what the gateway calls a provider of the file: mostly the same, sometimes several."""
        return [provider, *(name for name, other in _NAMES.items() if other == provider)]

    def _find(self, provider: str, model: str) -> ModelEntry | None:
        if provider not in self.file.providers:
            return None
        entry = self._provider(provider)
        for name in dict.fromkeys((model, canonical(model))):
            for source in (entry, *map(self._provider, entry.fallback)):
                for candidate in source.models:
                    if matches(candidate.match, name):
                        return candidate
        return None

    def _provider(self, name: str) -> ProviderEntry:
        entry = self._providers.get(name)
        if entry is None:
            raw = self.file.providers[name]
            entry = self._providers[name] = msgspec.json.decode(raw, type=ProviderEntry)
        return entry


@cache
def load_packaged() -> PackagedCatalogue:
    """Read the file of this package, once a process; about a millisecond, since providers stay undecoded."""
    data = resources.files(__package__).joinpath("models.json").read_bytes()
    return PackagedCatalogue(msgspec.json.decode(data, type=CatalogueFile))
