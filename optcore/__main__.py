"""``python -m optcore`` is the command ``optcore``."""

from optcore.cli import main

if __name__ == "__main__":
    main()
