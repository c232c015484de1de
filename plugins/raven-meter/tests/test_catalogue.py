"""The catalogue knows models by any name that requests use, and says where it has that from."""

from __future__ import annotations

import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from raven_meter.catalogue import load_packaged, matching, operator
from raven_meter.catalogue.command import catalogue
from raven_meter.catalogue.refresh import build, encode

from raven_proxy import ConfigError

BOOK = load_packaged()
FOLDER = Path(os.environ.get("RAVEN_RECORDED") or Path(__file__).parents[4] / "shared" / "recorded")
# The library's provider for those of the recordings that go by another name there.
PROVIDERS = {
    "azure_openai": "azure",
    "bedrock": "aws",
    "gemini": "google",
    "vertex": "google",
    "voyage": "voyageai",
}


@pytest.mark.parametrize(
    ("provider", "model", "expected", "window"),
    [
        ("openai", "gpt-4o-mini-2024-07-18", "gpt-4o-mini", 128_000),
        ("openai", "GPT-4o-Mini", "gpt-4o-mini", 128_000),
        ("openai", "gpt-4o-mini-20240718", "gpt-4o-mini", 128_000),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5", 200_000),
        ("vertex", "claude-sonnet-4-5@20250929", "claude-sonnet-4-5", 200_000),
        ("azure", "gpt-4o", "gpt-4o", 128_000),
    ],
)
def test_a_model_is_found_by_the_names_that_requests_use(provider, model, expected, window):
    entry = BOOK.find(provider, model)
    assert entry is not None
    assert (entry.id, entry.context_window) == (expected, window)
    info = BOOK.describe(provider, model)
    assert info is not None
    assert (info.id, info.context_window) == (model, window)


@pytest.mark.parametrize(("provider", "model"), [("openai", "nobody-7"), ("ollama", "qwen3"), ("", "")])
def test_what_is_unknown_is_unknown(provider, model):
    assert BOOK.find(provider, model) is None
    assert BOOK.describe(provider, model) is None


def test_it_says_where_it_comes_from():
    assert "genai-prices" in BOOK.file.source
    assert (BOOK.file.licence[:3], len(BOOK.file.generated)) == ("MIT", 10)


def test_every_entry_can_be_read():
    """All clauses are known, all amounts are decimals, tiers rise."""
    entries = [model for provider in BOOK.providers() for model in provider.models]
    assert len(entries) > 2000
    for entry in entries:
        matching.matches(entry.match, "x")
        for rates in (*entry.rates, *entry.variants):
            for price in rates.prices.values():
                base, *tiers = [price] if isinstance(price, str) else price
                assert Decimal(base) >= 0
                assert [start for start, _ in tiers] == sorted(start for start, _ in tiers)
                assert all(Decimal(one) >= 0 for _, one in tiers)


def test_it_agrees_with_the_library_on_every_recorded_model():
    """An independent oracle: for each vendor and model of the recordings, the same entry or none in both."""
    prices = pytest.importorskip(
        "genai_prices", reason="genai-prices is not installed (raven-meter[refresh])"
    )
    from genai_prices.data_snapshot import get_snapshot

    assert prices is not None
    if not FOLDER.is_dir():
        assert not os.environ.get("CI"), f"no recorded exchanges in {FOLDER}"
        pytest.skip(f"no recorded exchanges in {FOLDER}")
    recordings = [msgspec.json.decode(path.read_bytes()) for path in sorted(FOLDER.rglob("*.json"))]
    asked = {(r["provider"], r["model"]) for r in recordings if r.get("model")}
    assert len(asked) > 50
    for provider, model in sorted(asked):
        name = PROVIDERS.get(provider, provider)
        theirs = next((p for p in get_snapshot().providers if p.id == name), None)
        if theirs is None:
            continue
        found = theirs.find_model(model, all_providers=get_snapshot().providers)
        ours = BOOK.find(provider if provider not in PROVIDERS else name, model)
        assert (ours.id if ours else None) == (found.id if found else None), (provider, model)


def test_the_packaged_file_is_what_refresh_writes():
    """From the same version of the library; only the day may differ."""
    pytest.importorskip("genai_prices", reason="genai-prices is not installed (raven-meter[refresh])")
    made = build()
    if made.version != BOOK.file.version:
        pytest.skip(f"genai-prices {made.version} is installed; the file is of {BOOK.file.version}")
    made.generated = BOOK.file.generated
    path = Path(sys.modules["raven_meter.catalogue"].__file__ or "").with_name("models.json")
    assert encode(made) == path.read_bytes()


