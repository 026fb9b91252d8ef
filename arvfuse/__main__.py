"""``python -m arvfuse``."""

import sys

from arvfuse.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
