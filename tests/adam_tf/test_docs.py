"""The documentation runs: every example, and every formula as it is printed."""

import doctest
import importlib
import inspect
import re

import numpy as np
import pytest
from trajectories import iterates

import adam_tf

MODULES = ["adam", "adamax", "averaging", "schedules", "validation"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"adam_tf.{name}")
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0


@pytest.mark.parametrize("name", adam_tf.__all__)
def test_every_public_name_has_its_sections(name):
    text = inspect.getdoc(getattr(adam_tf, name))
    for section in ("$$", "\nArgs:", "\nRaises:", "\nExample:", "\nReferences:", "arxiv.org"):
        assert section in text, section
    assert text.splitlines()[0].endswith(".")
    arguments = [p for p in inspect.signature(getattr(adam_tf, name)).parameters if p != "kwargs"]
    for argument in arguments:
        assert f"\n    {argument}: " in text, argument


# How the printed mathematics reads in Python, longest names first.
READING = [
    (r"\\begin\{aligned\}|\\end\{aligned\}", ""),
    (r"\\frac\{(.+?)\}\{(.+?)\}", r"((\1) / (\2))"),
    (r"\\sqrt\{([^}]*)\}", r"sqrt(\1)"),
    (r"\|g_t\|", "abs(g)"),
    (r"\\max\(", "maximum("),
    (r"\\beta_\{1,t\}", "beta_1_t"),
    (r"\\beta_([12])\^t", r"(beta_\1 ** t)"),
    (r"\\beta_([12])", r"beta_\1"),
    (r"\\hat ([mv])_t", r"\1_hat"),
    (r"\\theta_\{t-1\}|\\theta_t", "theta"),
    (r"\\alpha_t|\\alpha", "alpha"),
    (r"\\epsilon", "epsilon"),
    (r"([muv])_\{t-1\}|([muv])_t", r"\1\2"),
    (r"g_t\^2", "g ** 2"),
    (r"g_t", "g"),
    (r"\)\s*\\, ", ") * "),
    (r"\\,", " *"),
]


def printed_rule(subject):
    """The statements that the first formula of a docstring consists of, as Python."""
    formula = re.search(r"\$\$(.*?)\$\$", subject.__doc__, re.DOTALL).group(1)
    formula = re.sub(r"\n\s+&", " \\\\\\\\ ", formula)  # a second column is a statement too
    for pattern, replacement in READING:
        formula = re.sub(pattern, replacement, formula)
    statements = [line.replace("&", "").strip() for line in formula.split("\\\\")]
    return [" ".join(line.split()) for line in statements if line.strip()]


def run_printed_rule(subject, gradients, **constants):
    code = [compile(line, subject.__name__, "exec") for line in printed_rule(subject)]
    scope = {"sqrt": np.sqrt, "maximum": np.maximum, "abs": np.abs} | constants
    scope |= {name: np.zeros(gradients.shape[1]) for name in ("theta", "m", "v", "u")}
    places = []
    for t, g in enumerate(gradients, start=1):
        scope |= {"t": t, "g": g, "beta_1_t": scope["beta_1"] * scope.get("decay", 1) ** (t - 1)}
        for statement in code:
            exec(statement, scope)
        places.append(scope["theta"])
    return np.array(places)


GRADIENTS = np.random.default_rng(0).standard_normal((10, 4))


def test_printed_rule_of_adam_is_what_the_code_does():
    assert len(printed_rule(adam_tf.Adam)) == 5
    constants = {"alpha": 0.1, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3}
    printed = run_printed_rule(adam_tf.Adam, GRADIENTS, **constants, decay=0.9)
    optimizer = adam_tf.Adam(0.1, 0.8, 0.95, 1e-3, beta_1_decay=0.9)
    np.testing.assert_allclose(iterates(optimizer, GRADIENTS, np.zeros(4)), printed, rtol=1e-12)


def test_printed_rule_of_adamax_is_what_the_code_does():
    assert len(printed_rule(adam_tf.AdaMax)) == 3
    constants = {"alpha": 0.1, "beta_1": 0.8, "beta_2": 0.95}
    printed = run_printed_rule(adam_tf.AdaMax, GRADIENTS, **constants)
    optimizer = adam_tf.AdaMax(0.1, 0.8, 0.95)
    np.testing.assert_allclose(iterates(optimizer, GRADIENTS, np.zeros(4)), printed, rtol=1e-12)


def test_printed_step_size_is_what_the_code_does():
    assert printed_rule(adam_tf.InverseSqrtDecay) == ["alpha = alpha / sqrt(t)"]
