"""Intervals and tests over seeds, beside those of `scipy.stats`."""

import numpy as np
import pytest
from scipy import stats

from experiments.analysis import statistics


@pytest.mark.parametrize("log", [False, True])
def test_intervals_and_p_values_are_those_of_scipy_stats(log):
    """Student's t is taken from `scipy.special`, which is imported in a tenth of the time."""
    values = np.array([0.91, 0.97, 1.04, 0.88])
    work = np.log(values) if log else values
    sample = stats.ttest_1samp(work, 0.0 if log else 1.0)
    expected = np.array(sample.confidence_interval(0.95))
    _, low, high = statistics.interval(values, log=log)
    np.testing.assert_allclose([low, high], np.exp(expected) if log else expected, rtol=1e-12)
    assert statistics.p_value(values, 1.0, log=log) == pytest.approx(sample.pvalue, rel=1e-12)
    assert statistics.quantile_of_t(3, 0.9) == pytest.approx(stats.t.ppf(0.95, 3), rel=1e-14)
