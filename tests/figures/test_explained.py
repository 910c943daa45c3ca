"""The page that explains Adam: surfaces, pictures, the check, and every number that it states."""

from __future__ import annotations

import ast
import base64
import inspect
import io
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from PIL import Image

import adam_tf
from experiments.figures import explained, knobs, style
from experiments.figures.walks import (
    ALPHAS,
    SURFACES,
    best,
    bowl,
    ravine,
    run,
    signal,
    slope,
    steps_needed,
)
from experiments.paths import ROOT
from experiments.report import canonical, notebooks, parameters

PAGE = ROOT / "notebooks" / "00_adam_explained.ipynb"
CELLS = json.loads(PAGE.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
TEXT = "\n\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
ALGORITHM = next(source for source in CODE if source.startswith("def algorithm_1"))
CHECK = next(source for source in CODE if "explained.compare" in source)


def play(source: str, scope: dict[str, Any]) -> Any:
    """Run a cell; the value of the expression that it ends with."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), scope) if last else None


@pytest.fixture(scope="module")
def played() -> tuple[dict[str, Any], list[Any]]:
    """What the page's names hold at its end, and what its cells show."""
    scope: dict[str, Any] = {}
    return scope, [play(source, scope) for source in CODE]


@pytest.fixture(scope="module")
def page(played) -> dict[str, Any]:
    return played[0]


def defined(source: str, name: str) -> Any:
    scope = {"np": np}
    exec(source, scope)
    return scope[name]


# --- surfaces and walks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "surface",
    [*SURFACES.values(), ravine(30, 20, 10), bowl(start=[1, 2, 3]), slope(1, 0.01, -3)],
    ids=lambda surface: surface.name,
)
def test_slopes_are_the_derivatives_of_the_values(surface):
    size = len(surface.start)
    points = np.random.default_rng(0).uniform(-2, 2, (20, size))
    h = 1e-5
    for i in range(size):
        ahead, behind = points + h * np.eye(size)[i], points - h * np.eye(size)[i]
        expected = (surface.value(ahead) - surface.value(behind)) / (2 * h)
        np.testing.assert_allclose(surface.slope(points)[:, i], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)
def test_the_star_is_the_lowest_point(surface):
    lowest = np.array(surface.lowest)
    np.testing.assert_allclose(surface.slope(lowest), 0, atol=1e-12)
    around = lowest + np.random.default_rng(0).normal(0, 0.1, (100, 2))
    assert (surface.value(around) > surface.value(lowest)).all()
    left, right, bottom, top = surface.window
    for x, y in (surface.start, surface.lowest):
        assert left < x < right
        assert bottom < y < top


def test_how_a_gradient_is_seen():
    noisy = slope(1, 1, noise=(0, 2))
    seen = np.array([noisy.gradient(np.zeros(2), t) for t in range(1, 2001)])
    assert (seen[:, 0] == -1).all()
    assert abs(seen[:, 1].std() - 2) < 0.1
    assert (noisy.gradient(np.ones(2), 7) == seen[6]).all()  # the same for every rule
    rare = slope(1, 1, every=(1, 3))
    assert [rare.gradient(np.zeros(2), t)[1] for t in range(1, 7)] == [0, 0, -1, 0, 0, -1]
    growing = slope(1, growth=(2, 3))
    assert [growing.gradient(np.zeros(1), t)[0] for t in (1, 2, 3, 4)] == [-0.25, -0.5, -1, -2]


