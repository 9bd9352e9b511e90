"""Settings of the tests."""

import os

from hypothesis import settings

# The programs that made the golden values need the libraries that they took them from; the tests do not.
collect_ignore_glob = ["golden/*"]

# What is tried on a developer's machine is random; what passed once passes again where others wait for it.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
