"""What limits and money add to a request in a whole gateway: `python -m tests.bench.added [ROUNDS]`.

Gateways on the same core take turns under the same load (whole replies, a priced model): with keys alone,
with a row for each exchange (`rows.py`), and with limits and money in its place: journal, ledger and log.
nginx takes its turn too: what it needs says how fast the machine is at the moment.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import msgspec

from . import cases, contenders, rows
from .contenders import Contender
from .measure import Bench
from .process import Cores, Process, free_ports, raise_open_files

__all__ = ["main"]

_KEYS = ("auth-keys", "byok", "openai", "anthropic")
_SETTINGS = {
    "keys": _KEYS,
    "keys, a row": _KEYS,
    "keys, limits, money": ("auth-keys", "limits", "meter", "byok", "openai", "anthropic"),
}


def _build(name: str, home: Path, port: int, upstream_port: int, key: str) -> Contender:
    if name == "nginx":
        return contenders.build(name, home / name, port, upstream_port, key, None)
    folder, plugins = home / name, ",".join(_SETTINGS[name])
    built = contenders.build("raven", folder, port, upstream_port, key, None, plugins=plugins)
    if name == "keys, a row":
        (folder / "plugins").mkdir()
        shutil.copy(rows.__file__, folder / "plugins")
        config = folder / "raven.toml"
        config.write_text(f'plugins_dir = "{folder / "plugins"}"\n{config.read_text()}')
    return msgspec.structs.replace(built, name=name)


def main() -> None:
    """Print the CPU of a request with each, and what it is more than with a row alone."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    raise_open_files()
    cores, key = Cores(), contenders.new_key()
    names = ("nginx", *_SETTINGS)
    upstream_port, *ports = free_ports(1 + len(names))
    with tempfile.TemporaryDirectory(prefix="raven-bench-") as folder:
        home = Path(folder)
        proxies = [
            _build(name, home, port, upstream_port, key) for name, port in zip(names, ports, strict=True)
        ]
        command = [sys.executable, "-m", "tests.bench.fake_upstream", str(upstream_port)]
        with Process(command, cores.load, home / "upstream.log") as upstream:
            upstream.wait_ready(upstream_port)
            bench = Bench(proxies, upstream_port, key, cores, home)
            bench.measure_rounds([case for case in cases.CASES if case.name == "whole"], rounds, 1.0, 1.0)
    found = {
        name: median(one.cpu_us for one in bench.record.samples if one.contender == name and one.cpu_us)
        for name in names
    }
    print(f"\n{'CPU a request':<22}{'µs':>8}{'x nginx':>9}{'added µs':>10}{'x nginx':>9}")
    for name, cpu_us in found.items():
        print(f"{name:<22}{cpu_us:8.1f}{cpu_us / found['nginx']:9.2f}", end="")
        added = cpu_us - found["keys, a row"]
        print(f"{added:+10.1f}{added / found['nginx']:+9.2f}" if name in _SETTINGS else "")


if __name__ == "__main__":
    main()