def test_a_walk_writes_down_what_happened():
    def rule(g, memory, t, alpha):
        memory.m = memory.m + g
        memory.count = t
        return alpha * g

    walk = run(rule, bowl(), steps=3, alpha=0.5)
    np.testing.assert_array_equal(walk.theta[:, 0], [-4, -2, -1, -0.5])
    np.testing.assert_array_equal(walk.gradient, walk.theta[:-1])
    np.testing.assert_array_equal(walk.memory["m"][:, 0], [-4, -6, -7])
    assert walk.memory["count"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(walk.distance, np.sqrt(20) / 2.0 ** np.arange(4))
    np.testing.assert_allclose(walk.value, walk.distance**2 / 2)
    assert walk.step.shape == (3, 2)


def test_the_best_step_size_is_the_best(page):
    walk = best(page["descent"], ravine(), 100)
    for factor in (0.8, 1.26):
        alpha = walk.settings["alpha"] * factor
        with np.errstate(all="ignore"):
            other = run(page["descent"], ravine(), 100, alpha=alpha)
        assert np.log(walk.value).mean() < np.log(other.value).mean()
    assert np.isnan(steps_needed(page["descent"], ravine(1e6), 50))
    assert steps_needed(page["descent"], bowl(), 50) == 1


# --- the check against adam_tf --------------------------------------------------------------------

MUTATIONS = {
    "correction one step late": ("beta_1**t", "beta_1 ** (t + 1)"),
    "no correction": ("v_hat = v / (1 - beta_2**t)", "v_hat = v"),
    "memory of m for v": ("beta_2 * v", "beta_1 * v"),
    "sizes, not squares": ("g**2", "abs(g)"),
    "epsilon inside the root": ("np.sqrt(v_hat) + epsilon", "np.sqrt(v_hat + epsilon**2)"),
    "epsilon before the correction": ("+ epsilon)", "+ epsilon / np.sqrt(1 - beta_2**t))"),
    "the gradient for its average": ("alpha * m_hat", "alpha * g"),
    "a billionth too far": ("theta - alpha", "theta - 1.000000001 * alpha"),
}


def test_the_pages_adam_is_adam_tf(page):
    table = page["check"]
    assert len(table) == len(explained.CASES) == 6
    assert (table["steps"] == 1000).all()
    assert table["largest difference"].max() < 1e-12


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_check_would_find_a_mistake(mutation, monkeypatch, page):
    before, after = MUTATIONS[mutation]
    assert before in ALGORITHM
    wrong = defined(ALGORITHM.replace(before, after), "algorithm_1")
    monkeypatch.setattr(explained, "CASES", (explained.CASES[0], explained.CASES[4]))
    scope = {**page, "algorithm_1": wrong}
    with pytest.raises(AssertionError, match=r"this is not Algorithm 1: it differs from adam_tf"):
        play(CHECK.replace("steps=1000", "steps=30"), scope)


def test_the_rule_and_the_algorithm_in_full_walk_the_same_way(page):
    for _, surface, settings in explained.CASES:
        walk = run(page["adam"], surface, 200, **settings)
        full = page["algorithm_1"](surface.gradient, np.array(surface.start), 200, **settings)
        np.testing.assert_array_equal(walk.theta, full)


def test_every_line_of_the_table_is_a_line_of_the_code():
    rows = re.findall(r"^\| .*?\| `(.*?)` \|", TEXT, re.MULTILINE)
    lines = [line.strip() for line in ALGORITHM.splitlines()]
    shown = [line for line in lines[1:-1] if not line.startswith("path")]
    assert [row for row in rows if " = " in row or row.startswith("while")] == shown


# --- what the text says ---------------------------------------------------------------------------


def longest(walk: Any) -> float:
    return np.abs(walk.step).max() / walk.settings["alpha"]


def lengths(walk: Any) -> np.ndarray:
    return np.abs(walk.step[:, 0]) / walk.settings["alpha"]


def rates(p: dict[str, Any]) -> np.ndarray:
    rate = 1 / np.sqrt(p["seen"]["adaptive scaling"].memory["v"][4000:])
    return (rate / rate[:, :1]).mean(axis=0)


def shares(walk: Any) -> np.ndarray:
    way = walk.theta[-1] - walk.theta[4000]
    return 100 * way / way[0]


def lasting(p: dict[str, Any]) -> np.ndarray:
    """Root mean square of the steps into the noisy bowl, over alpha."""
    walk = p["bowl_walk"]
    return np.sqrt((walk.step**2).mean(axis=1)) / walk.settings["alpha"]


def stray(walk: Any) -> float:
    return walk.distance[-1] / np.sqrt(walk.theta.shape[1]) / walk.settings["alpha"]


def uncorrected(p: dict[str, Any], steps: int, **settings: float) -> np.ndarray:
    return lengths(run(p["both"], slope(1), steps, alpha=0.01, **settings))


# What the text says, and how to find it; the numbers are put in as the text writes them.
SAYINGS = [
    (
        "gradient descent is still {:.2f} away from the lowest point, momentum {:.2f}.",
        lambda p: (p["zigzag"].distance[60], p["smooth"].distance[60]),
    ),
    (
        r"effective length is $1/(1-\beta_1) = {:.0f}$ steps: the last ten gradients carry "
        "{:.0f}% of the weight",
        lambda p: (1 / (1 - 0.9), 100 * (1 - 0.9**10)),
    ),
    (
        r"$\sqrt{{(1-\beta_1)/(1+\beta_1)}}$, that is {:.0f}%, of the noise",
        lambda p: (100 * np.sqrt(0.1 / 1.9),),
    ),
    (
        r"that is {:.0f}%, of the noise",
        lambda p: (100 * p["noisy"].memory["m"].std() / p["noisy"].gradient.std(),),
    ),
    (
        r"become $\sqrt{{10}} = {:.1f}$ and $\sqrt{{100}} = {:.0f}$ times as high",
        lambda p: rates(p)[1:],
    ),
    (
        "They cover {:.0f}% and {:.0f}% of its way, instead of {:.0f}% and {:.0f}%.",
        lambda p: (
            *shares(p["seen"]["adaptive scaling"])[1:],
            *shares(p["seen"]["gradient descent"])[1:],
        ),
    ),
    (
        r"best $\alpha$ of {:.0f} tried. After {:.0f} steps the height left is {:.0f} for "
        "gradient descent, {:.1f} for momentum, {:.1f} for scaling, and {:.3f} for both together.",
        lambda p: (len(ALPHAS), 100, *(walk.value[100] for walk in p["walks"])),
    ),
    (
        r"$m_1$ is only $1-\beta_1 = {:.1f}$ of the first gradient, $v_1$ only $1-\beta_2 = {:.3f}$"
        " of its square",
        lambda p: (
            p["steady"]["without correction"].memory["m"][0, 0] / -1,
            p["steady"]["without correction"].memory["v"][0, 0],
        ),
    ),
    (
        r"$(1-\beta_1)/\sqrt{{1-\beta_2}} = {:.2f}$ times $\alpha$",
        lambda p: lengths(p["steady"]["without correction"])[:1],
    ),
    (
        r"{:.2f} $\alpha$ at step {:.0f}, still {:.2f} $\alpha$ at step 50, and {:.2f} $\alpha$ at "
        "step 1,000",
        lambda p: (
            (u := uncorrected(p, 1000)).max(),
            u.argmax() + 1,
            u[49],
            u[999],
        ),
    ),
    (
        r"strays by {:.1f} $\alpha$ without correction and by {:.1f} $\alpha$ with it",
        lambda p: (
            stray(p["strays"]["without correction"]),
            stray(p["strays"]["with correction"]),
        ),
    ),
    (
        r"With $\beta_2 = 0.9$ the first step would be {:.2f} $\alpha$",
        lambda p: uncorrected(p, 1, beta_2=0.9),
    ),
    (
        "it is {:.0f} times as fast as gradient descent",
        lambda p: (p["goes"]["Adam"].theta[-1, 1] / p["goes"]["gradient descent"].theta[-1, 1],),
    ),
    (
        r"mean ratio there is {:.2f}, and $1/\sqrt{{1 + 3^2}} = {:.2f}$ was",
        lambda p: (-signal(p["goes"]["Adam"])[:, 2].mean(), 1 / np.sqrt(10)),
    ),
    (
        r"steps shrink with it, to {:.2f} $\alpha$. Later they settle at {:.2f} $\alpha$",
        lambda p: (lasting(p).min(), lasting(p)[-500:].mean()),
    ),
    (
        r"which is {:.2f} $\alpha$ with the default settings; the first gradient after a long",
        lambda p: (longest(p["stories"]["the first gradient after a long silence"]),),
    ),
    (
        r"grow by {:.0f}% from step to step reach {:.2f} $\alpha$",
        lambda p: (
            100 * (p["growing"].growth[0] - 1),
            longest(p["stories"]["gradients that grow by 11% a step"]),
        ),
    ),
    (
        "Adam needs {:.0f} steps however steep the ravine",
        lambda p: set(p["needed"]["Adam"]),
    ),
    (
        r"with $\alpha = {:.1f}$ it has {:.2f} to go after 60 steps, not {:.2f}.",
        lambda p: (
            p["turned"].settings["alpha"],
            p["turned"].distance[60],
            p["straight"].distance[60],
        ),
    ),
    (
        "it needs {:.0f} steps when the ravine is 100 times as steep across, and {:.0f} when it is "
        "1,000 times as steep, where plain momentum needs {:.0f}.",
        lambda p: (
            p["needed"]["Adam, turned ravine"][100],
            p["needed"]["Adam, turned ravine"][1000],
            p["needed"]["momentum"][1000],
        ),
    ),
    (
        r"its steps can grow to {:.2f} $\alpha$",
        lambda p: (longest(p["stories"]["gradients that grow by 11% a step"]),),
    ),
    (
        r"too long, not too short: {:.2f} $\alpha$ to {:.2f} $\alpha$",
        lambda p: (uncorrected(p, 50)[0], uncorrected(p, 50).max()),
    ),
    ("here is a walk of {:.0f} steps", lambda p: (knobs.STEPS,)),
]


@pytest.mark.parametrize("saying", range(len(SAYINGS)))
def test_numbers_in_the_text_are_those_of_the_pictures(saying, page):
    words, find = SAYINGS[saying]
    assert words.format(*find(page)) in TEXT


def test_no_decimal_number_in_the_text_is_left_unchecked():
    rest = TEXT
    for words, _ in SAYINGS:
        pattern = re.escape(words.replace("{{", "\0").replace("}}", "\1"))
        pattern = pattern.replace("\0", r"\{").replace("\1", r"\}")
        rest = re.sub(re.sub(r"\\\{:\\?\.\df\\\}", r"[\\d.]+", pattern), "", rest)
    # Section 2.1, the limits that `test_the_limits_of_stability` holds, settings, defaults.
    rest = re.sub(r"Section \d\.\d|above 0\.02|\\alpha = 0\.38|0\.01\) and steady", "", rest)
    rest = "\n".join(line for line in rest.splitlines() if not re.match(r"\| \$\\", line))
    assert re.findall(r"[^\n]*\d\.\d[^\n]*", rest.replace("arxiv.org/abs/1412.6980", "")) == []


def test_the_limits_of_stability(page):
    for rule, limit in ((page["descent"], 0.02), (page["momentum"], 0.38)):
        assert run(rule, ravine(), 2000, alpha=0.99 * limit).distance[-1] < 1e-3
        assert run(rule, ravine(), 2000, alpha=1.01 * limit).distance[-1] > 1e3
    assert "0.38$ here, 19 times the limit" in TEXT


def test_the_defaults_in_the_table_are_those_of_adam_tf():
    defaults = inspect.signature(adam_tf.Adam).parameters
    for sign, name in (
        (r"\alpha", "learning_rate"),
        (r"\beta_1", "beta_1"),
        (r"\beta_2", "beta_2"),
    ):
        assert f"| ${sign}$ | {defaults[name].default} |" in TEXT
    assert r"| $\epsilon$ | $10^{-8}$ |" in TEXT
    assert defaults["epsilon"].default == 1e-8


def test_what_the_text_says_without_numbers(page):
    # With correction every step on the steady slope is alpha long.
    np.testing.assert_allclose(lengths(page["steady"]["with correction"]), 1, rtol=1e-6)
    # Momentum overshoots; gradient descent zigzags.
    assert page["smooth"].theta[:, 0].max() > 0.05
    assert (np.diff(np.sign(page["zigzag"].theta[:, 1])) != 0).all()
    # Adam is as fast on the faint slope as on the steep one, and keeps a third of it in noise.
    way = page["goes"]["Adam"].theta[-1]
    assert abs(way[1] / way[0] - 1) < 1e-5
    assert 0.3 < way[2] / way[0] < 0.37
    # At the beginning of the bowl every step is alpha long.
    assert lasting(page)[:3].min() > 0.98
    # A constant factor changes nothing, as far as epsilon lets it.
    steep = run(page["adam"], ravine(1e4), 60, alpha=0.1)
    np.testing.assert_allclose(steep.theta, page["straight"].theta, atol=1e-7)
    # Gradient descent and momentum do not notice that the ravine is turned.
    turn = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    for rule, alpha in ((page["descent"], 0.0195), (page["momentum"], 0.05)):
        straight, turned = (run(rule, ravine(100, d), 60, alpha=alpha) for d in (0, 45))
        np.testing.assert_allclose(turned.theta, straight.theta @ turn.T, atol=1e-9)
    # The best step sizes of the comparison are inside the range that was tried.
    for walk in page["walks"]:
        assert ALPHAS[0] < walk.settings["alpha"] < ALPHAS[-1]


def anchors(page: Path) -> set[str]:
    sources = ["".join(cell["source"]) for cell in json.loads(page.read_text())["cells"]]
    headings = re.findall(r"^#+ (.*)$", "\n\n".join(sources), re.MULTILINE)
    return {re.sub(r"\s+", "-", heading) for heading in headings}


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]*)\)", TEXT)
    assert len(links) > 20
    for link in links:
        if link.startswith("https:"):
            continue
        path, _, anchor = link.partition("#")
        target = PAGE.parent / (path or PAGE.name)
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    others = {page.name for page in PAGE.parent.glob("*.ipynb")} - {PAGE.name}
    assert others <= {link.partition("#")[0] for link in links}


