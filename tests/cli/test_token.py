"""`trio-rt token` prints tokens that `JWTAuth.from_env()` lets in."""

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from trio_rt.auth import JWTAuth
from trio_rt.cli import main

SECRET = "a secret of more than thirty-two bytes"
Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """`trio-rt token ARGUMENTS` in an environment that has these variables of ours only."""
    for name in ("SECRET", "ALGORITHMS", "AUDIENCE", "ISSUER", "PUBLIC_KEY_FILE"):
        monkeypatch.delenv(f"TRIO_RT_JWT_{name}", raising=False)

    def run(*arguments: str, **environ: str) -> Result:
        ours = {f"TRIO_RT_JWT_{name}": value for name, value in environ.items()}
        return CliRunner().invoke(main, ["token", *arguments], env=ours)

    return run


def test_a_token_for_a_user(run: Run) -> None:
    """The token is all that is printed, and it is let in."""
    result = run("ann", "--name", "Ann", SECRET=SECRET, AUDIENCE="chat", ISSUER="us")
    assert result.exit_code == 0
    auth = JWTAuth(SECRET, audience="chat", issuer="us")
    user = auth.verify(result.stdout.rstrip("\n"))
    assert (user.id, user.name) == ("ann", "Ann")
    assert user.claims["exp"] - user.claims["iat"] == 3600


def test_claims_and_lifetime(run: Run) -> None:
    """A claim is JSON if it reads as such, and text if not."""
    claims = ("role=host", "level=3", 'rooms=["a"]', "note=a=b", "x=NaN")
    result = run(
        "ann", "--lifetime", "60", *(f"--claim={claim}" for claim in claims), SECRET=SECRET
    )
    claims_seen = dict(JWTAuth(SECRET).verify(result.stdout.strip()).claims)
    assert claims_seen.pop("exp") - claims_seen.pop("iat") == 60
    assert claims_seen == {
        "sub": "ann",
        "role": "host",
        "level": 3,
        "rooms": ["a"],
        "note": "a=b",
        "x": "NaN",
    }


def test_a_secret_on_the_command_line(run: Run) -> None:
    """--secret goes before the environment."""
    result = run("ann", "--secret", SECRET, SECRET="another secret of thirty-two bytes")
    assert JWTAuth(SECRET).verify(result.stdout.strip()).id == "ann"


def test_a_new_secret(run: Run) -> None:
    """A new secret is printed alone, is never the same, and is long enough for every algorithm."""
    secrets = [run("--new-secret").stdout.strip() for _ in range(2)]
    assert secrets[0] != secrets[1]
    for algorithm in ("HS256", "HS512"):
        JWTAuth(secrets[0], algorithms=(algorithm,)).issue("ann")


@pytest.mark.parametrize(
    ("arguments", "environ", "told"),
    [
        (["ann"], {}, "set TRIO_RT_JWT_SECRET"),
        (["ann"], {}, "trio-rt token --new-secret"),
        (["ann", "--secret", "short"], {}, "has 5 bytes"),
        (["ann", "--claim", "sub=bob"], {"SECRET": SECRET}, "sub: say"),
        ([""], {"SECRET": SECRET}, "needs a user id"),
    ],
)
def test_no_token_can_be_made(
    run: Run, arguments: list[str], environ: dict[str, str], told: str
) -> None:
    """One line says why, without a traceback."""
    result = run(*arguments, **environ)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "USER_ID"),
        (["ann", "--claim", "role"], "'role' is not NAME=VALUE"),
        (["ann", "--claim", "=x"], "'=x' is not NAME=VALUE"),
        (["ann", "--claim", "name=Ann"], "say --name instead"),
        (["ann", "--lifetime", "0"], "--lifetime"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], told: str) -> None:
    """What is wrong with the command is said."""
    result = run(*arguments, SECRET=SECRET)
    assert result.exit_code == 2
    assert told in result.stderr
