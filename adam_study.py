"""The command `adam-study`: the study's, wherever a checkout of the project is installed."""

import sys


def main() -> int:
    """Run the command line of the study; without a checkout, say where it is to be had."""
    try:
        from experiments.cli.main import main as command
    except Exception as error:
        if getattr(error, "name", None) == "experiments":
            why = (
                "only the optimizers, adam_tf, are installed here; the study runs from a "
                "checkout of the project, in which `make env` installs it"
            )
        else:  # a mistake in a declaration
            from experiments.mistakes import described

            why = described(error)
        print(f"adam-study: {why}", file=sys.stderr)
        return 2
    return command()
