"""The options of the measurements: what each may be, and their defaults.

Each measurement's function takes an object of its own class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from experiments.options import AtLeastZero, Count, Positive, Share


@dataclass(frozen=True, kw_only=True)
class StepSizes:
    """Of `step_sizes`."""

    train_examples: Count = 60_000
    scale: AtLeastZero = 1e-3


@dataclass(frozen=True, kw_only=True)
class ConstructedSteps:
    """Of `constructed_steps`."""

    steps: Count = 10_000


@dataclass(frozen=True, kw_only=True)
class SignalSteps:
    """Of `signal_steps`."""

    signal: Share = 0.0
    steps: Count = 10_000
    dimensions: Count = 1_000


@dataclass(frozen=True, kw_only=True)
class Norms:
    """Of `norms`."""

    steps: Count = 1_000
    dimensions: Count = 100


@dataclass(frozen=True, kw_only=True)
class Identities:
    """Of `identities`."""

    steps: Count = 1_000
    dimensions: Count = 100
    forgetting: Positive = 1e-8


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Of `drift`."""

    motion: Literal["rest", "walk", "jumps"] = "walk"
    start: Literal["zero", "optimum"] = "zero"
    steps: Count = 10_000
    dimensions: Count = 50
    speed: AtLeastZero = 0.01
    noise: AtLeastZero = 1.0


@dataclass(frozen=True, kw_only=True)
class OptimizerState:
    """Of `optimizer_state`."""

    largest: Count = 6


@dataclass(frozen=True, kw_only=True)
class MomentBias:
    """Of `moment_bias`."""

    parameters: Literal["fixed", "moving", "path"] = "fixed"
    train_examples: Count = 60_000
    replicates: Count = 32


@dataclass(frozen=True, kw_only=True)
class Regret:
    """Of `regret`."""

    problem: Literal["logistic", "quadratic", "sparse", "absolute"] = "logistic"
    train_examples: Count = 10_000
    l2: AtLeastZero = 1e-3
    steps: Count = 10_000
    dimensions: Count = 100
    scale: AtLeastZero = 0.01


@dataclass(frozen=True, kw_only=True)
class Counterexample:
    """Of `counterexample`."""

    kind: Literal["three", "online", "stochastic"] = "three"
    bounds: Literal["clip", "wall"] = "clip"
    c: AtLeastZero = 3.0
    x_1: AtLeastZero = 0.0
    steps: Count = 300_000
