"""The fixture `refusal`: a start that is refused in one line, by `check` and by `serve`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from raven_proxy.cli import main
from raven_proxy.harness import write_toml

__all__ = ["HEAD", "PLAIN", "Refusal", "refusal", "refused"]


Refusal = Callable[..., str]
PLAIN = {"plugins": ["openai"]}
HEAD = "from raven_proxy import Face, hookimpl, read_nothing\n"


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """Run `check` and `serve` on a config and drop-ins; both must refuse, and `serve` must say the same.

    Gives what was said. With `only` just that command runs: some things are only known at the start.
    """
    for name in ("RAVEN_ADMIN_KEY", "RAVEN_SECRET", "RAVEN_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def run(
        config: Mapping[str, Any] | str = PLAIN,
        files: Mapping[str, str] | None = None,
        *,
        only: str | None = None,
        listen: str = "127.0.0.1:0",
    ) -> str:
        folder = tmp_path / "plugins"
        folder.mkdir(exist_ok=True)
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        path = tmp_path / "raven.toml"
        if not isinstance(config, str):
            config = write_toml({"data_dir": str(tmp_path / "data"), "listen": listen, **config})
        path.write_text(config)
        said = [
            refused(command, "--config", str(path), "--plugins-dir", str(folder))
            for command in ([only] if only else ["check", "serve"])
        ]
        assert len(set(said)) == 1
        return said[0]

    return run


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1, (result.exit_code, result.output, result.exception)
    assert "listening" not in result.stdout
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("raven-proxy: ")
    assert "Traceback" not in result.output
    return result.stderr
