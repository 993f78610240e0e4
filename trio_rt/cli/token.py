"""`trio-rt token`: make a token for a user, or a secret to sign tokens with."""

import os
import secrets
from typing import Any

import click
import msgspec

from trio_rt.auth import JWTAuth
from trio_rt.errors import MisuseError

_SECRET_BYTES = 48  # 64 characters: enough for HS512 too


def _print_new_secret(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(secrets.token_urlsafe(_SECRET_BYTES))
        context.exit()


def _claims(_: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> dict[str, Any]:
    return dict(_claim(pair) for pair in pairs)


def _claim(pair: str) -> tuple[str, Any]:
    name, equals, text = pair.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{pair!r} is not NAME=VALUE")
    if name in ("name", "lifetime"):
        raise click.BadParameter(f"say --{name} instead")
    try:
        return name, msgspec.json.decode(text)
    except msgspec.DecodeError:
        return name, text


@click.command("token")
@click.argument("user_id")
@click.option("--name", default="", help="What people call the user.")
@click.option(
    "--lifetime",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="Seconds until the token expires.",
)
@click.option(
    "--claim",
    "claims",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_claims,
    help="Something more that the token says: JSON, or else text. May be repeated.",
)
@click.option("--secret", help="Sign with this, instead of TRIO_RT_JWT_SECRET.")
@click.option(
    "--new-secret",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_new_secret,
    help="Print a fresh secret for TRIO_RT_JWT_SECRET, and nothing else.",
)
def token_command(
    user_id: str, name: str, lifetime: float, claims: dict[str, Any], secret: str | None
) -> None:
    """Print a token for USER_ID, as `JWTAuth.from_env()` takes it."""
    environ = {**os.environ, "TRIO_RT_JWT_SECRET": secret} if secret else os.environ
    try:
        click.echo(JWTAuth.from_env(environ).issue(user_id, name, lifetime, **claims))
    except MisuseError as error:
        raise click.ClickException(str(error)) from error
