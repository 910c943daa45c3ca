"""Whether a problem reaches its known result with the public recipe, rather than with a study's.

    python benchmarks/known_results.py            # gpt: 2,000 steps, four minutes on one thread
    python benchmarks/known_results.py --steps 500

`gpt`: nanoGPT's README gives a validation loss of 1.88 on Tiny Shakespeare for four layers, four
heads, width 128, context 64 and 2,000 steps of 12 windows without dropout, by AdamW with beta_2 =
0.99, the rate 0.001 after 100 steps of warm-up, then a cosine down to 0.0001, decay 0.1 of
matrices, and gradients cut at the norm 1. Prints the loss on all held-out windows after every
quarter of the steps; ends with 1 if the last is further than 0.03 above the known one.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.problems import registry
from experiments.randomness import batch_order
from experiments.training import loops, runtime

KNOWN, MARGIN = 1.88, 0.03
BATCH = 12
HELD_OUT = 1_742  # all there are


def main() -> int:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    runtime.configure()
    import keras

    from adam_tf import Adam

    keras.utils.set_random_seed(options.seed)
    sizes = {"held_out_examples": HELD_OUT}
    problem = registry.build("tinyshakespeare_gpt", "tinyshakespeare", sizes, options.seed)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, options.steps - 100, alpha=0.1, warmup_target=1e-3, warmup_steps=100
    )
    optimizer = Adam(rate, beta_2=0.99, weight_decay=0.1, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["gamma"])
    variables = problem.model.trainable_variables
    optimizer.build(variables)
    compiled = loops.compile_loops(problem, optimizer)
    order = batch_order(options.seed, 0, len(problem.train[0]), BATCH)[: options.steps]
    print(f"parameters: {sum(v.numpy().size for v in variables)}", flush=True)
    quarter, loss = options.steps // 4, float("nan")
    for done in range(0, options.steps, quarter):
        clock = time.process_time()
        cost, _ = compiled.train_epoch(order[done : done + quarter])
        spent = (time.process_time() - clock) / quarter
        loss, _ = compiled.evaluate()
        print(
            f"{done + quarter} steps: training {cost:.4f}, validation {loss:.4f}, "
            f"{1e3 * spent:.1f} ms of processor time per step",
            flush=True,
        )
    print(f"known: {KNOWN}, ours: {loss:.3f}")
    return int(loss > KNOWN + MARGIN)


if __name__ == "__main__":
    sys.exit(main())
