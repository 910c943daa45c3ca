"""`python -m experiments`: see `experiments.cli.main`."""

import sys

from experiments.cli import ending

if __name__ == "__main__":
    ending.handle_signals(ending.end_now)  # before what takes long to import

try:
    from experiments.cli.main import main
except ValueError as error:  # two studies of one name, say
    print(f"adam-study: {error}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
