"""How the classic adapter names its channels.

<key>#<namespace>#               events for everybody, or for several rooms
<key>#<namespace>#<room>#        events for one room
<key>-request#<namespace>#       requests; each server subscribes once, and so is counted
<key>-response#<namespace>#      responses
<key>-response#<namespace>#<uid>#   the same, for one server alone
"""

import re

import attrs

_GLOB = re.compile(r"([*?\[\]\\])")


@attrs.frozen
class Names:
    """The names of one cluster's channels.

    Args:
        key: what all of them begin with.
    """

    key: str

    def broadcasts(self, namespace: str) -> bytes:
        """A pattern of the channels that the events of a namespace come by.

        Names with another `#` in them may be of a namespace beside it: look at the packet.
        """
        prefix = _GLOB.sub(r"\\\1", f"{self.key}#{namespace}#")
        return f"{prefix}*".encode()

    def broadcast(self, namespace: str, rooms: tuple[str, ...]) -> str:
        """Where an event for some rooms is published."""
        only = f"{rooms[0]}#" if len(rooms) == 1 else ""
        return f"{self.key}#{namespace}#{only}"

    def requests(self, namespace: str) -> str:
        """Where requests are published."""
        return f"{self.key}-request#{namespace}#"

    def responses(self, namespace: str) -> str:
        """Where responses are published."""
        return f"{self.key}-response#{namespace}#"

    def own_responses(self, namespace: str, uid: str) -> str:
        """Where responses for one server may be published as well."""
        return f"{self.responses(namespace)}{uid}#"