def test_the_commands(tmp_path):
    shown = CliRunner().invoke(catalogue, ["show", "openai", "gpt-4o-mini"])
    assert shown.exit_code == 0
    assert "128,000 tokens" in shown.output
    assert "input" in shown.output
    missing = CliRunner().invoke(catalogue, ["show", "openai", "nobody-7"])
    assert (missing.exit_code, "nobody-7" in missing.output) == (1, True)
    pytest.importorskip("genai_prices", reason="genai-prices is not installed (raven-meter[refresh])")
    made = CliRunner().invoke(catalogue, ["refresh", "--output", str(tmp_path / "models.json")])
    assert made.exit_code == 0, made.output
    assert (tmp_path / "models.json").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("clause", "name", "expected"),
    [
        ({"equals": "a"}, "a", True),
        ({"starts_with": "a"}, "ab", True),
        ({"ends_with": "b"}, "ab", True),
        ({"contains": "x"}, "ab", False),
        ({"regex": "^a.$"}, "ab", True),
        ({"in": ["a", "b"]}, "b", True),
        ({"or": [{"equals": "x"}, {"equals": "a"}]}, "a", True),
        ({"and": [{"starts_with": "a"}, {"ends_with": "a"}]}, "ab", False),
    ],
)
def test_clauses(clause, name, expected):
    assert matching.matches(clause, name) is expected


def test_an_unknown_clause_is_an_error():
    with pytest.raises(ValueError, match="sounds_like"):
        matching.matches({"sounds_like": "a"}, "a")


OWN = {
    "my-model": {"context_window": 9000, "max_output_tokens": 700, "input": "0.15", "multiplier": "1.5"},
    "gpt-4o": {"provider": "openai", "max_output_tokens": 5},
}


async def start(raven: Any, tmp_path: Path, upstream: Any, content: Any) -> Any:
    path = tmp_path / "catalog.json"
    path.write_bytes(content if isinstance(content, bytes) else msgspec.json.encode(content))
    aliases = [{"name": name, "target": f"mock/{name}"} for name in ("my-model", "gpt-4o", "gpt-4o-mini")]
    config = {"catalog": str(path), "models": aliases}
    return await raven(upstreams=[upstream], base=("meter", "openai"), config=config)


async def test_the_operators_word_goes_over_the_packaged_one(raven, tmp_path, upstream):
    """Figure by figure: what the operator leaves out comes from the packaged file."""
    gateway = await start(raven, tmp_path, upstream, OWN)
    async with gateway.client.get("/v1/models") as reply:
        listed = {model["id"]: model for model in (await reply.json())["data"]}
    figures = {name: (model["context_window"], model["max_tokens"]) for name, model in listed.items()}
    assert figures["my-model"] == (9000, 700)
    assert figures["gpt-4o"] == (128_000, 5)
    assert figures["gpt-4o-mini"] == (128_000, None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "truncated"),
        ({"m": {"inpt": "1"}}, "inpt"),
        ({"m": {"input": 0.15}}, "'m': input: Expected `str"),
        ({"n": {}, "m": {"input": "-1"}}, "'m': input: Expected `str` such as \"0.15\", not negative"),
        ({"m": {"input": "1e3"}}, "such as"),
        ({"m": {"context_window": 0}}, "context_window"),
        ([], "object"),
    ],
)
async def test_a_broken_file_stops_the_start_and_says_where(content, said, raven, tmp_path, upstream):
    with pytest.raises(ConfigError) as caught:
        await start(raven, tmp_path, upstream, content)
    assert "catalog.json" in str(caught.value)
    assert any(word in str(caught.value) for word in said.split("|"))


async def test_a_broken_file_at_a_reload_leaves_the_old_one_in_force(raven, tmp_path, upstream):
    gateway = await start(raven, tmp_path, upstream, OWN)
    (tmp_path / "catalog.json").write_text("{")
    with pytest.raises(ConfigError):
        await gateway.reload()
    async with gateway.client.get("/v1/models/my-model") as reply:
        assert (await reply.json())["context_window"] == 9000


def test_amounts_are_exact():
    own = msgspec.convert(OWN["my-model"], operator.OperatorModel)
    assert own.price("input") == Decimal("0.15")
    assert own.price("output") is None
    assert operator.find({"my-model": own}, "any", "my-model") is own
    assert operator.find({"openai/x": own}, "openai", "x") is own


def test_a_running_gateway_imports_no_price_library():
    import subprocess

    code = "import raven_meter, sys; print([m for m in ('genai_prices', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
