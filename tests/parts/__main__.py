"""`python -m tests.parts` installs every real part, so that no test waits for a download."""

from tests.parts import chromium, node, redis8, valkey

print(f"npm packages: {node.install()}")
print(f"chromium: {chromium.install().executable}")
print(f"valkey: {valkey.executable()}")
print(f"redis 8: {redis8.install()}")
