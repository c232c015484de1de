"""What each Claude model takes: how much it writes, how it thinks, and which fields it refuses.

Facts are those of Anthropic's own list of models (`GET /v1/models`, `capabilities`) and its pages on
extended thinking, effort and structured outputs. A model is told by its name, in any vendor's spelling
("claude-sonnet-4-5", "anthropic/claude-sonnet-4.5", "us.anthropic.claude-3-5-haiku-20241022-v1:0").
"""

from __future__ import annotations

import re

import msgspec

from raven_proxy.providers import ModelInfo

__all__ = ["DEFAULT_MAX_TOKENS", "KNOWN_MODELS", "Abilities", "abilities_of"]

DEFAULT_MAX_TOKENS = 4096
"""The bound that is sent where neither the client nor a list of models says one."""

# Family first ("claude-sonnet-4-5") since Claude 4, version first ("claude-3-5-sonnet") before.
_FAMILY_FIRST = re.compile(r"claude-([a-z]+)-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_VERSION_FIRST = re.compile(r"claude-v?(\d)(?:[-.](\d))?(?!\d)")
_LOW_TO_HIGH = ("low", "medium", "high")


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What one model takes. The defaults are those of a model of today that nobody knows yet.

    `budgets`: thinking with `budget_tokens`. `adaptive`: thinking that the model measures itself.
    `efforts`: words of `output_config.effort`; empty where it is refused. `structured`:
    `output_config.format` and strict tools. `sampling`: temperature, top_p and top_k. `always_thinks`:
    thinking cannot be turned off.
    """

    max_tokens: int | None = None
    budgets: bool = True
    adaptive: bool = False
    efforts: tuple[str, ...] = ()
    structured: bool = False
    sampling: bool = True
    always_thinks: bool = False

    @property
    def thinks(self) -> bool:
        """Whether the model can think at all."""
        return self.budgets or self.adaptive


_NEW = Abilities(
    max_tokens=128_000,
    budgets=False,
    adaptive=True,
    efforts=(*_LOW_TO_HIGH, "xhigh", "max"),
    structured=True,
    sampling=False,
)
_ALWAYS = msgspec.structs.replace(_NEW, always_thinks=True)
_FOREIGN = Abilities()  # served in Anthropic's dialect, but not Claude


def abilities_of(model: str) -> Abilities:
    """Tell what `model` takes; a Claude that is not known yet takes what the newest ones take."""
    name = model.lower()
    if "claude-instant" in name:
        return _of_old((1, 0))
    match = _FAMILY_FIRST.search(name)
    if match is not None:
        return _of_version(match[1], (int(match[2]), int(match[3] or 0)))
    match = _VERSION_FIRST.search(name)
    if match is not None:
        return _of_old((int(match[1]), int(match[2] or 0)))
    return _NEW if "claude" in name else _FOREIGN


def _of_version(family: str, version: tuple[int, int]) -> Abilities:
    if version >= (4, 7):
        return _ALWAYS if family in ("fable", "mythos") else _NEW
    if version == (4, 6):
        efforts = (*_LOW_TO_HIGH, "max")
        return Abilities(max_tokens=128_000, adaptive=True, efforts=efforts, structured=True)
    if version == (4, 5):
        return Abilities(max_tokens=64_000, efforts=_LOW_TO_HIGH if family == "opus" else (), structured=True)
    return Abilities(
        max_tokens=32_000 if family == "opus" else 64_000, structured=family == "opus" and version == (4, 1)
    )


def _of_old(version: tuple[int, int]) -> Abilities:
    if version == (3, 7):
        return Abilities(max_tokens=64_000)
    return Abilities(max_tokens=8192 if version == (3, 5) else 4096, budgets=False)


def _known(name: str, created: int, window: int, most: int) -> ModelInfo:
    return ModelInfo(id=name, created=created, owned_by="anthropic", context_window=window, max_tokens=most)


KNOWN_MODELS = (
    _known("claude-opus-5", 1_784_851_200, 1_000_000, 128_000),
    _known("claude-sonnet-5", 1_782_691_200, 1_000_000, 128_000),
    _known("claude-fable-5", 1_780_790_400, 1_000_000, 128_000),
    _known("claude-opus-4-8", 1_779_926_400, 1_000_000, 128_000),
    _known("claude-opus-4-7", 1_776_124_800, 1_000_000, 128_000),
    _known("claude-sonnet-4-6", 1_771_286_400, 1_000_000, 128_000),
    _known("claude-opus-4-6", 1_770_163_200, 1_000_000, 128_000),
    _known("claude-opus-4-5-20251101", 1_763_942_400, 200_000, 64_000),
    _known("claude-haiku-4-5-20251001", 1_760_486_400, 200_000, 64_000),
    _known("claude-sonnet-4-5-20250929", 1_759_104_000, 1_000_000, 64_000),
    _known("claude-opus-4-1-20250805", 1_754_352_000, 200_000, 32_000),
)
"""What `GET https://api.anthropic.com/v1/models` said; names that it lacks are served all the same."""
