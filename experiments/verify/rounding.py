r"""What in a run is not affected by rounding, and so must agree when it is trained again elsewhere.

Another processor adds up the same numbers in another order. Let $u = 2^{-24}$ be half a unit in the
last place of a float32 near 1, and $e_t$ the relative difference of two trainings of the same run
after $t$ steps. A step turns $e_t$ into

$$e_{t+1} = J_t e_t + r_t, \qquad |r_t| \le c u,$$

where $J_t$ is the derivative of the step and $r_t$ is what its own rounding adds. Three bounds
follow, and there are no others.

1. **Equal weights.** If two of a pass's costs equal the record's to the last bit, both trainings
   had the same weights up to that pass. So every other number of this pass, and of those before it,
   can differ only by the rounding of its own sum: at most `batch_size` $\cdot u$, about 8e-6.
2. **No growth.** While $|J_t| \le 1$, as in a convex problem with a step size that is not too
   large, the $r_t$ add up as independent numbers do: $e_t$ is of the order of $u \sqrt t$, and a
   difference of up to `SPREAD` times that, or up to the rounding of 1, needs no explanation.
   In measurements, 21,000 steps of logistic regressions leave 4e-8 where this is 4e-5, which is
   less than one part in ten thousand.
3. **Growth, measured.** Where the difference is larger, nothing general can be said about $J_t$: a
   network's differences grow with every step, and a run with too large a step size is chaotic. So
   the growth is measured on that very run: its *twins* are trained here, each with every weight
   moved to one of its two neighbours after every step (`experiments.training.twins`). Their
   distance $E_p$ from the run after pass $p$ is the growth of one unit in the last place. A record
   may be `MARGIN` times as far away: a processor's sums err by a few units, and two twins are a
   small sample.

Measured distances of records made with AVX-512 from runs with AVX2, and of twins: on the multilayer
network, AdaGrad 9e-4 and 10e-4 after a pass, AdaMax 3e-3 and 2e-3 (1e-2 and 1e-2 after two), held
out 4e-2 and 4e-2; the auto-encoder 4e-7 and 5e-7, at a large step size 7e-3 and 5e-3; logistic
regressions 1e-8 and less. AdaGrad at 316 on reviews, held out, was 6e-2 off on another processor;
its twins are 2e-2 and 5e-2 off.

In networks, twins take a while and every pass would need them, so their usual growth is given here:
`GROWN` is the difference that a pass leaves in its mean cost; for a cost at the end of a pass,
which no averaging smooths, it is `END` times that; later passes may double and treble it. Seven
multilayer runs were 4e-5 to 3e-3 apart after one pass, up to 1e-2 after two, and up to 4e-2 held
out. Twins are trained only for differences beyond that.

Where even the twins differ by more than `CHAOS`, no cost can be compared number by number. What
remains comparable is its order of magnitude, within a factor of ten, and, if the twins share it,
the run's fate: whether it diverges.

Another backend (JAX for a record of TensorFlow) rounds differently in every operation, and may be
`ANOTHER_BACKEND` times as far away. Measured after ten passes of Figure 1's logistic regressions:
Adam 2e-7, AdaGrad 2e-7, SGD-Nesterov 3e-8. It also draws other random numbers. So only runs
that draw none from their backend (`draws`) are compared, which are logistic regressions that start
from zero and have no dropout. Of all others, new seeds are checked.

Measurements, which train nothing, are float64 throughout, $u = 2^{-53}$, and not chaotic: most of
their numbers repeat to 1e-15. The regret is relative to a minimum that is itself computed. From
values of the function alone it can be located to $\sqrt u = 10^{-8}$; the conditioning of these
problems enlarges that up to 300 times, and `MEASURED` allows 1,000 times.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.problems import registry as problems
from experiments.records.merge import NOT_COMPARED
from experiments.study import Run
from experiments.words import counted

U = 2.0**-24
MARGIN = 10.0
SPREAD = 5.0
CHAOS = 0.01  # twins that differ by 1% after one unit in the last place will soon have parted
MEASURED = 1e3 * 2.0**-26.5
SMALL = 1e-3  # below which numbers of a measurement are compared absolutely
TINY = 2.0**-20  # nats below which a cost is rounding: that of a logit of about 16
SHARES = 1e-3  # share of examples or coordinates that may change sides
# The same where few are counted: 100 drawn images, and 1,000 real ones, by a classifier that is
# itself trained, whose own rounding counts even where weights are equal.
COARSE = {"read_as_digits": 0.1, "real_read_as_digits": 0.02}
ANOTHER_BACKEND = 10.0  # how much more the libraries of another backend may round
FROM_ZERO = ("imdb_logistic_regression", "imbalance")  # problems whose weights start at zero
GROWN = {"mnist_multilayer": 0.01, "cifar10_convolutional": 0.01}
END, MOST = 5.0, 3
OVER_A_PASS = ("training_cost", "objective")
COSTS = ("training_cost", "objective", "held_out_cost")


@dataclass(frozen=True)
class Comparison:
    """A run trained again, next to its record.

    Attributes:
        passes: how many passes (rows of a measurement) were compared.
        equal: in how many of them every number equals the record's to the last bit.
        largest: the largest relative difference of a cost; for a measurement, of any number.
            Chaotic passes are left out.
        fault: what disagrees by more than rounding, in words; "" if nothing does.
        chaotic: how many passes are chaotic, that is, compared by their order of magnitude.
        doubtful: whether twins are needed to tell rounding from a disagreement.
    """

    passes: int
    equal: int
    largest: float
    fault: str = ""
    chaotic: int = 0
    doubtful: bool = False


def compare(
    run: Run,
    record: Mapping[str, Any],
    again: Mapping[str, Any],
    twins: Sequence[Mapping[str, Any]] = (),
    *,
    same_backend: bool = True,
) -> Comparison:
    """Compare a run trained here, to its end or for its first passes, with its record.

    Args:
        run: the run.
        record: its record: `metrics` by name, a number for each pass, and `diverged_at`.
        again: the same as trained here; it may end earlier.
        twins: the same of its twins, as long as `again`; none if they were not needed so far.
        same_backend: whether both were trained by the same library.

    Returns:
        The comparison; `doubtful` asks to be called again with twins.
    """
    if problems.PROBLEMS[run.problem].measured:
        return _measured(record, again)
    then, now = record["metrics"], again["metrics"]
    names = [name for name in then if name not in NOT_COMPARED and name in now]
    lost = sorted(set(then) - set(now) - set(NOT_COMPARED))
    if lost and any(now.values()):  # one that diverges in its first pass has only its costs
        return Comparison(0, 0, 0.0, fault=f"it does not record {', '.join(lost)} here")
    trained = len(now["training_cost"]) + (again["diverged_at"] is not None)
    passes = min(len(then["training_cost"]), len(now["training_cost"]))
    apart = {n: _apart(n, then[n][:passes], now[n][:passes]) for n in names}
    same = {n: np.equal(then[n][:passes], now[n][:passes]) for n in names}
    equal = int(np.sum(np.all(list(same.values()), axis=0))) if passes else 0
    # The last pass up to which both had the same weights, counted from 1.
    votes = np.sum([same[name] for name in COSTS], axis=0)
    alike = int(np.flatnonzero(votes >= 2)[-1]) + 1 if np.any(votes >= 2) else 0
    growth = _growth(names, now, twins, passes)
    chaos = np.asarray(np.max([growth[name] for name in COSTS], axis=0) > CHAOS)
    units = U * (1.0 if same_backend else ANOTHER_BACKEND)
    steps = steps_per_pass(run) * np.arange(1 - alike, passes - alike + 1)  # since they parted
    doubtful = False
    faults: list[tuple[int, str]] = []
    for name in names:
        added = SPREAD * np.sqrt(np.maximum(steps, 0))
        rounding = units * np.maximum(run.batch_size, added)
        grown = GROWN.get(run.problem, 0.0) * (1.0 if name in OVER_A_PASS else END)
        usual = grown * np.clip(np.arange(1, passes + 1), 1, MOST) * (steps > 0)
        rounding = np.maximum(rounding, usual)
        if not _is_cost(name):
            rounding = np.maximum(rounding, COARSE.get(name, SHARES))
        allowed = np.maximum(rounding, MARGIN * units / U * growth[name] * (steps > 0))
        far = apart[name] > allowed
        excused = chaos
        if _is_cost(name):
            excused = chaos & (_magnitudes(then[name][:passes], now[name][:passes]) <= 1)
        far = np.asarray(far & ~excused)
        if far.any():
            i = int(np.argmax(far))
            doubtful |= i >= alike
            faults.append((i, _told(name, i, then, now, apart[name][i], allowed[i])))
    fate = _fate(record["diverged_at"], again["diverged_at"], trained)
    if fate:
        shared = all(t["diverged_at"] == again["diverged_at"] for t in twins)
        if not twins or (shared and not chaos[-1:].any()):
            doubtful = True
            faults.append((passes, fate))
    certain = [fault for i, fault in faults if i < alike]
    shown = [apart[name][~chaos] for name in names if _is_cost(name)]
    both = not fate and again["diverged_at"] is not None  # a pass that diverges is one, too
    return Comparison(
        passes=passes + both,
        equal=equal + both,
        largest=float(np.max(np.concatenate(shown), initial=0.0)) if shown else 0.0,
        fault=certain[0] if certain else min(faults)[1] if faults else "",
        chaotic=int(np.sum(chaos)),
        doubtful=doubtful and not certain and not twins,
    )


def draws(run: Run) -> bool:
    """Whether a run draws random numbers from its backend: initial weights, dropout, latents."""
    entry = problems.PROBLEMS[run.problem]
    if entry.measured:
        return False
    options = dataclasses.asdict(entry.options(**run.options))
    if any(value for name, value in options.items() if name.endswith("dropout")):
        return True
    return run.problem not in FROM_ZERO and options.get("initial_stddev") != 0


def steps_per_pass(run: Run) -> int:
    """Steps of the optimizer in a pass."""
    if run.optimizer == "sfo":
        return int(run.settings["minibatches"])
    options = problems.PROBLEMS[run.problem].options(**run.options)  # with the defaults
    return int(options.train_examples) // run.batch_size


def _is_cost(name: str) -> bool:
    return name.endswith(("cost", "objective"))


def _apart(name: str, then: Sequence[float], now: Sequence[float]) -> np.ndarray:
    """Relative differences of costs, differences of shares."""
    a, b = np.asarray(then, float), np.asarray(now, float)
    return np.abs(a - b) / (np.abs(a) + TINY if _is_cost(name) else 1.0)


def _growth(
    names: Sequence[str], now: Mapping[str, Any], twins: Sequence[Mapping[str, Any]], passes: int
) -> dict[str, np.ndarray]:
    """How far the twins have moved from the run so far, by metric and pass; never decreasing."""
    growth = {name: np.zeros(passes) for name in names}
    for twin in twins:
        for name in names:
            values = list(twin["metrics"].get(name, ()))[:passes]
            apart = np.full(passes, math.inf)  # a twin that diverged
            apart[: len(values)] = _apart(name, now[name][: len(values)], values)
            growth[name] = np.maximum(growth[name], np.maximum.accumulate(apart))
    return growth


def _magnitudes(then: Sequence[float], now: Sequence[float]) -> np.ndarray:
    """Orders of magnitude between two positive costs."""
    a, b = np.asarray(then, float) + TINY, np.asarray(now, float) + TINY
    return np.abs(np.log10(np.maximum(a, TINY) / np.maximum(b, TINY)))


def _told(
    name: str, i: int, then: Mapping[str, Any], now: Mapping[str, Any], apart: float, allowed: float
) -> str:
    return (
        f"{name} of pass {i + 1} is {now[name][i]:.8g} here and {then[name][i]:.8g} in the record, "
        f"{apart:.1e} apart where rounding leaves {allowed:.1e}"
    )


def _fate(then: int | None, now: int | None, trained: int) -> str:
    """How the fates differ within the passes that were trained here; "" if they do not."""
    then = then if then is not None and then < trained else None
    if then == now:
        return ""
    words = [
        "does not diverge" if at is None else f"diverges in pass {at + 1}" for at in (now, then)
    ]
    passes = counted(trained, "pass", "passes")
    return f"it {words[0]} here and {words[1]} in the record, of {passes}"


def _measured(record: Mapping[str, Any], again: Mapping[str, Any]) -> Comparison:
    then, now = record["metrics"], again["metrics"]
    rows = len(next(iter(then.values())))
    if set(then) != set(now) or any(len(now[name]) != rows for name in then):
        return Comparison(0, 0, 0.0, fault="it has other columns or rows here than in the record")
    same, apart, fault = np.ones(rows, bool), 0.0, ""
    for name in (name for name in then if name not in NOT_COMPARED):
        a, b = np.asarray(then[name], float), np.asarray(now[name], float)
        same &= a == b
        far = np.abs(a - b) / (np.abs(a) + SMALL)
        i = int(np.argmax(far))
        apart = max(apart, float(far[i]))
        if far[i] > MEASURED and not fault:
            fault = _told(name, i, then, now, float(far[i]), MEASURED).replace("pass", "row")
    return Comparison(rows, int(np.sum(same)), apart, fault)
