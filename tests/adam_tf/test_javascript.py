"""The explorer's Adam and AdaMax, in Node and in the browser, against the float64 oracle.

The wrong ones of test_mutations are made here from the module itself, by a change of its text.
"""

import json
import re
import shutil
import subprocess

import numpy as np
import oracle
import pytest
from test_mutations import ADAM_MUTATIONS, ADAMAX_MUTATIONS
from trajectories import ADAM_CASES, ADAMAX_CASES, GRADIENTS, START, assert_steps_close

from experiments.report import explorer, webpage

RULES = explorer.FOLDER / "rules.mjs"
CASES = {"adam": (oracle.adam, ADAM_CASES), "adamax": (oracle.adamax, ADAMAX_CASES)}
ALL = [(kind, case) for kind, (_, cases) in CASES.items() for case in cases]
RUN = """
import { readFileSync } from "node:fs";
const found = [];
for (const { module, kind, start, gradients, settings } of JSON.parse(readFileSync(0, "utf8"))) {
  const rules = await import(module);
  found.push(rules.trajectory(rules[kind], start, gradients, settings));
}
console.log(JSON.stringify(found));
"""

# What a mistake changes in `adam`: texts that stand there once, and what takes their place.
FIRST = "bias_correction ? correction(beta_1, t) : 1"
SECOND = "bias_correction ? correction(beta_2, t) : 1"
M_HAT, V_HAT = "m_hat[i] = m[i] / first", "v_hat[i] = (amsgrad ? v_max[i] : v[i]) / second"
STEP = "theta[i] -= (alpha * m_hat[i]) / (Math.sqrt(v_hat[i]) + added)"
BETAS = "beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-8"
START_OF_STEP = "const beta_1_t ="
ROUNDED = "beta_1 = Math.fround(beta_1), beta_2 = Math.fround(beta_2)"
ADAM_CHANGES = {
    "no bias correction": {FIRST: "1", SECOND: "1"},
    "no correction of m": {FIRST: "1"},
    "no correction of v": {SECOND: "1"},
    "correction with t + 1": {
        FIRST: FIRST.replace("t)", "t + 1)"),
        SECOND: SECOND.replace("t)", "t + 1)"),
    },
    "epsilon inside the root": {STEP: STEP.replace(") + added)", " + added))")},
    "epsilon added to the parameter": {
        STEP: "theta[i] -= alpha * ((v_hat[i] > 0 ? m_hat[i] / Math.sqrt(v_hat[i]) : 0) + epsilon)"
    },
    "epsilon forms exchanged": {'=== "hat"': '!== "hat"'},
    "epsilon_hat = (1 - beta_2^t) epsilon": {": epsilon;": ": epsilon * Math.sqrt(second);"},
    "epsilon 100 times too large": {": epsilon;": ": 100 * epsilon;"},
    "betas swapped": {BETAS: "beta_1 = 0.999, beta_2 = 0.9, epsilon = 1e-8"},
    "beta_2 = 0.99": {BETAS: BETAS.replace("0.999", "0.99")},
    "beta_1 = 0.95": {BETAS: BETAS.replace("0.9,", "0.95,")},
    "centred second moment": {"(1 - beta_2) * g[i] * g[i]": "(1 - beta_2) * (g[i] - m[i]) ** 2"},
    "Nesterov": {M_HAT: "m_hat[i] = (beta_1 * m[i] + (1 - beta_1) * g[i]) / first"},
    "betas rounded to float32": {START_OF_STEP: f"{ROUNDED}; {START_OF_STEP}"},
    "amsgrad ignored": {V_HAT: "v_hat[i] = v[i] / second"},
    "amsgrad of the corrected v": {
        "Math.max(v_max[i], v[i])": "Math.max(v_max[i], v[i] / second)",
        V_HAT: "v_hat[i] = amsgrad ? v_max[i] : v[i] / second",
    },
    "bias_correction ignored": {
        FIRST: FIRST.replace("bias_correction", "true"),
        SECOND: SECOND.replace("bias_correction", "true"),
    },
    "beta_1_decay ignored": {"beta_1 * beta_1_decay ** (t - 1)": "beta_1"},
    "beta_1 decays from the first step": {"** (t - 1)": "** t"},
    "learning rate rounded to float32": {"(alpha * m_hat[i])": "(Math.fround(alpha) * m_hat[i])"},
    "moments of the previous step": {
        "m[i] = beta_1_t": "const before = [m[i], v[i]]; m[i] = beta_1_t",
        M_HAT: "m_hat[i] = before[0] / first",
        V_HAT: "v_hat[i] = before[1] / second",
    },
}
U = "u[i] = Math.max(beta_2 * u[i], Math.abs(g[i]))"
MOVE = "if (u[i] > 0) theta[i] -= (alpha * m_hat[i]) / u[i]"
M = "m[i] = beta_1 * m[i] + (1 - beta_1) * g[i]"
MAX_FIRST = "const first = correction(beta_1, t)"
ADAMAX_CHANGES = {
    "no bias correction": {MAX_FIRST: "const first = 1"},
    "correction with t + 1": {MAX_FIRST: "const first = correction(beta_1, t + 1)"},
    "u corrected too": {
        MOVE: f"{MOVE} / correction(beta_2, t)".replace("/ u[i] /", "/ (u[i] /") + ")"
    },
    "epsilon added to u": {MOVE: MOVE.replace("/ u[i]", "/ (u[i] + 1e-7)")},
    "epsilon added to |g|": {U: U.replace("Math.abs(g[i])", "Math.abs(g[i]) + 1e-8")},
    "u without decay": {U: U.replace("beta_2 * ", "")},
    "u decays after the maximum": {U: "u[i] = beta_2 * Math.max(u[i], Math.abs(g[i]))"},
    "u weighs |g| by 1 - beta_2": {U: U.replace("Math.abs", "(1 - beta_2) * Math.abs")},
    "sum in place of the maximum": {U: "u[i] = beta_2 * u[i] + Math.abs(g[i])"},
    "root mean square in place of the maximum": {
        U: "u[i] = Math.sqrt(beta_2 * u[i] * u[i] + (1 - beta_2) * g[i] * g[i])"
    },
    "g in place of |g|": {U: U.replace("Math.abs(g[i])", "g[i]")},
    "u of the previous step": {
        U: f"const before = u[i]; {U}",
        MOVE: MOVE.replace("u[i] > 0", "before > 0").replace("/ u[i]", "/ before"),
    },
    "m without 1 - beta_1": {M: M.replace("(1 - beta_1) * ", "")},
    "Nesterov": {
        "m_hat[i] = m[i] / first": "m_hat[i] = (beta_1 * m[i] + (1 - beta_1) * g[i]) / first"
    },
    "betas swapped": {"beta_1 = 0.9, beta_2 = 0.999": "beta_1 = 0.999, beta_2 = 0.9"},
    "betas rounded to float32": {MAX_FIRST: f"{ROUNDED}; {MAX_FIRST}"},
    "learning rate rounded to float32": {MOVE: MOVE.replace("alpha", "Math.fround(alpha)")},
}
CHANGES = {"adam": ADAM_CHANGES, "adamax": ADAMAX_CHANGES}
MISTAKES = [(kind, mistake) for kind, changes in CHANGES.items() for mistake in changes]
MUTATIONS = {"adam": ADAM_MUTATIONS, "adamax": ADAMAX_MUTATIONS}


