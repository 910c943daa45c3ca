"""The command `adam-study`: the study's, wherever a checkout of the project is installed."""

import sys


def main() -> int:
    """Run the command line of the study; without a checkout, say where it is to be had."""
    try:
        from experiments.cli.main import main as command
    except ModuleNotFoundError as error:
        if error.name != "experiments":
            raise
        print(
            "adam-study: only the optimizers, adam_tf, are installed here; the study runs from a "
            "checkout of the project, in which `make env` installs it",
            file=sys.stderr,
        )
        return 2
    except ValueError as error:  # two studies of one name, say
        print(f"adam-study: {error}", file=sys.stderr)
        return 2
    return command()
