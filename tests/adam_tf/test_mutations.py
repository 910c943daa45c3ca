"""The trajectory test refuses every Adam and AdaMax that is wrong in a known way.

`ADAM_MUTATIONS` and `ADAMAX_MUTATIONS` name each mistake and the setting of test_trajectories whose
comparison catches it. Most of these mistakes were found in published code; tests by convergence or
by a few printed values let nearly all of them pass.
"""

import numpy as np
import oracle
import pytest
from trajectories import ADAM_CASES, ADAMAX_CASES, GRADIENTS, START, assert_steps_close

ADAM_MUTATIONS = {
    # mistake: the setting that catches it
    "no bias correction": "defaults",
    "no correction of m": "defaults",
    "no correction of v": "defaults",
    "correction with t + 1": "defaults",
    "epsilon inside the root": "defaults",
    "epsilon added to the parameter": "large epsilon",
    "epsilon forms exchanged": "defaults",
    "epsilon_hat = (1 - beta_2^t) epsilon": "defaults",
    "epsilon 100 times too large": "defaults",
    "betas swapped": "defaults",
    "beta_2 = 0.99": "defaults",
    "beta_1 = 0.95": "defaults",
    "centred second moment": "defaults",
    "Nesterov": "defaults",
    "betas rounded to float32": "defaults",
    "amsgrad ignored": "amsgrad",
    # and some more
    "amsgrad of the corrected v": "amsgrad",
    "bias_correction ignored": "no correction",
    "beta_1_decay ignored": "decaying beta_1",
    "beta_1 decays from the first step": "decaying beta_1",
    "learning rate rounded to float32": "defaults",
    "moments of the previous step": "defaults",
}


def wrong_adam(
    theta, gradients, alpha, mistake,
    beta_1=0.9, beta_2=0.999, epsilon=1e-8, epsilon_form="algorithm1",
    bias_correction=True, amsgrad=False, beta_1_decay=1.0,
):  # fmt: skip
    if mistake == "betas swapped":
        beta_1, beta_2 = beta_2, beta_1
    if mistake == "beta_2 = 0.99":
        beta_2 = 0.99
    if mistake == "beta_1 = 0.95":
        beta_1 = 0.95
    if mistake == "betas rounded to float32":
        beta_1, beta_2 = float(np.float32(beta_1)), float(np.float32(beta_2))
    if mistake == "learning rate rounded to float32":
        alpha = float(np.float32(alpha))
    if mistake == "epsilon 100 times too large":
        epsilon *= 100
    if mistake == "amsgrad ignored":
        amsgrad = False
    if mistake == "bias_correction ignored":
        bias_correction = True
    if mistake == "beta_1_decay ignored":
        beta_1_decay = 1.0
    if mistake == "epsilon forms exchanged":
        epsilon_form = "hat" if epsilon_form == "algorithm1" else "algorithm1"
    theta = np.array(theta)
    m, v, v_max = np.zeros((3, theta.size))
    iterates = []
    for t, g in enumerate(gradients, start=1):
        exponent = t if mistake == "beta_1 decays from the first step" else t - 1
        beta_1_t = beta_1 * beta_1_decay**exponent
        before = m, v
        m = beta_1_t * m + (1 - beta_1_t) * g
        v = beta_2 * v + (1 - beta_2) * (g - m if mistake == "centred second moment" else g) ** 2
        late = t + 1 if mistake == "correction with t + 1" else t
        first = second = 1.0
        if bias_correction and mistake != "no bias correction":
            first = -np.expm1(late * np.log(beta_1)) if beta_1 else 1.0
            second = -np.expm1(late * np.log(beta_2)) if beta_2 else 1.0
        if mistake == "no correction of m":
            first = 1.0
        if mistake == "no correction of v":
            second = 1.0
        used_m, used_v = before if mistake == "moments of the previous step" else (m, v)
        if mistake == "Nesterov":
            used_m = beta_1 * m + (1 - beta_1) * g
        v_hat = used_v / second
        if amsgrad and mistake == "amsgrad of the corrected v":
            v_hat = v_max = np.maximum(v_max, v_hat)
        elif amsgrad:
            v_max = np.maximum(v_max, used_v)
            v_hat = v_max / second
        added = epsilon if epsilon_form == "algorithm1" else epsilon / np.sqrt(second)
        if mistake == "epsilon_hat = (1 - beta_2^t) epsilon":
            added = epsilon * np.sqrt(second)  # in terms of sqrt(v_hat)
        m_hat = used_m / first
        if mistake == "epsilon inside the root":
            step = m_hat / np.sqrt(v_hat + epsilon)
        elif mistake == "epsilon added to the parameter":
            step = np.divide(m_hat, np.sqrt(v_hat), out=np.zeros_like(g), where=v_hat > 0)
            step += epsilon
        else:
            step = m_hat / (np.sqrt(v_hat) + added)
        theta = theta - alpha * step
        iterates.append(theta)
    return np.array(iterates)


