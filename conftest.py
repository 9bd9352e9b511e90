"""What pytest must not import: the module for torch where there is none. No extra of the tests asks for it."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["optcore/torch.py"]
