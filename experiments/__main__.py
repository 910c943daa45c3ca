"""`python -m experiments`: see `experiments.cli.main`."""

import sys

from experiments.cli import ending

if __name__ == "__main__":
    ending.handle_signals(ending.end_now)  # before what takes long to import

from experiments.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