def job(kind, settings, module=RULES):
    settings = {"alpha": 0.1, **settings}
    data = {"kind": kind, "start": START.tolist(), "gradients": GRADIENTS.tolist()}
    return {**data, "settings": settings, "module": module.as_uri()}


def in_node(jobs):
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
    command = ["node", "--input-type=module", "--eval", RUN]
    done = subprocess.run(
        command, input=json.dumps(jobs), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [np.array(places) for places in json.loads(done.stdout)]


def expected(kind, settings):
    return CASES[kind][0](START, GRADIENTS, 0.1, **settings)


def wrong(kind, mistake):
    """The module with one mistake in one of its functions."""
    text = RULES.read_text()
    function = re.search(rf"export function {kind}\(.*?\n}}\n", text, re.DOTALL)[0]
    changed = function
    for old, new in CHANGES[kind][mistake].items():
        assert function.count(old) == 1, (mistake, old)
        changed = changed.replace(old, new)
    return text.replace(function, changed)


@pytest.fixture(scope="module")
def walked():
    return dict(zip(ALL, in_node([job(k, CASES[k][1][c]) for k, c in ALL]), strict=True))


@pytest.fixture(scope="module")
def walked_wrongly(tmp_path_factory):
    folder, jobs = tmp_path_factory.mktemp("wrong"), []
    for number, (kind, mistake) in enumerate(MISTAKES):
        (folder / f"{number}.mjs").write_text(wrong(kind, mistake))
        settings = CASES[kind][1][MUTATIONS[kind][mistake]]
        jobs.append(job(kind, settings, folder / f"{number}.mjs"))
    return dict(zip(MISTAKES, in_node(jobs), strict=True))


@pytest.fixture(scope="module")
def walked_in_browser(chromium, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "explorer.html"
    file.write_text(webpage.explorer_page("Adam"))
    page = chromium.new_page()
    page.goto(file.as_uri())
    run = """jobs => jobs.map(({ kind, start, gradients, settings }) =>
        explorer.trajectory(explorer[kind], start, gradients, settings))"""
    found = page.evaluate(run, [job(k, CASES[k][1][c]) for k, c in ALL])
    page.close()
    return dict(zip(ALL, map(np.array, found), strict=True))


@pytest.mark.parametrize(("kind", "case"), ALL)
def test_in_node_it_is_the_papers_algorithm(walked, kind, case):
    assert_steps_close(walked[kind, case], expected(kind, CASES[kind][1][case]), 1e-12)


@pytest.mark.parametrize(("kind", "case"), ALL)
def test_in_the_browser_it_is_the_papers_algorithm(walked_in_browser, kind, case):
    assert_steps_close(walked_in_browser[kind, case], expected(kind, CASES[kind][1][case]), 1e-12)


@pytest.mark.parametrize(("kind", "mistake"), MISTAKES)
def test_a_wrong_one_is_caught(walked_wrongly, kind, mistake):
    settings = CASES[kind][1][MUTATIONS[kind][mistake]]
    with pytest.raises(AssertionError, match="steps differ"):
        assert_steps_close(walked_wrongly[kind, mistake], expected(kind, settings), 1e-12)


def test_every_mistake_is_ported_and_the_page_tells_how_many():
    assert {kind: list(changes) for kind, changes in CHANGES.items()} == {
        kind: list(mistakes) for kind, mistakes in MUTATIONS.items()
    }
    told = f"{len(MISTAKES)} deliberately wrong versions are caught"
    assert told in webpage.explorer_page("Adam")
