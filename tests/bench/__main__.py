"""The benchmark's command: `python -m tests.bench`, from the root of the checkout.

Starts a fake upstream, nginx, a bare aiohttp proxy and the gateway on loopback, measures them in turn and
prints a Markdown table. Everything is bounded in count and time, and gone when it ends.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec

from tests.bench import cases, contenders, report
from tests.bench.measure import Bench, Record, say
from tests.bench.process import BenchError, Cores, Process, free_ports, raise_open_files

__all__ = ["main"]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="two short rounds: a rough picture in a minute")
    add("--rounds", type=int, help="how often each proxy is measured (5; with --quick 2)")
    add("--only", default=",".join(contenders.NAMES), metavar="NAMES", help="of nginx, bare, raven")
    names = [case.name for case in cases.CASES]
    add("--cases", metavar="NAMES", help=f"of {', '.join(names)}, memory, start (default: all)")
    add("--settle", type=float, help="seconds to wait for deferred work before CPU is read (1; quick 0.3)")
    add(
        "--gateway-command",
        metavar="CMD",
        help="start this instead; {config}, {port}, {upstream} are filled in",
    )
    add("--plugins", metavar="NAMES", help="of the gateway, in place of the usual ones")
    add("--check", action="store_true", help="fail if the gateway breaks a limit")
    add("--json", type=Path, metavar="FILE", help="write every sample here")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.settle = options.settle if options.settle is not None else (0.3 if options.quick else 1.0)
    unknown = set(options.only.split(",")) - set(contenders.NAMES)
    if unknown:
        parser.error(f"no such proxy: {', '.join(sorted(unknown))}")
    try:
        options.selected = cases.select(options.cases)
    except ValueError as error:
        parser.error(str(error))
    return options


def _run(options: argparse.Namespace, home: Path) -> Record:
    """Start the upstream, measure what was asked for, and give back the raw figures."""
    cores = Cores()
    if not cores.apart:
        print("! only one core: load and proxy share it, rates and latencies mean little", file=sys.stderr)
    selected, with_memory, with_starts = options.selected
    names = [name for name in contenders.NAMES if name in options.only.split(",")]
    upstream_port, *ports = free_ports(1 + len(names))
    key = contenders.new_key()
    proxies = [
        contenders.build(
            name, home / name, port, upstream_port, key, options.gateway_command, plugins=options.plugins
        )
        for name, port in zip(names, ports, strict=True)
    ]
    command = [sys.executable, "-m", "tests.bench.fake_upstream", str(upstream_port)]
    with Process(command, cores.load, home / "upstream.log") as upstream:
        upstream.wait_ready(upstream_port)
        bench = Bench(proxies, upstream_port, key, cores, home)
        if with_memory:
            bench.measure_memory()
        if with_starts:
            bench.measure_starts(options.rounds)
        if selected:
            bench.measure_rounds(selected, options.rounds, 0.25 if options.quick else 1.0, options.settle)
    return bench.record


def main() -> int:
    """Run the benchmark and return the exit status.

    1: a reply was not whole, or with `--check` a limit was broken. 2: the run could not go on.
    """
    options = _options()
    raise_open_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave by way of the context managers
    with tempfile.TemporaryDirectory(prefix="raven-bench-") as home:
        try:
            record = _run(options, Path(home))
        except (BenchError, OSError) as error:  # OSError: a proxy is gone from /proc
            print(f"\nbench: {error}", file=sys.stderr)
            return 2
    say("")
    print(report.render(record, options.selected[0]))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    broken = options.check and bool(report.missed(record, options.selected[0]))
    return int(broken or report.faults(record) > 0)


if __name__ == "__main__":
    sys.exit(main())
