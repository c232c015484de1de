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
from raven_meter.journal import Journal, read_records


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


def test_a_disk_that_fills_up_in_the_middle_of_a_record_costs_that_record_alone(tmp_path: Path) -> None:
    """What goes on the books later, when there is room again, does not stick to half a line."""
    code = (
        "import resource, sys; from pathlib import Path; from raven_meter.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), 'never')\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard)); refused = 0\n"
        "for n in range(10):\n"
        "    try: journal.append({'n': n})\n"
        "    except OSError: refused += 1\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "journal.append({'n': 99}); print(refused)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    journal = Journal(tmp_path)
    found = [record["n"] for record in read_all(journal)]  # type: ignore[index]
    assert int(done.stdout) == 5
    assert found == [0, 1, 2, 3, 4, 99]
    journal.close()


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
