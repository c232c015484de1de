"""Personal data: a pattern for what could be one, and a check of what it says.

Cards by Luhn's digit (ISO/IEC 7812) and a leading digit that issuers use, IBANs by their check digits
(ISO 13616), social security numbers by what was never issued, addresses by the standard library. E-mail
addresses and telephone numbers have no check: numbers count with a "+" or "00" and a country, or as North
Americans write them. Other national ways of writing one are not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Literal

from stdnum import iban, luhn
from stdnum.us import ssn

from .patterns import Span, compile_pattern, find_spans, make_needle
from .rules import Entity

__all__ = ["PersonalData"]

_BORDER = (r"(?:^|[^\pL\pN_])", r"(?:$|[^\pL\pN_])")
_NO_DIGIT = (r"(?:^|[^\pN])", r"(?:$|[^\pN])")
_NO_BORDER = ("", "")
# Spaces, ends of lines and dashes that NFKC leaves as they are.
_BETWEEN = r"\s\-\x{85}\x{a0}\x{2010}-\x{2015}\x{2028}\x{2029}\x{2212}"
_PATTERNS: dict[Entity | Literal["ipv6"], tuple[str, tuple[str, str]]] = {
    "email": (r"[\pL\pM\pN.!#$%&'*+/=?^_`{|}~\-]+@(?:[\pL\pM\pN\-]+\.)+\pL[\pL\pM]+", _NO_BORDER),
    # Runs of digits in groups; which of them are a number of a card is looked at digit by digit.
    "credit_card": (rf"[0-9](?:[{_BETWEEN}./_]{{0,3}}[0-9]){{11,120}}", _NO_BORDER),
    "iban": (rf"(?i:[A-Z]{{2}})[0-9]{{2}}(?:[{_BETWEEN}]{{0,2}}(?i:[A-Z0-9])){{11,30}}", _BORDER),
    "ip": (r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}", _BORDER),
    "ipv6": (
        r"(?i:[0-9a-f]{0,4}:){2,7}(?i:[0-9a-f.]){0,15}",
        (_BORDER[0], r"(?:$|[^\pL\pN_:])"),
    ),
    "phone": (
        (
            r"(?:\+|00)[1-9](?:[ ()\-./\x{a0}]{0,3}[0-9]){6,14}|"
            r"(?:\+?1[ \-.]?)?(?:\([2-9][0-9]{2}\)[ \-.]?|[2-9][0-9]{2}[ \-.])[2-9][0-9]{2}[ \-.][0-9]{4}"
        ),
        _NO_DIGIT,
    ),
    "ssn": (r"[0-9]{3}[ \-][0-9]{2}[ \-][0-9]{4}", _NO_DIGIT),
}
_SIGNS = re.compile(r"\W+")
_GROUP = re.compile(r"[0-9]+")
_LEAST, _MOST = 13, 19  # digits of a card


class PersonalData:
    """Finds the kinds that are asked for."""

    def __init__(self, entities: tuple[Entity, ...]) -> None:
        self.size = 0  # ours are few, and known
        kinds: list[Entity | Literal["ipv6"]] = list(dict.fromkeys(entities))
        if "ip" in kinds:
            kinds.append("ipv6")
        self.needles = tuple(make_needle(body, *border) for body, border in map(_PATTERNS.__getitem__, kinds))
        self._kinds = [
            (compile_pattern(needle.pattern), _CHECKS[kind])
            for kind, needle in zip(kinds, self.needles, strict=True)
        ]

    def find(self, text: str) -> Iterator[Span]:
        """Give the spans of what is personal data, in no order."""
        for compiled, check in self._kinds:
            for start, end in find_spans(compiled, text):
                for first, last in check(text[start:end]):
                    yield start + first, start + last


def _any(text: str) -> Iterator[Span]:
    yield 0, len(text)


def _cards(text: str) -> Iterator[Span]:
    """Give the spans of cards' numbers in a run of digits: they begin and end where groups of digits do."""
    groups = [match.span() for match in _GROUP.finditer(text)]
    for first, (start, _) in enumerate(groups):
        digits = ""
        found: Span | None = None
        for group_start, end in groups[first:]:
            digits += text[group_start:end]
            if len(digits) > _MOST:
                break
            if len(digits) >= _LEAST and _is_card(digits):
                found = start, end
        if found is not None:
            yield found


def _is_card(digits: str) -> bool:
    return digits[0] in "23456" and digits.strip(digits[0]) != "" and bool(luhn.is_valid(digits))


def _accounts(text: str) -> Iterator[Span]:
    """Give the longest beginning that is an IBAN: words may follow it."""
    for end in range(len(text), 14, -1):
        if not text[end - 1].isalnum():
            continue
        if iban.is_valid(_SIGNS.sub("", text[:end]), check_country=False):
            yield 0, end
            return


def _addresses(text: str) -> Iterator[Span]:
    stripped = text.rstrip(".")
    try:
        ipaddress.ip_address(stripped)
    except ValueError:
        return
    if any(letter.isdigit() for letter in stripped):  # "a::b" is code more often than an address
        yield 0, len(stripped)


def _security_numbers(text: str) -> Iterator[Span]:
    if ssn.is_valid(text.replace(" ", "-")):
        yield 0, len(text)


_CHECKS: dict[Entity | Literal["ipv6"], Callable[[str], Iterator[Span]]] = {
    "email": _any,
    "credit_card": _cards,
    "iban": _accounts,
    "ip": _addresses,
    "ipv6": _addresses,
    "phone": _any,
    "ssn": _security_numbers,
}
