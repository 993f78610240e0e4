"""`python -m tests.parts` installs every real part, so that no test waits for a download."""

from tests.parts import chromium, node, valkey

print(f"npm packages: {node.install()}")
print(f"chromium: {chromium.install().executable}")
print(f"valkey: {valkey.executable()}")
