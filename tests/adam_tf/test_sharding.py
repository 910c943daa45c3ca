"""State that is spread over devices under `keras.distribution`: eight logical CPUs of JAX."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")
HERE = Path(__file__).parent
WALKS = {
    "one device": ("none", "whole"),
    "data": ("data", "whole"),
    "data, divided": ("data", "divided"),
    "model": ("model", "whole"),
    "model, divided": ("model", "divided"),
}


@pytest.fixture(scope="module")
def walked():
    """What `sharded.py` says of each case; one process for all, eight devices each."""
    env = os.environ | {
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    }
    env.pop("KERAS_FLOATX", None)
    command = [sys.executable, str(HERE / "sharded.py"), *(",".join(w) for w in WALKS.values())]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(zip(WALKS, map(json.loads, lines), strict=True))


@pytest.mark.parametrize("case", list(WALKS)[1:])
def test_the_same_numbers_as_on_one_device(walked, case):
    whole = walked["one device"]
    for a, b in zip(walked[case]["walked"], whole["walked"], strict=True):
        # 20 steps of 0.01: a few units in the last place of the weights.
        np.testing.assert_allclose(a, b, rtol=4 * np.finfo("float32").eps, atol=1e-7)
    # In `fit` the gradients are summed in another order.
    assert walked[case]["loss"] == pytest.approx(whole["loss"], rel=1e-3)


def test_moments_lie_as_their_variables_do(walked):
    # Kernels of 16 x 64 and 64 x 8 numbers, biases of 64 and 8; two moments of 4 bytes each.
    weights = 4 * (16 * 64 + 64 + 64 * 8 + 8)
    assert walked["data"]["weight bytes"] == weights
    assert walked["data"]["moment bytes"] == 2 * weights
    halved = 4 * (16 * 64 // 2 + 64 + 64 * 8 // 2 + 8)  # the kernels, over two devices
    assert walked["model"]["weight bytes"] == halved
    assert walked["model"]["moment bytes"] == 2 * halved


@pytest.mark.parametrize(("case", "devices"), [("data, divided", 8), ("model, divided", 4)])
def test_divided_moments_take_their_share_of_each_device(walked, case, devices):
    whole = walked[case.partition(",")[0]]
    assert walked[case]["weight bytes"] == whole["weight bytes"]
    assert walked[case]["moment bytes"] * devices == whole["moment bytes"]
    assert walked[case]["all moment bytes"] == whole["all moment bytes"]
