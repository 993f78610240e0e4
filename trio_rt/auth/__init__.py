"""Who is there: the user, what they showed at the door, and who looks at it."""

from trio_rt.auth.identity import Anonymous, Authenticator, Handshake, User
from trio_rt.auth.tokens import JWTAuth

__all__ = ["Anonymous", "Authenticator", "Handshake", "JWTAuth", "User"]
