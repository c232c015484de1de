"""What guardrails may take: of each pattern, of each organisation, and of everybody's time."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
from raven_guardrails import finders, management, trial
from raven_guardrails.rules import Patterns, Topics

from raven_proxy.mock import MockUpstream

from .test_management import WORDS, call


@pytest.fixture
async def gateway(raven: Any, upstream: MockUpstream) -> Any:
    return await raven(upstreams=[upstream], base=("auth-keys", "guardrails", "openai"))


def regex(*patterns: str, name: str = "r") -> dict[str, Any]:
    return {"name": name, "type": "custom_regex", "config": {"patterns": list(patterns)}}


@pytest.mark.parametrize(
    ("patterns", "param"),
    [
        (["x", "(?:a{0,30}){0,30}x"], "config.patterns[1]"),
        ([r"\x{4e00}{0,600}(?:é|e){0,600}x"], "config.patterns[0]"),
        ([f"(?:a|b)*a(?:a|b){{{900 + n}}}c" for n in range(5)], "config.patterns"),
        ([rf"\pL{{0,40}}{n}" for n in range(4)], "config.patterns"),
        (["a*"], "config.patterns[0]"),
    ],
)
async def test_a_pattern_that_could_cost_too_much_is_refused(
    gateway: Any, patterns: list[str], param: str
) -> None:
    """Saved or tried; the answer names it."""
    status, answer = await call(gateway, "POST", "/guardrails", regex(*patterns))
    assert (status, answer["error"]["type"], answer["error"]["param"]) == (400, "validation_error", param)
    body = {"texts": ["a"], "guardrail": regex(*patterns)}
    status, answer = await call(gateway, "POST", "/guardrails/test", body)
    assert (status, answer["error"]["param"]) == (400, f"guardrail.{param}")


async def test_what_people_write_is_taken(gateway: Any) -> None:
    """Keys, dates, numbers of staff, words in any script."""
    usual = ["sk-[A-Za-z0-9]{20,}", r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]){11,30}\b", "x" * 1000,
             r"[\pL\pN.]{1,40}@corp\.example", r"(?i)(?:password|secret)\s*[:=]\s*\S{8,}",
             "[\u4e00-\u9fff]{2,30}機密", r"\x{4e00}{2}"]  # fmt: skip
    status, answer = await call(gateway, "POST", "/guardrails", regex(*usual))
    assert status == 201, answer


async def test_an_organization_has_a_bounded_number(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is a 409; one that goes makes room."""
    monkeypatch.setattr(management, "MOST_GUARDRAILS", 2)
    made = [await call(gateway, "POST", "/guardrails", WORDS | {"name": f"{n}"}) for n in range(3)]
    assert [status for status, _ in made] == [201, 201, 409]
    assert (await call(gateway, "DELETE", f"/guardrails/{made[0][1]['id']}"))[0] == 200
    assert (await call(gateway, "POST", "/guardrails", WORDS))[0] == 201


async def test_all_of_an_organization_are_bounded(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what they cost together: those that are off cost nothing until they are switched on."""
    monkeypatch.setattr(management, "_MOST_SIZE", 150)
    _, first = await call(gateway, "POST", "/guardrails", regex("x" * 100, name="a"))
    status, answer = await call(gateway, "POST", "/guardrails", regex("y" * 100, name="b"))
    assert (status, answer["error"]["param"]) == (400, "config")
    off = regex("y" * 100, name="b") | {"isEnabled": False}
    status, second = await call(gateway, "POST", "/guardrails", off)
    assert status == 201
    path = f"/guardrails/{second['id']}"
    assert (await call(gateway, "PATCH", path, {"isEnabled": True}))[0] == 400
    own = f"/guardrails/{first['id']}"
    assert (await call(gateway, "PATCH", own, {"config": {"patterns": ["z" * 120]}}))[0] == 200
    assert (await call(gateway, "DELETE", own))[0] == 200
    assert (await call(gateway, "PATCH", path, {"isEnabled": True}))[0] == 200


async def test_nobody_waits_while_one_is_compiled_or_tried(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It happens in threads of the plugin's own: saved, changed, tried."""
    where: list[str] = []

    def spy(inner: Any) -> Any:
        def run(*args: Any) -> Any:
            where.append(threading.current_thread().name)
            return inner(*args)

        return run

    monkeypatch.setattr(finders, "_make_finder", spy(finders._make_finder))
    monkeypatch.setattr(trial, "_judge", spy(trial._judge))
    _, made = await call(gateway, "POST", "/guardrails", regex("abc"))
    path = f"/guardrails/{made['id']}"
    assert (await call(gateway, "PATCH", path, {"config": {"patterns": ["def"]}}))[0] == 200
    assert (await call(gateway, "PATCH", path, {"config": {"patterns": ["(de"]}}))[0] == 400
    assert len(where) == 3  # each once
    trying = {"texts": ["def"], "guardrail": regex("ghi")}
    assert (await call(gateway, "POST", "/guardrails/test", trying))[0] == 200
    assert len(where) == 5
    assert all(name.startswith("guardrails") for name in where)


async def test_a_trial_has_a_bounded_length(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All texts together."""
    assert management._MOST_TRIED == 1_000_000
    monkeypatch.setattr(management, "_MOST_TRIED", 1000)
    body = {"texts": ["x" * 600] * 2}
    status, answer = await call(gateway, "POST", "/guardrails/test", body)
    assert (status, answer["error"]["param"]) == (400, "texts")


@pytest.mark.parametrize("config", [Patterns(patterns=("abc",)), Topics(topics=("falcon",))])
def test_what_nobody_has_any_more_is_not_kept(config: Any) -> None:
    """Those that are alike are compiled once; with the last of them the memory is free."""
    made = finders.make_finder(config)
    assert made is not None
    assert finders.make_finder(config) is made
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None
