"""The explorer: its surfaces, its words and its address in Node; its controls in a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from experiments.figures import walks
from experiments.paths import ROOT
from experiments.report import explorer, webpage

NOTEBOOK = json.loads((ROOT / "notebooks" / "00_adam_explained.ipynb").read_text())
PAGE = ROOT / "docs" / "explorer.html"
IMPORTS = "".join(
    f'import * as {name} from "{(explorer.FOLDER / name).with_suffix(".mjs").as_uri()}";\n'
    for name in ("rules", "surfaces", "walk", "state", "presets")
)


def node(expression: str, given: object = None) -> object:
    """The value of a JavaScript expression in which `given` is defined."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
    text = (
        f"{IMPORTS}const given = {json.dumps(given)};\nconsole.log(JSON.stringify({expression}));"
    )
    done = subprocess.run(
        ["node", "--input-type=module"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- the page as a file ---------------------------------------------------------------------------


def test_the_committed_page_is_what_the_modules_give():
    assert PAGE.read_text(encoding="utf-8") == webpage.explorer_page("Adam, reproduced"), (
        "docs/explorer.html is out of date; `make notebooks` writes it"
    )


def test_the_digits_are_what_their_recipe_gives():
    assert (explorer.FOLDER / "digits.mjs").read_text(encoding="utf-8") == explorer.digits()


def test_the_script_holds_every_module_once_and_no_imports():
    script = explorer.script()
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)
    for module in explorer.FOLDER.glob("*.mjs"):
        names = re.findall(r"^(?:export )?(?:const|function) (\w+)", module.read_text(), re.M)
        assert names
        for name in names:
            assert len(re.findall(rf"^(?:const|function) {name}\b", script, re.M)) == 1, name


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (
            {
                "main.mjs": 'import { a } from "./b.mjs";\nconst a = 1;\n',
                "b.mjs": "const a = 2;\n",
            },
            "define a",
        ),
        (
            {
                "main.mjs": 'import { b } from "./b.mjs";\n',
                "b.mjs": 'import { a } from "./main.mjs";\n',
            },
            "imports itself",
        ),
    ],
)
def test_modules_that_cannot_be_joined_are_refused(tmp_path, monkeypatch, modules, message):
    for name, text in modules.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(explorer, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=message):
        explorer.script()


def test_the_page_loads_nothing_and_runs_its_own_script_alone():
    text = PAGE.read_text(encoding="utf-8")
    policy = html.unescape(
        re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    )
    assert re.fullmatch(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "script-src 'sha256-[A-Za-z0-9+/]{43}='",
        policy,
    )
    assert "http://" not in text
    assert "https://" not in text


# --- surfaces -------------------------------------------------------------------------------------

POINTS = [[-1.3, 0.7], [0.4, -0.9], [2.0, 0.1], [-0.2, 1.6]]


def test_slopes_are_those_of_the_values():
    found = node(
        """Object.entries(surfaces.SURFACES).map(([key, s]) => [key, given.map(([x, y]) => {
          const h = 1e-5;
          return [s.slope(x, y), [(s.value(x + h, y) - s.value(x - h, y)) / (2 * h),
                                  (s.value(x, y + h) - s.value(x, y - h)) / (2 * h)]];
        })])""",
        POINTS,
    )
    assert len(found) == 10
    for key, pairs in found:
        for exact, near in pairs:
            np.testing.assert_allclose(exact, near, rtol=1e-6, atol=1e-6, err_msg=key)


def test_nothing_is_lower_than_the_lowest_points():
    around = [[a, b] for a in (-1e-3, 0, 1e-3) for b in (-1e-3, 0, 1e-3)]
    found = node(
        """Object.values(surfaces.SURFACES).filter((s) => s.lowest).map((s) =>
          given.map(([a, b]) => {
            const clip = (v) => (s.box ? Math.min(1, Math.max(-1, v)) : v);
            return s.value(clip(s.lowest[0] + a), clip(s.lowest[1] + b)) - s.value(...s.lowest);
          }))""",
        around,
    )
    assert len(found) == 8
    assert np.min(found) > -1e-12


