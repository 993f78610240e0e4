"""How events reach the members of a room, on this node and on others."""
