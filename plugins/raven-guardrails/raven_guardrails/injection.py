"""Phrases by which texts try to command a model. A list and scores, and no more than that.

It finds what is said in plain English in the ways that it lists, and misses all else: other languages, other
words, stories, encodings, instructions that look like data. Take it for a tripwire, not for a wall. A phrase
that nobody says by chance scores 1.0 and is enough alone; the others have to meet in one text.
"""

from __future__ import annotations

from collections.abc import Iterator

from .patterns import Span, compile_pattern, find_spans, make_needle

__all__ = ["PHRASES", "Injection"]

_THEIRS = r"(?:previous|prior|earlier|above|preceding|former|existing|original|initial|system)"
_ORDERS = r"(?:instructions?|prompts?|rules?|directions?|directives?|guidelines?|commands?|messages?|context)"
_ANY = r"(?:(?:all|any|every|of|the|your|my|these|those|its|our|given)\s+){0,4}"
_STOP = r"(?:ignore|disregard|forget|override|bypass|skip|dismiss|overrule|neglect)"

PHRASES: tuple[tuple[float, str], ...] = (
    # Orders not to obey.
    (1.0, rf"\b{_STOP}\s+{_ANY}{_THEIRS}\s+{_ORDERS}\b"),
    (1.0, rf"\bdo\s+not\s+(?:follow|obey|listen\s+to)\s+{_ANY}{_THEIRS}\s+{_ORDERS}\b"),
    (0.5, rf"\b{_STOP}\s+(?:everything|anything|all)\s+(?:above|before|said|you\s+(?:know|were\s+told))\b"),
    (0.5, rf"\b(?:your|the)\s+new\s+{_ORDERS}\s+(?:are|is|follow)\b"),
    # The hidden text.
    (
        1.0,
        (rf"\b(?:reveal|show|print|repeat|output|display|leak|recite|tell\s+me|give\s+me|write\s+out)\s+"
        rf"{_ANY}(?:system|hidden|secret|initial|original|developer)\s+{_ORDERS}\b"),
    ),
    (0.5, rf"\bwhat\s+(?:is|are|was|were)\s+{_ANY}(?:system|hidden|initial|original)\s+{_ORDERS}\b"),
    (0.5, r"\b(?:repeat|print|output)\s+(?:the\s+)?(?:text|words|everything)\s+above\b"),
    # Another role without rules.
    (1.0, r"\byou\s+are\s+now\s+(?:in\s+)?(?:dan|developer\s+mode|jailbroken|unrestricted|unfiltered)\b"),
    (1.0, r"\b(?:enable|enter|activate|switch\s+to)\s+(?:the\s+)?(?:developer|jailbreak|god|dan)\s+mode\b"),
    (0.5, (r"\b(?:act|behave|respond|answer|pretend)\s+(?:as\s+if|as\s+though|like|that)\s+you\s+have\s+no\s+"
          r"(?:rules|restrictions|limits|limitations|filters|guidelines)\b")),
    (0.5, r"\bwithout\s+(?:any\s+)?(?:restrictions|filters|ethical\s+guidelines|safety\s+guidelines)\b"),
    (0.5, r"\bdo\s+anything\s+now\b"),
    # Marks of conversations, where only text should be.
    (1.0, r"<\|(?:im_start|im_end|system|endoftext|start_header_id|eot_id)\|>"),
    (0.5, r"\[/?INST\]|<</?SYS>>"),
    (0.5, r"(?:^|\n)\s*#{0,6}\s*(?:new\s+)?system\s*(?:prompt|message|override)?\s*:"),
    # Carrying things away.
    (0.5, r"!\[[^\]\n]{0,80}\]\(https?://[^)\s]{1,200}[?&][^)\s]{0,200}(?:\{|\$|%7B|<)"),
    (0.5, (rf"\b(?:send|post|upload|forward|exfiltrate)\s+{_ANY}(?:conversation|chat\s+history|api\s+keys?|"
          r"passwords?|credentials|secrets)\s+to\b")),
)  # fmt: skip
"""(score, pattern in RE2's syntax); case does not matter."""


class Injection:
    """Finds phrases whose scores come to a threshold within one text."""

    def __init__(self, threshold: float) -> None:
        self.size = 0  # ours are few, and known
        self._threshold = threshold
        self.needles = tuple(make_needle(f"(?i:{pattern})") for _, pattern in PHRASES)
        self._phrases = [
            (score, compile_pattern(needle.pattern))
            for (score, _), needle in zip(PHRASES, self.needles, strict=True)
        ]

    def find(self, text: str) -> Iterator[Span]:
        """Give the spans of all phrases, if together they are enough."""
        total = 0.0
        spans: list[Span] = []
        for score, compiled in self._phrases:
            found = list(find_spans(compiled, text))
            total += score if found else 0.0
            spans += found
        if total >= self._threshold:
            yield from spans
