"""What pytest must not import: the modules for torch where there is none. No extra of the tests asks for it."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["optcore/torch*.py"]
