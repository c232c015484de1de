"""Guardrails ready to run: compiled, in order, and asked about texts.

Responsible for what is found in one text and what becomes of it. Every guardrail sees the text as it came;
one that blocks wins over one that redacts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from .finders import Finder, make_finder
from .patterns import Compiled, Needle, any_of, tail_of
from .rules import Action, Direction, Guardrail, JsonSchema, MaxLength, Webhook, read_config
from .schemas import Schema
from .views import View, readings_of, views_of

__all__ = ["MARK", "Edit", "Found", "Rule", "RuleSet", "edit", "edits_of", "make_rule"]


MARK = "[REDACTED]"
"""What stands for what was redacted, where a guardrail says nothing else."""
_BETWEEN = "\n\x01\n"  # between texts that are looked at together; a border on both sides
# Bytes that are judged where everybody else waits meanwhile: some milliseconds at the very most.
_MOST_AT_ONCE = 16 * 1024
_MOST_WITH_OTHERS = 2 * 1024  # where somebody else's patterns are, which may need microseconds for a byte
_MOST_IN_A_ROW = 4096  # of `Finder.size`
_ANCHORS = ("^", "$", r"\A", r"\z", r"\B")


class Rule(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One guardrail, compiled: it has one of `finder`, `most` (characters), `schema` and `webhook`."""

    id: str
    name: str
    type: str
    action: Action
    applies_to: str
    priority: int = 100
    shadow: bool = False
    replacement: str = MARK
    finder: Finder | None = None
    most: int | None = None
    schema: Schema | None = None
    webhook: Webhook | None = None

    @property
    def is_stored(self) -> bool:
        """Whether it is an organisation's own, and does not stand in the gateway's config."""
        return self.id.startswith("guard_")

    @property
    def enforces(self) -> bool:
        """Whether it may refuse or change something."""
        return not self.shadow and self.action in ("block", "redact")

    @property
    def must_agree(self) -> bool:
        """Whether it is a webhook without whose answer nothing passes."""
        return self.enforces and self.webhook is not None and self.webhook.on_error == "block"


def make_rule(rule_id: str, declared: Guardrail) -> Rule:
    """Compile a guardrail. Raises InvalidRule."""
    config = read_config(declared)
    return Rule(
        id=rule_id,
        name=declared.name,
        type=declared.type,
        action=declared.action,
        applies_to=declared.applies_to,
        priority=declared.priority,
        shadow=declared.shadow,
        replacement=getattr(config, "replacement", MARK),
        finder=make_finder(config),
        most=config.max_characters if isinstance(config, MaxLength) else None,
        schema=Schema(config.schema) if isinstance(config, JsonSchema) else None,
        webhook=config if isinstance(config, Webhook) else None,
    )


class Found(msgspec.Struct, frozen=True):
    """One guardrail found something at a span of the text."""

    rule: Rule
    start: int
    end: int


class Edit(msgspec.Struct, frozen=True):
    """A span that has to give way to `replacement`."""

    start: int
    end: int
    replacement: str