ADAMAX_MUTATIONS = {
    "no bias correction": "defaults",
    "correction with t + 1": "defaults",
    "u corrected too": "defaults",
    "epsilon added to u": "defaults",
    "epsilon added to |g|": "defaults",
    "u without decay": "defaults",
    "u decays after the maximum": "defaults",
    "u weighs |g| by 1 - beta_2": "defaults",
    "sum in place of the maximum": "defaults",
    "root mean square in place of the maximum": "defaults",
    "g in place of |g|": "defaults",
    "u of the previous step": "defaults",
    "m without 1 - beta_1": "defaults",
    "Nesterov": "defaults",
    "betas swapped": "defaults",
    "betas rounded to float32": "defaults",
    "learning rate rounded to float32": "defaults",
}


def wrong_adamax(theta, gradients, alpha, mistake, beta_1=0.9, beta_2=0.999):
    if mistake == "betas swapped":
        beta_1, beta_2 = beta_2, beta_1
    if mistake == "betas rounded to float32":
        beta_1, beta_2 = float(np.float32(beta_1)), float(np.float32(beta_2))
    if mistake == "learning rate rounded to float32":
        alpha = float(np.float32(alpha))
    theta = np.array(theta)
    m, u = np.zeros((2, theta.size))
    iterates = []
    for t, g in enumerate(gradients, start=1):
        before = u
        m = beta_1 * m + (g if mistake == "m without 1 - beta_1" else (1 - beta_1) * g)
        size = g if mistake == "g in place of |g|" else np.abs(g)
        if mistake == "epsilon added to |g|":
            size = size + 1e-8
        if mistake == "u without decay":
            u = np.maximum(u, size)
        elif mistake == "u decays after the maximum":
            u = beta_2 * np.maximum(u, size)
        elif mistake == "u weighs |g| by 1 - beta_2":
            u = np.maximum(beta_2 * u, (1 - beta_2) * size)
        elif mistake == "sum in place of the maximum":
            u = beta_2 * u + size
        elif mistake == "root mean square in place of the maximum":
            u = np.sqrt(beta_2 * u**2 + (1 - beta_2) * size**2)
        else:
            u = np.maximum(beta_2 * u, size)
        first = 1.0
        if mistake != "no bias correction":
            late = t + 1 if mistake == "correction with t + 1" else t
            first = -np.expm1(late * np.log(beta_1)) if beta_1 else 1.0
        used_m = beta_1 * m + (1 - beta_1) * g if mistake == "Nesterov" else m
        used_u = before if mistake == "u of the previous step" else u
        if mistake == "u corrected too":
            used_u = u / -np.expm1(t * np.log(beta_2))
        if mistake == "epsilon added to u":
            used_u = u + 1e-7
        step = np.divide(used_m, used_u, out=np.zeros_like(g), where=used_u != 0)
        theta = theta - alpha / first * step
        iterates.append(theta)
    return np.array(iterates)


SUBJECTS = {
    "adam": (wrong_adam, oracle.adam, ADAM_CASES, ADAM_MUTATIONS),
    "adamax": (wrong_adamax, oracle.adamax, ADAMAX_CASES, ADAMAX_MUTATIONS),
}


@pytest.mark.parametrize(
    ("subject", "mistake"),
    [(name, mistake) for name, (*_, mutations) in SUBJECTS.items() for mistake in mutations],
)
def test_caught(subject, mistake):
    wrong, right, cases, mutations = SUBJECTS[subject]
    settings = cases[mutations[mistake]]
    expected = right(START, GRADIENTS, 0.1, **settings)
    with pytest.raises(AssertionError, match="steps differ"):
        assert_steps_close(wrong(START, GRADIENTS, 0.1, mistake, **settings), expected, 1e-13)


@pytest.mark.parametrize(
    ("subject", "case"),
    [(name, case) for name, (_, _, cases, _) in SUBJECTS.items() for case in cases],
)
def test_without_a_mistake_the_same_code_passes(subject, case):
    wrong, right, cases, _ = SUBJECTS[subject]
    expected = right(START, GRADIENTS, 0.1, **cases[case])
    assert_steps_close(wrong(START, GRADIENTS, 0.1, None, **cases[case]), expected, 1e-13)
