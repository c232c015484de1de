"""The proxies under test: how each is configured and started, all with what they need in one directory."""

from __future__ import annotations

import getpass
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

__all__ = ["GATEWAY_PLUGINS", "NAMES", "Contender", "build", "new_key"]

NAMES = ("nginx", "bare", "raven")
GATEWAY_PLUGINS = ("auth-keys", "idempotency", "limits", "meter", "byok", "openai", "anthropic")
"""The plugins that run by default and take part in every request: what a user pays for."""


class Contender(msgspec.Struct, frozen=True):
    """One proxy: the command that starts it and the port it then answers on."""

    name: str
    command: list[str]
    port: int
    env: dict[str, str] = {}
    workers_only: bool = False
    """Measure its children only: the parent does no work for requests."""


def build(
    name: str,
    home: Path,
    port: int,
    upstream_port: int,
    key: str,
    gateway_command: str | None,
    *,
    plugins: str | None = None,
) -> Contender:
    """Write what the proxy `name` needs into `home` and say how to start it.

    `gateway_command` replaces the gateway's own; in it, `{config}`, `{port}` and `{upstream}` (a port)
    are filled in. That is also how any other gateway is measured in its place.
    """
    home.mkdir(parents=True)
    if name == "nginx":
        return _nginx(home, port, upstream_port)
    if name == "bare":
        command = [sys.executable, "-m", "tests.bench.bare_proxy", str(port), str(upstream_port)]
        return Contender(name, command, port)
    names = tuple(plugins.split(",")) if plugins else GATEWAY_PLUGINS
    return _gateway(home, port, upstream_port, key, gateway_command, names)


def new_key() -> str:
    """Make a key as strong as the gateway demands of an administrator's."""
    return "rk_live_" + secrets.token_hex(20)


def _gateway(
    home: Path, port: int, upstream_port: int, key: str, override: str | None, names: tuple[str, ...]
) -> Contender:
    config = home / "raven.toml"
    plugins = ", ".join(f'"{name}"' for name in names)
    meter = "plugin.meter.allow_unpriced = true" if "meter" in names else ""
    config.write_text(f"""\
listen = "127.0.0.1:{port}"
data_dir = "{home / "data"}"
log_level = "warning"
models_refresh_s = 0
{meter}
plugins = [{plugins}]

[[upstreams]]
name = "bench-anthropic"
provider = "anthropic"
base_url = "http://127.0.0.1:{upstream_port}/anthropic/v1"
key = {{ env = "BENCH_KEY" }}
models = ["claude-*"]

[[upstreams]]
name = "bench"
provider = "openai"
base_url = "http://127.0.0.1:{upstream_port}/v1"
key = {{ env = "BENCH_KEY" }}
models = ["*"]
""")
    command = [sys.executable, "-m", "raven_proxy", "serve", "--config", str(config)]
    if override:
        filled = override.format(config=config, port=port, upstream=upstream_port)
        command = shlex.split(filled)
    env = {"RAVEN_ADMIN_KEY": key, "BENCH_KEY": "sk-bench-" + secrets.token_hex(16)}
    return Contender("raven", command, port, env)


def _nginx(home: Path, port: int, upstream_port: int) -> Contender:
    """Configure nginx as a reverse proxy for streams: unbuffered, with connections kept on both sides."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin") or "nginx"
    config = home / "nginx.conf"
    config.write_text(f"""\
worker_processes 1;
worker_rlimit_nofile 16384;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log warn;
{f"user {getpass.getuser()};" if os.geteuid() == 0 else ""}
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  {_temp_paths(program, home)}
  upstream fake {{
    server 127.0.0.1:{upstream_port};
    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://fake;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
""")
    command = [program, "-p", str(home), "-e", str(home / "error.log"), "-c", str(config)]
    return Contender("nginx", command, port, workers_only=True)


def _temp_paths(program: str, home: Path) -> str:
    """Move nginx's temporary files into `home`; the modules a build lacks must not be mentioned."""
    try:
        built = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stderr
    except OSError:
        built = ""  # starting it will say what is wrong
    lines = [f"client_body_temp_path {home}/body;", f"proxy_temp_path {home}/proxy;"]
    present = [name for name in ("fastcgi", "uwsgi", "scgi") if f"--without-http_{name}_module" not in built]
    lines += [f"{name}_temp_path {home}/{name};" for name in present]
    return "\n  ".join(lines)