class RuleSet:
    """The guardrails of one organisation in one direction, the smallest priority first."""

    def __init__(self, rules: Iterable[Rule], direction: Direction) -> None:
        self.direction = direction
        self.rules = tuple(sorted(rules, key=lambda rule: (rule.priority, rule.name, rule.id)))
        self.finding = tuple(rule for rule in self.rules if rule.finder is not None)
        self.lengths = tuple(rule for rule in self.rules if rule.most is not None)
        self.schemas = tuple(rule for rule in self.rules if rule.schema is not None)
        self.webhooks = tuple(rule for rule in self.rules if rule.webhook is not None)
        # Borders of ours are an end or a character; what somebody else anchors is at the ends of texts alone.
        own = [rule for rule in self.finding if rule.type == "custom_regex" and rule.finder is not None]
        bodies = [needle.body for rule in own if rule.finder for needle in rule.finder.needles]
        self._is_anchored = any(anchor in body for body in bodies for anchor in _ANCHORS)
        sieves = [any_of([needle.pattern for needle in row]) for row in _rows(self.finding)]
        self._sieves = _all_or_none(sieves)
        holding = _rows(rule for rule in self.finding if rule.enforces)
        tails = [tail_of(row) for row in holding]
        self._is_holding = bool(holding)
        self._tails = _all_or_none(tails)
        self.most_at_once = _MOST_WITH_OTHERS if own else _MOST_AT_ONCE
        self.is_enforcing = any(rule.enforces for rule in self.rules)
        whole = [rule for rule in self.rules if rule.schema is not None or rule.webhook is not None]
        self.wants_all = any(rule.enforces for rule in whole)
        self.watches_all = tuple(rule for rule in whole if not rule.enforces)

    @property
    def names(self) -> list[str]:
        """List the names of those that could act."""
        return [rule.name for rule in self.rules if not rule.shadow]

    def may_find(self, texts: Iterable[str]) -> bool:
        """Say whether anything could be found in any of the texts, looking at all of them at once."""
        if not self.finding:
            return False
        if self._sieves is None or self._is_anchored:
            return True
        return self._is_in(_BETWEEN.join(texts))

    def _is_in(self, text: str) -> bool:
        return any(map(self._may_match, readings_of(text)))

    def _may_match(self, reading: str) -> bool:
        data = reading.encode("utf-8", "replace")
        return self._sieves is None or any(sieve.search(data) is not None for sieve in self._sieves)

    def find(self, text: str, views: Sequence[View] | None = None, *, is_brief: bool = False) -> list[Found]:
        """Give what every guardrail finds in a text, in any of its views.

        With `is_brief` one that blocks looks no further than its first match.
        """
        found: list[Found] = []
        if views is None and self._sieves is not None and not self._is_in(text):
            return found
        blocking: set[Rule] = set()
        for view in views_of(text) if views is None else views:
            if not self._may_match(view.text):
                continue
            for rule in self.finding:
                assert rule.finder is not None
                if rule in blocking:
                    continue
                for start, end in rule.finder.find(view.text):
                    found.append(Found(rule, *view.to_base(start, end)))
                    if is_brief and rule.enforces and rule.action == "block":
                        blocking.add(rule)
                        break
        return found

    def undecided(self, text: str, views: Sequence[View], cap: int, settled: int = 0) -> int:
        """Say from where on more text could make a match; `len(text)` if nothing is under way.

        No more than `cap` characters back: what is longer is not waited for. Nothing before `settled` is.
        """
        least = max(0, len(text) - cap)
        if not self._is_holding:
            return len(text)
        if self._tails is None:
            return least
        place = len(text)
        for view in views:
            if view.undecided is not None:
                place = min(place, view.undecided)
            begin = max(0, max(settled, least) - 1) if view.starts is None else 0
            for tail in self._tails:
                match = tail.search(view.decided, begin)
                if match is not None and match.lastindex is not None:
                    place = min(place, view.place(match.start(match.lastindex)))
        return max(place, least)


def _all_or_none(compiled: list[Compiled | None]) -> list[Compiled] | None:
    given = [one for one in compiled if one is not None]
    return given if len(given) == len(compiled) else None


def _rows(rules: Iterable[Rule]) -> list[list[Needle]]:
    """Put what is looked for into rows that are compiled as one.

    Somebody else's patterns share none with other rules: together they could be slow where each is quick.
    """
    rows: list[list[Needle]] = []
    ours: list[Needle] = []
    size = 0
    for rule in rules:
        assert rule.finder is not None
        if rule.type == "custom_regex":
            rows.append(list(rule.finder.needles))
            continue
        if size + rule.finder.size > _MOST_IN_A_ROW or not ours:
            ours, size = [], 0
            rows.append(ours)
        ours += rule.finder.needles
        size += rule.finder.size
    return rows


def edits_of(found: Iterable[Found]) -> list[Edit]:
    """Give what has to be replaced for the guardrails that redact; overlapping spans become one."""
    mine = [one for one in found if one.rule.enforces and one.rule.action == "redact"]
    edits: list[Edit] = []
    for one in sorted(mine, key=lambda one: one.start):  # of those that begin together the first one counts
        if edits and one.start < edits[-1].end:
            last = edits[-1]
            edits[-1] = Edit(last.start, max(last.end, one.end), last.replacement)
        else:
            edits.append(Edit(one.start, one.end, one.rule.replacement))
    return edits


def edit(pieces: Sequence[str], edits: Sequence[Edit]) -> list[str]:
    """Apply sorted edits to the text that `pieces` are when joined: a replacement goes where it begins."""
    result: list[str] = []
    offset = number = 0
    for piece in pieces:
        end = offset + len(piece)
        text: list[str] = []
        place = offset
        while number < len(edits) and edits[number].start < end:
            one = edits[number]
            if one.start >= offset:
                text += (piece[place - offset : one.start - offset], one.replacement)
            place = max(place, min(one.end, end))
            if one.end > end:
                break  # the next piece begins within it
            number += 1
        text.append(piece[place - offset :])
        result.append("".join(text))
        offset = end
    return result
