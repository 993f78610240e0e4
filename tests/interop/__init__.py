"""The official client, other real peers and raw bytes, against a real server on a real socket."""
