"""The command `raven-proxy catalogue`: make the packaged file anew, or look a model up in it."""

from __future__ import annotations

from pathlib import Path

import click

from .lookup import load_packaged
from .refresh import LIBRARY, build, encode

__all__ = ["catalogue"]

_PACKAGED = Path(__file__).with_name("models.json")


@click.group()
def catalogue() -> None:
    """Models, context windows and prices that the gateway knows."""


@catalogue.command(short_help="Make the catalogue file from the installed price library.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=_PACKAGED, show_default=False,
    help="Write here instead of into the installed package.",
)  # fmt: skip
def refresh(output: Path) -> None:
    """Make the catalogue file from the installed price library (pip install "raven-meter[refresh]")."""
    try:
        file = build()
    except ImportError:
        raise click.ClickException(
            f'{LIBRARY} is not installed; pip install "raven-meter[refresh]" and run this again'
        ) from None
    before = load_packaged().providers()
    output.write_bytes(encode(file))
    models = sum(len(entry.models) for entry in before)
    click.echo(
        f"{output}: {len(file.providers)} providers from {LIBRARY} {file.version}; before: {models} models"
    )


@catalogue.command(short_help="Show what is known of a model of a provider.")
@click.argument("provider")
@click.argument("model")
def show(provider: str, model: str) -> None:
    """Show what is known of MODEL at PROVIDER (as in [[upstreams]] provider)."""
    book = load_packaged()
    entry = book.find(provider, model)
    if entry is None:
        raise click.ClickException(f"{provider} is not known to offer {model!r} ({book.file.generated})")
    window = f"{entry.context_window:,} tokens" if entry.context_window else "unknown"
    click.echo(f"{entry.id}  {entry.name}\ncontext window: {window}")
    for rates in entry.rates:
        when = (
            f" since {rates.since}"
            if rates.since
            else f" {'-'.join(rates.between)} UTC"
            if rates.between
            else ""
        )
        click.echo(f"prices{when}, US dollars:")
        for name, price in rates.prices.items():
            tiers = (
                price
                if isinstance(price, str)
                else ", ".join(
                    f"from {tier[0]:,} tokens {tier[1]}" if isinstance(tier, list) else str(tier)
                    for tier in price
                )
            )
            click.echo(f"  {name:18} {tiers}")