# --- the page as a notebook -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"interactiv": True}, "unknown parameter 'interactiv': did you mean interactive"),
        ({"interactive": "yes"}, "'interactive' must be bool, got 'yes'"),
        ({"profile": "smoke"}, "unknown parameter 'profile'"),
    ],
)
def test_bad_parameters_are_refused(values, message):
    with pytest.raises(parameters.NotebookError, match=message):
        parameters.check(PAGE, values)


def shown(cells: list[dict[str, Any]], kind: str) -> list[str]:
    """What cells show of a kind: "image/png", "text/html", or "text" for what they print."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    found = [output.get("data", output).get(kind) for output in outputs]
    return ["".join(data).replace("\n", "") for data in found if data]


def test_the_page_runs_headless_and_draws_the_same_in_every_process(tmp_path, played):
    output = tmp_path / PAGE.name
    notebooks.execute(PAGE, output, {"interactive": False})
    ran = canonical.canonical(nbformat.read(output, as_version=4)).cells
    drawn = [value.data for value in played[1] if hasattr(value, "alt")]
    assert [base64.b64decode(data) for data in shown(ran, "image/png")] == drawn
    assert shown(CELLS, "text") == shown(ran, "text")
    assert len(shown(CELLS, "text/html")) == len(shown(ran, "text/html"))


def texts(picture: bytes) -> int:
    """The bytes of a PNG that hold its numbers and its lines, compressed."""
    places = [match.start() for match in re.finditer(rb"iTXt(CSV|SVG)\0", picture)]
    return sum(int.from_bytes(picture[place - 4 : place], "big") for place in places)


def test_the_committed_page_is_whole_and_small():
    assert len(shown(CELLS, "image/png")) == 9
    held = sum(texts(base64.b64decode(png)) for png in shown(CELLS, "image/png"))
    assert PAGE.stat().st_size - held * 4 / 3 < 1_500_000
    assert held < 700_000
    for cell in CELLS:
        if cell["cell_type"] == "code":
            algorithm = "".join(cell["source"]).startswith("def ")
            assert ("open" in cell["metadata"].get("tags", [])) == algorithm


def test_pictures_are_small_and_described(played):
    drawn = [value for value in played[1] if hasattr(value, "alt")]
    assert len(drawn) == 9
    for picture in drawn:
        assert len(picture.alt) > 80
        assert len(picture.data) - texts(picture.data) < 250_000
        assert texts(picture.data) < 250_000
        with Image.open(io.BytesIO(picture.data)) as image:
            assert image.mode == "P"
            assert abs(image.width / style.DPI * 96 - picture.width) <= 1


def test_few_colours_look_like_all_colours(page):
    walks = page["bests"]
    with Image.open(io.BytesIO(style.png(explained.together(walks)))) as few:
        seen = np.asarray(few.convert("RGB")).astype(int)
    buffer = io.BytesIO()
    explained.together(walks).savefig(buffer, dpi=style.DPI)
    with Image.open(buffer) as every:
        error = np.abs(seen - np.asarray(every.convert("RGB")))
    assert error.max() < 24
    assert error.mean() < 1  # a cast over a surface would be more


# --- sliders --------------------------------------------------------------------------------------


def test_without_a_reader_the_sliders_are_labelled_pictures(page):
    figure = knobs.knobs(page["adam"])
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert len(titles) == 20
    assert len(set(titles)) == 20
    assert sum("(the base)" in title for title in titles) == 5
    for sign in ("α = 2", "β₁ = 0.99", "β₂ = 0", "ε = 1e-8  (the base)", "banana valley"):
        assert sign in titles
    rows = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert rows == [name for name, _ in knobs.KNOBS.values()]
    assert knobs.explore(page["adam"], interactive=False).alt == knobs.KNOBS_ALT


@pytest.fixture
def coarse(monkeypatch) -> None:
    """Fewer pixels, which change as the others do."""
    monkeypatch.setattr(style, "DPI", 60)


@pytest.mark.usefixtures("coarse")
def test_sliders_redraw_the_picture(page):
    widgets = pytest.importorskip("ipywidgets")
    others = {"momentum": page["momentum"], "gradient descent": page["descent"]}
    box = knobs.explore(page["adam"], interactive=True, others=others)
    left, right = box.children
    *controls, reset = left.children
    (picture,) = right.children
    assert isinstance(picture, widgets.Image)
    assert [control.description for control in controls] == [
        "surface",
        "beside",
        "α",
        "β₁",
        "β₂",
        "ε",
        "steps",
    ]
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    first = before
    settings = (*list(SURFACES)[1:2], "momentum", 1.0, 0.5, 0.9, 10.0, 120)
    for control, value in zip(controls, settings, strict=True):
        control.value = value
        assert bytes(picture.value) != before, control.description
        before = bytes(picture.value)
    reset.click()
    assert bytes(picture.value) == first
    assert [control.value for control in controls[:3]] == ["ravine", "nothing", 0.1]
    controls[1].value = "gradient descent"  # which knows alpha alone
    assert bytes(picture.value) != first


@pytest.mark.usefixtures("coarse")
def test_a_walk_that_flies_about_is_drawn_too(page):
    pytest.importorskip("ipywidgets")
    left, right = knobs.sliders(page["adam"]).children
    surface, _, alpha, _, beta_2, *_ = left.children
    (picture,) = right.children
    alpha.value, beta_2.value = alpha.max, 0.0
    before = bytes(picture.value)
    for name in list(SURFACES)[1:]:
        surface.value = name
        assert bytes(picture.value) != before
        before = bytes(picture.value)
