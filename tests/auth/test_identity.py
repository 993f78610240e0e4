"""Users and handshakes are values, and guests are let in."""

import attrs
import pytest

from trio_rt.auth import Anonymous, Authenticator, Handshake, User


def test_users_are_values_and_keys_of_dicts() -> None:
    """Equal users are equal and hash alike, whatever their claims hold."""
    assert User("ann", "Ann") == User("ann", "Ann")
    assert {User("ann", claims={"a": [1]}): 1}[User("ann", claims={"a": [1]})] == 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        User("ann").id = "bob"  # type: ignore[misc]


def test_the_expiry_is_the_claim() -> None:
    """`expires` is `exp`, and None where there is none."""
    assert User("ann", claims={"exp": 12}).expires == 12
    assert User("ann").expires is None


def test_a_handshake_shows_no_secret() -> None:
    """Its repr has neither the auth payload, nor query, nor headers."""
    shown = repr(
        Handshake(
            namespace="/",
            auth={"token": "hush"},
            query={"token": "hush"},
            headers={"authorization": "Bearer hush"},
            url="/socket.io/?token=hush",
        )
    )
    assert "hush" not in shown
    assert not hasattr(Handshake(namespace="/"), "__dict__")


async def test_anonymous_guests_are_all_different() -> None:
    """Everyone is let in, under an id of their own."""
    auth: Authenticator = Anonymous()
    guests = {(await auth.authenticate(Handshake(namespace="/"))).id for _ in range(100)}
    assert len(guests) == 100
