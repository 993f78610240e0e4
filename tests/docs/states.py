"""Draws the states of a client's connection from the machine's own table.

After a change of the table: `python -m tests.docs.states` writes the diagram into the page.
"""

from pathlib import Path

from trio_rt.machine.reconnect import MOVES, ConnectionState

PAGE = Path(__file__).parents[2] / "docs" / "topics" / "reconnecting.md"
BEGIN, END = "```mermaid\n", "```\n"


def draw() -> str:
    """The table as a Mermaid state diagram, with an arrow for each pair of states."""
    lines = ["stateDiagram-v2"]
    lines += [f"    {state.name}: {state.value}" for state in MOVES]
    lines += [f"    [*] --> {ConnectionState.DISCONNECTED.name}"]
    for before, row in MOVES.items():
        for after in MOVES:
            causes = [cause.value for cause in row if row[cause] is after]
            if causes:
                lines.append(f"    {before.name} --> {after.name}: {'<br/>'.join(causes)}")
        if not row:
            lines.append(f"    {before.name} --> [*]")
    return "\n".join(lines) + "\n"


def split(page: str) -> tuple[str, str, str]:
    """What stands before the page's diagram, the diagram, and what stands after it."""
    before, begin, rest = page.partition(BEGIN)
    diagram, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no place for the diagram: a `mermaid` block")
    return before + begin, diagram, end + after


if __name__ == "__main__":
    above, _, below = split(PAGE.read_text())
    PAGE.write_text(above + draw() + below)
