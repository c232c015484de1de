"""Background tasks: held while they run, waited for at the end, and loud when they fail."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from raven_proxy.tasks import Tasks


async def test_a_task_is_held_until_it_ends() -> None:
    tasks = Tasks()
    gate = asyncio.Event()
    task = tasks.spawn(gate.wait(), "waits")
    assert (len(tasks), task.get_name()) == (1, "waits")
    gate.set()
    await task
    await asyncio.sleep(0)
    assert len(tasks) == 0


async def test_a_failure_is_logged_under_the_tasks_name() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    tasks = Tasks()
    with capture_logs() as events:
        tasks.launch(fails(), "fails")
        await asyncio.sleep(0.01)
    assert [(event["event"], event["task"]) for event in events] == [("task failed", "fails")]


async def test_settling_waits_for_what_ends_and_cancels_what_does_not() -> None:
    done: list[str] = []

    async def work(name: str, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        done.append(name)

    tasks = Tasks()
    tasks.launch(work("quick", 0.01), "quick")
    late = tasks.spawn(work("late", 60), "late")
    await tasks.settle(0.1)
    assert done == ["quick"]
    assert late.cancelled()
    assert len(tasks) == 0


async def test_settling_nothing_returns_at_once() -> None:
    await Tasks().settle(60)


async def test_work_that_ends_at_once_needs_no_task() -> None:
    """What it does is done when `begin` returns; what it raises, the caller sees."""
    done: list[int] = []

    async def work(error: Exception | None = None) -> None:
        done.append(1)
        if error is not None:
            raise error

    tasks = Tasks()
    tasks.begin(work(), "work")
    assert (done, len(tasks)) == ([1], 0)
    with pytest.raises(KeyError):
        tasks.begin(work(KeyError("x")), "work")


async def test_work_that_waits_goes_on_in_the_background() -> None:
    gate = asyncio.get_running_loop().create_future()
    done: list[str] = []

    async def work() -> None:
        done.append(await gate)

    tasks = Tasks()
    tasks.begin(work(), "work")
    assert len(tasks) == 1
    gate.set_result("here")
    await tasks.settle(1.0)
    assert done == ["here"]
