"""What payloads the codec is tried with: any JSON, bytes anywhere, and texts of every kind."""

from hypothesis import strategies as st

ODD_TEXTS = [
    "",
    "\u2028\u2029",
    "\U0001f600",
    "\0",
    '"\\',
    "é",
    "[{-/,",
    "_placeholder",
    "__proto__",
]

texts = st.text() | st.sampled_from(ODD_TEXTS)
any_text = st.text(st.characters(codec=None))  # lone surrogates as well
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)


def nested(leaves):
    """Lists and objects with `leaves` in them. None looks like a placeholder."""
    keys = texts.filter(lambda key: key != "_placeholder")
    return st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=15
    )


json_values = nested(plain)
values_with_bytes = nested(plain | st.binary())

namespaces = st.just("/") | texts.filter(lambda name: "," not in name).map("/".__add__)
ids = st.sampled_from([0, 1, 10**15 - 1]) | st.integers(0, 10**15 - 1)
