"""Variables on a parameter server: the same numbers as without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
CASES = ("Adam,1", "Adam,6", "AdaMax,6")  # a method and its layers; those of six are joined


@pytest.fixture(scope="module")
def trained():
    env = os.environ | {
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    }
    command = [sys.executable, str(HERE / "parameter_server.py"), *CASES]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(zip(CASES, map(json.loads, lines), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_same_losses_as_without_a_server(trained, case):
    served, plain = (np.array(trained[case][way]) for way in ("served", "plain"))
    assert served[-1] < 0.95 * served[0]
    np.testing.assert_allclose(served, plain, rtol=1e-5)
