"""`python -m experiments`: see `experiments.cli.main`."""

import sys

from experiments.cli import ending
from experiments.mistakes import described

if __name__ == "__main__":
    ending.handle_signals(ending.end_now)  # before what takes long to import

try:
    from experiments.cli.main import main
except Exception as error:  # a mistake in a declaration
    print(f"adam-study: {described(error)}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
