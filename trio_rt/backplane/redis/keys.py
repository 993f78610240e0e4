"""How keys and channels are named. All keys of one script have the same tag, as a cluster wants.

    {p}   the partition of a namespace: one of 64 tags in a cluster, else {0}
    {0}   the partition at home, which also has what belongs to no namespace
    {*}   any partition: no script uses these keys with others

    rt:{p}:c                            hash: the hybrid clock, m and n; run id and shard of the
                                        server, and since when the keys are there (epoch)
    rt:{p}:h:<namespace>:<room>         stream: the log of a room, or with an empty room of the
                                        namespace; fields p (the place before) and d (the frame)
    rt:{p}:m:<namespace>:<room>         hash: where the log begins, and its last place
    rt:{p}:r:<namespace>:<room>         channel of a room
    rt:{p}:id:<key>                     place of an append, by idempotency key
    rt:{p}:s:<sid>                      hash: a session
    rt:{p}:probe:<node>                 channel of the delivery probe
    rt:{*}:once:<key>                   result of an event that runs once
    rt:{0}:l:<name>                     hash: holder and token of a lease
    rt:{0}:lt, :le, :ln                 the last token; ends and holders of all leases
    rt:{0}:ls:<name>                    hash: state and token of its writer
    rt:{0}:nodes                        zset: nodes, by the end of their lease
    rt:{0}:ctl                          stream: orders that no node may miss
    rt:{u:<user>}:rl:<rule>, :cn        rate limit and connections of a user

In a cluster the tag decides on the slot, and so on the server. Channels have slots there as well:
they are sharded ones.

Namespaces are escaped, so that none can be taken for the beginning of a room's name.
"""

import attrs

from trio_rt.backplane.redis.slots import HOME, TAGS, partition_of


@attrs.frozen
class LogName:
    """The log of a room."""

    namespace: str

    room: str
    """Empty for the log of the namespace: of what was sent to everybody, or to several rooms."""


@attrs.frozen
class Keys:
    """The names of keys and channels."""

    prefix: str = "rt"
    """What all of them begin with: several programs can share one Redis."""

    tag: str = HOME
    """Of the partition, which decides on the slot in a cluster."""

    is_sharded: bool = False
    """Whether this is a cluster, whose channels have slots as its keys do."""

    @property
    def publish(self) -> str:
        """The command that publishes."""
        return "SPUBLISH" if self.is_sharded else "PUBLISH"

    @property
    def count(self) -> tuple[str, str]:
        """The command that counts who listens to channels."""
        return ("PUBSUB", "SHARDNUMSUB" if self.is_sharded else "NUMSUB")

    def spread(self, kind: str, name: str) -> str:
        """A key that no script uses with another one: anywhere in a cluster."""
        tag = TAGS[partition_of(name)] if self.is_sharded else self.tag
        return f"{self.prefix}:{{{tag}}}:{kind}:{name}"

    def clock(self) -> str:
        """The hybrid clock."""
        return f"{self.prefix}:{{{self.tag}}}:c"

    def stream(self, log: LogName) -> str:
        """The entries of a log."""
        return f"{self.prefix}:{{{self.tag}}}:h:{_path(log)}"

    def meta(self, log: LogName) -> str:
        """Where a log begins and ends."""
        return f"{self.prefix}:{{{self.tag}}}:m:{_path(log)}"

    def channel(self, log: LogName) -> str:
        """Where the entries of a log are published."""
        return f"{self.prefix}:{{{self.tag}}}:r:{_path(log)}"

    def appended(self, key: str) -> str:
        """What an append with an idempotency key gave."""
        return f"{self.prefix}:{{{self.tag}}}:id:{key}"

    def of(self, kind: str, *names: str) -> str:
        """Any other key: its kind, and what it is of."""
        return ":".join((self.prefix, f"{{{self.tag}}}", kind, *names))

    def of_user(self, user: str, *kind: str) -> str:
        """A key of a user, which lives with all others of the same user."""
        return ":".join((self.prefix, f"{{u:{user.replace('}', '%7D')}}}", *kind))


def escape(text: str) -> str:
    """A text without colons, of which no two are the same that were not."""
    return text.replace("%", "%25").replace(":", "%3A")


def _path(log: LogName) -> str:
    return f"{escape(log.namespace)}:{log.room}"
