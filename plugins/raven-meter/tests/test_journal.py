"""The journal keeps what was appended, whoever dies when; a torn line costs that line alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_meter.journal import Journal
from raven_meter.segment import read_records


def read_all(journal: Journal) -> list[object]:
    segments = journal.orphans()
    records = [record for segment in segments for record in read_records(segment)]
    for segment in segments:
        os.close(segment.fd)
    return records


def test_what_was_appended_is_read_in_its_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(100):
        journal.append({"n": number, "text": "é\n\u2028"})
    journal.close()
    after = Journal(tmp_path)
    assert read_all(after) == [{"n": number, "text": "é\n\u2028"} for number in range(100)]
    after.close()


def test_a_segment_in_use_is_nobody_elses(tmp_path: Path) -> None:
    """Another process's, or another journal's of this one; its own is none either."""
    one, two = Journal(tmp_path), Journal(tmp_path)
    one.append({"n": 1})
    assert read_all(two) == read_all(one) == []
    one.close()
    assert read_all(two) == [{"n": 1}]
    two.close()


def test_a_segment_that_is_done_is_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.turn_over()
    assert not journal.is_waiting
    journal.append({"n": 1})
    journal.turn_over()
    assert journal.is_waiting
    journal.append({"n": 2})
    journal.discard()
    assert not journal.is_waiting
    journal.close()
    after = Journal(tmp_path)
    assert read_all(after) == [{"n": 2}]
    after.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_left_of_a_journal_without_records(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None)
@given(st.data())
def test_wherever_it_is_cut_whole_records_survive(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A crash can cut the last line anywhere; a damaged byte costs the line that it is in."""
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder)
    for number in range(5):
        journal.append({"n": number})
    journal.close()
    [path] = folder.iterdir()
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        expected = [n for n in range(5) if sum(map(len, lines[: n + 1])) <= cut]
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        value = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place] and byte != 10))
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        hit = next(n for n in range(5) if sum(map(len, lines[: n + 1])) > place)
        lost = {hit, hit + 1} if place + 1 == sum(map(len, lines[: hit + 1])) else {hit}
        expected = [n for n in range(5) if n not in lost]
    after = Journal(folder)
    found = [record["n"] for record in read_all(after)]
    case_of_hexadecimal = {n for n in range(5) if n not in expected}
    assert [n for n in found if n not in case_of_hexadecimal] == expected
    after.close()


def test_records_survive_kill_9(tmp_path: Path) -> None:
    """Each that was acknowledged on a pipe is there; nobody synced."""
    code = (
        "import sys; from pathlib import Path; from raven_meter.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), 'never')\n"
        "for n in range(10**9):\n"
        "    journal.append({'n': n}); print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 2000:
            break
    process.send_signal(signal.SIGKILL)
    told = [int(line) for line in process.stdout if line.strip()]
    process.wait()
    process.stdout.close()
    journal = Journal(tmp_path)
    found = [record["n"] for record in read_all(journal)]  # type: ignore[index]
    assert found == list(range(len(found)))
    assert len(found) > max([2000, *told[:-1]])
    journal.close()


def test_a_full_disk_is_an_error_and_not_a_record(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    os.close(journal._segment.fd)
    journal._segment.fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space"):
        journal.append({"n": 1})


def test_a_disk_that_fills_up_costs_no_record_that_was_acknowledged(tmp_path: Path) -> None:
    """What was refused is not there, and what goes on the books later, with room again, is."""
    code = (
        "import resource, sys; from pathlib import Path; from raven_meter.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), 'never')\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard)); taken = []\n"
        "for n in range(400):\n"
        "    try: journal.append({'n': n, 'text': 'x' * 999}); taken.append(n)\n"
        "    except OSError: pass\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "journal.append({'n': 999}); print(*taken, 999)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken = [int(number) for number in done.stdout.split()]
    journal = Journal(tmp_path)
    found = [record["n"] for record in read_all(journal)]  # type: ignore[index]
    assert 200 < len(taken) < 400
    assert found == taken
    journal.close()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 600_000), max_size=12), st.booleans())
def test_records_of_any_length_find_room(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], dies: bool
) -> None:
    """Longer than a window, or across the border of two; also if nobody lived to cut off the room left."""
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder)
    for length in lengths:
        journal.append({"n": length, "text": "x" * length})
    if dies:
        assert not lengths or journal._segment._window is not None
        if journal._segment._window is not None:
            journal._segment._window.close()
        os.close(journal._segment.fd)  # its lock ends with it, and nothing else is done
    else:
        journal.close()
    after = Journal(folder)
    assert read_all(after) == [{"n": length, "text": "x" * length} for length in lengths]
    after.close()


def test_a_page_that_a_loss_of_power_emptied_costs_what_stood_there(tmp_path: Path) -> None:
    """The kernel writes pages in any order: zeros can stand before records that are whole."""
    journal = Journal(tmp_path)
    for number in range(200):
        journal.append({"n": number, "text": "x" * 100})
    journal.close()
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(4096) + whole[8192:])
    after = Journal(tmp_path)
    found = [record["n"] for record in read_all(after)]  # type: ignore[index]
    lost = set(range(200)) - set(found)
    assert 30 < len(lost) < 40
    assert found == sorted(found)
    after.close()


@pytest.mark.parametrize("fsync", ["interval", "always"])
async def test_it_is_synced_as_the_policy_says(
    tmp_path: Path, fsync: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(fd), real(fd)))
    journal = Journal(tmp_path, fsync)  # type: ignore[arg-type]
    keeping = asyncio.ensure_future(journal.keep_synced())  # noqa: TID251
    for number in range(3):
        journal.append({"n": number})
    assert len(synced) == (3 if fsync == "always" else 0)
    await asyncio.sleep(1.2)
    assert len(synced) == (3 if fsync == "always" else 1)
    keeping.cancel()
    journal.close()
