"""The programs that made the golden values need the libraries that they took them from; the tests do not."""

collect_ignore_glob = ["golden/*"]