@pytest.mark.parametrize(
    ("key", "surface"),
    [
        ("ravine", walks.ravine()),
        ("turned", walks.ravine(degrees=45)),
        ("skewed", walks.ravine(degrees=20, unit=10)),
        ("rosenbrock", walks.banana()),
        ("slope", walks.slope(1, 1)),
        ("bowl", walks.bowl()),
    ],
)
def test_surfaces_are_those_of_the_notebook(key, surface):
    found = node(
        f"""given.map(([x, y]) => [surfaces.SURFACES.{key}.value(x, y),
          surfaces.SURFACES.{key}.slope(x, y), surfaces.SURFACES.{key}.start])""",
        POINTS,
    )
    for point, (value, slope, start) in zip(np.array(POINTS), found, strict=True):
        np.testing.assert_allclose(value, surface.value(point), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(slope, surface.gradient(point, 1), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(start, surface.start, rtol=1e-12)


def test_gradients_as_they_are_seen_have_the_slope_as_their_mean():
    for key, steps in (("rare", 10), ("reddi", 3)):
        seen = node(
            f"given.map((t) => surfaces.SURFACES.{key}.seen(0, 0, t))", list(range(1, steps + 1))
        )
        mean = np.mean(seen, axis=0)
        expected = [-1, -0.1] if key == "rare" else [1 / 3, 1 / 3]
        np.testing.assert_allclose(mean, expected)
    batches, slope = node(
        """(([s]) => [given.map((t) => s.seen(0.5, -0.5, t, 3)), s.slope(0.5, -0.5)])(
          [surfaces.SURFACES.digits])""",
        list(range(1, 4001)),
    )
    error = np.std(batches, axis=0) / np.sqrt(len(batches))
    assert (np.abs(np.mean(batches, axis=0) - slope) < 4 * error).all()
    assert (np.std(batches, axis=0) > 0.05).all()


def test_noise_is_standard_normal_and_a_function_of_seed_step_and_weight():
    from scipy import stats

    draws = np.array(
        node("given.map((t) => [0, 1].map((i) => surfaces.normal(3, t, i)))", list(range(1, 5001)))
    )
    for column in draws.T:
        assert stats.kstest(column, "norm").pvalue > 0.01
    for other in (draws[:, 1], np.roll(draws[:, 0], 1)):
        assert abs(np.corrcoef(draws[:, 0], other)[0, 1]) < 0.05
    assert node("[surfaces.normal(3, 7, 0), surfaces.normal(4, 7, 0)]") != [draws[6, 0]] * 2
    assert node("surfaces.normal(3, 7, 0)") == draws[6, 0]


# --- walks and words ------------------------------------------------------------------------------


def walk_of_python(rule, surface, steps, **settings):
    return walks.run(rule, surface, steps, **settings)


def test_what_presets_say_is_what_python_finds():
    def descent(g, memory, t, alpha):
        return alpha * g

    def momentum(g, memory, t, alpha, beta_1=0.9):
        memory.m = beta_1 * memory.m + (1 - beta_1) * g
        return alpha * memory.m

    said = node(
        """Object.fromEntries(Object.entries(presets.PRESETS).map(([key, preset]) => {
          const { surface, methods, beta_1, beta_2, epsilon, ...rest } = preset.state;
          return [key, presets.words(preset, Object.entries(methods).map(([method, alpha]) =>
            walk.walk(surface, method, { alpha, beta_1, beta_2, epsilon }, rest)))];
        }))"""
    )
    assert not any("{" in text or "NaN" in text or "undefined" in text for text in said.values())
    zigzag = walk_of_python(descent, walks.ravine(), 60, alpha=0.0195).distance[-1]
    smooth = walk_of_python(momentum, walks.ravine(), 60, alpha=0.05).distance[-1]
    assert f"SGD has {zigzag:.2f} to go, momentum {smooth:.2f}" in said["momentum"]
    # Closed forms of the first steps without correction, on a steady slope.
    at = [(1 - 0.9**t) / np.sqrt(1 - 0.999**t) for t in (1, 12)]
    assert f"{at[0]:.2f} α, and {at[1]:.2f} α at step 12" in said["cold"]
    assert "every step is 1.00 α" in said["cold"]
    turned = walk_of_python(momentum, walks.ravine(degrees=45), 60, alpha=0.05).distance[-1]
    assert f"Momentum does not notice the turn: {turned:.2f}" in said["turned"]
    text = "\n".join("".join(cell["source"]) for cell in NOTEBOOK["cells"])
    left = re.search(r"here ([\d.]+)\.", said["turned"])[1]
    assert f"with $\\alpha = 0.1$ it has {left} to go after 60 steps" in text
    heights = re.findall(r"([\d.]+) for", said["both"])
    assert [f"{float(height):.2g}" for height in heights] == ["11", "8", "4.5", "0.021"]


def test_presets_lead_to_sections_of_the_notebook():
    headings = {
        re.sub(r"\s+", "-", title.strip())
        for cell in NOTEBOOK["cells"]
        if cell["cell_type"] == "markdown"
        for title in re.findall(r"^## (.*)$", "".join(cell["source"]), re.MULTILINE)
    }
    sections = node("Object.values(presets.PRESETS).map((p) => p.section).filter(Boolean)")
    assert set(sections) <= headings
    others = {"What-the-pictures-show", "Algorithm-1-in-full", "Where-to-go-on", "Provenance"}
    assert headings - others == set(sections)


def test_adam_fails_on_the_counter_example_and_amsgrad_does_not():
    ends = node(
        """given.map((method) => { const w = walk.walk("reddi", method,
          { alpha: 0.01, beta_1: 0, beta_2: 0.1, epsilon: 1e-8 },
          { start: [0, 0], steps: 2000, noise: 0 }); return [w.x[2000], w.y[2000]]; })""",
        ["adam", "amsgrad", "sgd"],
    )
    assert ends[0][0] > 0.95
    assert ends[1][0] < -0.95
    assert ends[2][0] < -0.95
    assert all(end[1] < -0.95 for end in ends)


def test_a_walk_that_flies_away_says_so():
    found = node(
        """(({ diverged, x }) => [diverged, x[diverged - 1], x[diverged]])(walk.walk("rosenbrock",
          "sgd", { alpha: 1 }, { start: [-1.5, 2], steps: 60, noise: 0 }))"""
    )
    assert 0 < found[0] < 60
    assert found[1] is not None
    assert found[2] is None


# --- the address ----------------------------------------------------------------------------------


def test_every_choice_comes_back_from_the_address():
    chosen = {
        "surface": "saddle", "methods": {"momentum": 0.0123, "adam": 2.5, "amsgrad": 1e-4},
        "beta_1": 0.95, "beta_2": 0.9999, "epsilon": 1e-5, "noise": 1.7,
        "start": [-3.25, 0.001], "steps": 777, "t": 123, "weight": 1,
    }  # fmt: skip
    back, hash_of, hash_again = node(
        """(([h]) => [state.fromHash(h), h, state.toHash(state.fromHash(h))])(
          [state.toHash(given)])""",
        chosen,
    )
    assert back == chosen
    assert hash_of == hash_again


@pytest.mark.parametrize(
    "address",
    [
        "", "#", "#surface=nowhere", "#methods=", "#methods=adam:x", "#beta_1=&t=-1&steps=1e99",
        "#surface=constructor&methods=toString:1", "#start=1", "#start=a,b", "#start=,",
        "#start=1e999,0", "#t=1.5", "#weight=7", "#%%%",
        "#methods=sgd:1,momentum:1,adam:1,adamax:1,amsgrad:1",
    ],
)  # fmt: skip
def test_an_address_that_makes_no_sense_is_as_near_as_can_be(address):
    state = node("state.fromHash(given)", address)
    assert state["surface"] == "ravine"
    assert 1 <= len(state["methods"]) <= 4
    assert all(1e-4 <= alpha <= 10 for alpha in state["methods"].values())
    assert 0 <= state["t"] <= state["steps"] <= 3000
    assert 0 <= state["beta_1"] < 1
    assert 0 <= state["beta_2"] < 1
    assert all(isinstance(value, float | int) for value in state["start"])
    assert state["weight"] in (0, 1)


# --- in the browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(chromium):
    """Opens the page and gives it with what it asked for and what went wrong."""
    contexts = []

    def open_page(address="", **options):
        context = chromium.new_context(**{"viewport": {"width": 1400, "height": 1000}, **options})
        contexts.append(context)
        page = context.new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
        page.on(
            "request",
            lambda r: None if r.url.split("#")[0] == PAGE.as_uri() else page.faults.append(r.url),
        )
        page.goto(PAGE.as_uri() + address)
        until(page, "explorer.walks().length > 0")
        return page

    yield open_page
    for context in contexts:
        context.close()


def until(page, condition):
    """Wait for a condition; the page's own policy forbids Playwright's way of doing so."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {condition}")


def state_of(page):
    return page.evaluate("explorer.state()")


def test_presets_time_and_methods(opened):
    page = opened()
    assert state_of(page)["surface"] == "ravine"
    page.select_option("#preset", "reddi")
    assert state_of(page)["methods"] == {"sgd": 0.01, "adam": 0.01, "amsgrad": 0.01}
    assert "AMSGrad remembers it" in page.inner_text("#see")
    page.click("#rewind")
    page.click("#forward")
    page.click("#forward")
    page.click("#back")
    assert state_of(page)["t"] == 1
    until(page, "document.querySelector('#now').textContent === 'step 1 of 1000'")
    page.check("#use-momentum")
    assert page.is_disabled("#use-rmsprop")  # four are the most
    assert len(page.query_selector_all("#numbers tbody tr")) == 4
    assert page.is_hidden("#see")  # the words were about the choices before
    page.uncheck("#use-momentum")
    assert page.is_enabled("#use-rmsprop")
    page.click("#reset")
    assert state_of(page)["methods"] == {"adam": 0.1}
    assert page.is_disabled("#use-adam")  # one is the least
    assert page.faults == []


def test_play_runs_to_the_end(opened):
    page = opened("#surface=ravine&methods=adam:0.1&steps=10&t=10")
    page.click("#play")
    assert "Pause" in page.inner_text("#play")
    until(page, "explorer.state().t === 10 && !/Pause/.test(play.textContent)")
    assert page.faults == []


def test_who_wants_no_motion_sees_the_end_at_once(opened):
    page = opened("#steps=3000&t=5", reduced_motion="reduce")
    page.click("#play")
    assert state_of(page)["t"] == 3000
    assert "Pause" not in page.inner_text("#play")


def test_the_start_is_dragged_and_moved_by_keys(opened):
    page = opened("#surface=ravine&methods=adam:0.1")
    frame = page.locator("#map").bounding_box()
    page.hover("#start")
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2, steps=4)
    page.mouse.up()
    x, y = state_of(page)["start"]
    assert (x, y) == pytest.approx((-1.2, -0.1), abs=0.05)
    handle = page.locator("#start").bounding_box()
    assert handle["x"] + 22 == pytest.approx(frame["x"] + frame["width"] / 2, abs=2)
    assert handle["y"] + 22 == pytest.approx(frame["y"] + frame["height"] / 2, abs=2)
    page.focus("#start")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    moved = state_of(page)["start"]
    assert moved[0] - x == pytest.approx(8 / 50, abs=2e-3)
    assert moved[1] - y == pytest.approx(6 / 10, abs=2e-3)
    assert page.evaluate("explorer.walks()[0].x[0]") == moved[0]
    page.mouse.click(frame["x"] + 0.9 * frame["width"], frame["y"] + 0.1 * frame["height"])
    assert state_of(page)["start"][0] > 1.5


def test_sliders_by_the_keyboard_and_space_plays(opened):
    page = opened("#surface=ravine&methods=adam:0.1&t=0")
    page.focus("#beta_1")
    page.keyboard.press("Home")
    assert state_of(page)["beta_1"] == 0
    page.keyboard.press("End")
    assert state_of(page)["beta_1"] == 0.999
    page.focus("#alpha-adam")
    before = state_of(page)["methods"]["adam"]
    page.keyboard.press("ArrowRight")
    assert state_of(page)["methods"]["adam"] > before
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press(" ")
    assert "Pause" in page.inner_text("#play")


def test_the_address_follows_and_restores(opened):
    address = "#surface=turned&methods=adamax:0.3&beta_1=0.5&start=1,1&steps=200&t=50&weight=2"
    page = opened(address)
    page.focus("#noise")
    page.keyboard.press("ArrowRight")
    until(page, "location.hash.includes('noise=0.1')")
    again = opened(page.evaluate("location.hash"))
    assert state_of(again) == state_of(page)
    assert state_of(again)["weight"] == 1


def test_touch_on_a_phone(opened):
    page = opened(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    frame = page.locator("#map").bounding_box()
    page.touchscreen.tap(frame["x"] + 0.5 * frame["width"], frame["y"] + 0.3 * frame["height"])
    assert state_of(page)["start"] != [-4, 2]
    size = page.locator("#start").bounding_box()
    assert min(size["width"], size["height"]) >= 44
    assert page.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_are_drawn_in_both_themes(opened, scheme):
    page = opened(color_scheme=scheme)
    page.wait_for_timeout(100)
    pixels = page.evaluate(
        """["map", "plot-cost", "plot-length"].map((id) => { const c = document.getElementById(id);
          const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
          return new Set(Array.from({ length: d.length / 4 }, (_, k) =>
            `${d[4 * k]},${d[4 * k + 1]},${d[4 * k + 2]}`)).size; })"""
    )
    assert min(pixels) > 10
    middle = page.evaluate(
        """(() => { const c = document.getElementById("map");
          return [...c.getContext("2d").getImageData(c.width - 40, 40, 1, 1).data]; })()"""
    )
    assert (sum(middle[:3]) > 380) == (scheme == "light")


def test_a_frame_takes_less_than_a_sixtieth_of_a_second(opened):
    page = opened("#surface=digits&methods=sgd:1,adagrad:0.3,adam:0.1,adamax:0.1&steps=3000")
    times = page.evaluate(
        """Array.from({ length: 30 }, () => { const at = performance.now(); explorer.draw();
          return performance.now() - at; })"""
    )
    assert np.median(times) < 1000 / 60


def test_axe_finds_nothing(opened):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed"
    )
    for options in ({}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}):
        found = axe.Axe().run(opened(**options)).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []
