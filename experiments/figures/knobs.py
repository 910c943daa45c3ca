"""Adam's settings as knobs: sliders for readers who can move them, a set of pictures for others."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.figures.axes import legend_below
from experiments.figures.display import show
from experiments.figures.landscape import COLOURS, PLACES, SOFT, draw_map, draw_path, note
from experiments.figures.style import new_figure, plain_png, styled
from experiments.figures.walks import SURFACES, Rule, Walk, run

BASE = {"alpha": 0.1, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
STEPS = 60
KNOBS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "alpha": ("step size α", (0.02, 0.1, 0.5, 2.0)),
    "beta_1": ("memory β₁", (0.0, 0.5, 0.9, 0.99)),
    "beta_2": ("memory of squares β₂", (0.0, 0.5, 0.9, 0.999)),
    "epsilon": ("floor ε", (1e-8, 1.0, 10.0, 100.0)),
    "surface": ("surface", tuple(SURFACES)),
}


def explore(rule: Rule, interactive: bool = False, others: Mapping[str, Rule] | None = None) -> Any:
    """Sliders for a rule's settings, or a set of pictures if there is nobody to move them.

    Args:
        rule: takes `alpha`, `beta_1`, `beta_2` and `epsilon`.
        interactive: whether to make the sliders, which need a running notebook and ipywidgets.
        others: see `sliders`.
    """
    if interactive and importlib.util.find_spec("ipywidgets"):
        return sliders(rule, others)
    return show(knobs(rule), KNOBS_ALT)


KNOBS_ALT = (
    "Adam's way for four values of each of its settings and on four surfaces: "
    "a small step size does not arrive and a large one overshoots; a long memory overshoots; "
    "a short memory of squares never settles; a large epsilon undoes the scaling"
)


def knobs(rule: Rule) -> Figure:
    """The path of a rule for several values of each setting, a row per setting; base framed."""
    with styled():
        figure = Figure(figsize=(11.5, 11.5), layout="constrained")
        axes = figure.subplots(len(KNOBS), 4)
        for row, (knob, (name, values)) in zip(axes, KNOBS.items(), strict=True):
            for axis, value in zip(row, values, strict=True):
                settings = BASE if knob == "surface" else {**BASE, knob: value}
                surface = SURFACES[value if knob == "surface" else "ravine"]
                walk = run(rule, surface, STEPS, **settings)
                draw_map(axis, surface, points=81)
                draw_path(axis, walk, COLOURS["Adam"], size=2.4)
                note(axis, f"distance left: {walk.distance[-1]:.2f}", size=8)
                base = settings == BASE and surface.name == "ravine"
                title = value if knob == "surface" else f"{name.split()[-1]} = {_plain(value)}"
                axis.set_title(title + base * "  (the base)", fontsize=10)
                axis.set(xlabel="", ylabel="", xticks=[], yticks=[])
                for spine in axis.spines.values():
                    spine.set(visible=base, color="#222222", linewidth=2)
            row[0].set_ylabel(name, fontsize=11, weight="bold")
        return figure


def _plain(number: float) -> str:
    return f"{number:g}".replace("e-0", "e-")


def explored(walk: Walk, second: Walk | None = None, name: str = "") -> Figure:
    """Adam's walk: its path, its height, and the length of its steps; another walk beside it.

    Args:
        walk: Adam's.
        second: the other, of which path and height are shown.
        name: of the other's rule.
    """
    with styled():
        figure, axes = new_figure(3, 3.8)
        way, heights, lengths = axes[0]
        draw_map(way, walk.surface)
        way.set_title(walk.surface.name)
        lowest = walk.surface.value(np.array(walk.surface.lowest))
        others = [] if second is None else [(second, COLOURS.get(name, SOFT), name)]
        for each, colour, label in [*others, (walk, COLOURS["Adam"], "Adam")]:
            draw_path(way, each, colour)
            heights.plot(np.maximum(each.value - lowest, 1e-12), color=colour, lw=2, label=label)
        heights.set(title="height above the lowest point", yscale="log", xlabel="step")
        legend_below(heights)
        length = np.abs(walk.step) / walk.settings["alpha"]
        for i, colour in enumerate(PLACES[:2]):
            label = f"$\\theta_{i + 1}$"
            lengths.plot(np.arange(1, len(length) + 1), length[:, i], color=colour, label=label)
        lengths.set(title="length of each of Adam's steps / α", xlabel="step")
        legend_below(lengths)
        return figure


def sliders(rule: Rule, others: Mapping[str, Rule] | None = None) -> Any:
    """Sliders for every setting and the surface, beside the picture that follows them.

    Args:
        rule: Adam.
        others: rules that can be drawn beside it, by name; each takes the settings that it knows.
    """
    import ipywidgets

    others = dict(others or {})
    controls = {
        "surface": ipywidgets.Dropdown(options=list(SURFACES), value="ravine"),
        "beside": ipywidgets.Dropdown(options=["nothing", *others], value="nothing"),
        "alpha": ipywidgets.FloatLogSlider(BASE["alpha"], min=-3, max=1, step=0.1),
        "beta_1": ipywidgets.FloatSlider(BASE["beta_1"], min=0, max=0.99, step=0.01),
        "beta_2": ipywidgets.SelectionSlider(
            options=(0.0, 0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999), value=BASE["beta_2"]
        ),
        "epsilon": ipywidgets.FloatLogSlider(BASE["epsilon"], min=-10, max=3, step=0.5),
        "steps": ipywidgets.IntSlider(STEPS, min=10, max=500, step=10),
    }
    first = {name: control.value for name, control in controls.items()}
    again = ipywidgets.Button(description="reset")
    picture = ipywidgets.Image(format="png", layout={"width": "100%"})
    drawn: dict[str, Any] = {}

    def draw(_: object = None) -> None:
        values = {name: control.value for name, control in controls.items()}
        if values == drawn:
            return
        drawn.update(values)
        surface, steps = SURFACES[values.pop("surface")], values.pop("steps")
        name = values.pop("beside")
        with np.errstate(all="ignore"):  # a walk may diverge
            second = None
            if name in others:
                takes = inspect.signature(others[name]).parameters
                known = {key: value for key, value in values.items() if key in takes}
                second = run(others[name], surface, steps, **known)
            walk = run(rule, surface, steps, **values)
            picture.value = plain_png(explored(walk, second, name))

    def reset(_: object) -> None:
        for name, control in controls.items():
            control.unobserve(draw, names="value")
            control.value = first[name]
            control.observe(draw, names="value")
        draw()

    for name, control in controls.items():
        control.description = KNOBS.get(name, (name,))[0].split()[-1]
        control.continuous_update = False
        control.observe(draw, names="value")
    again.on_click(reset)
    draw()
    left = ipywidgets.VBox([*controls.values(), again], layout={"flex": "0 0 320px"})
    return ipywidgets.HBox([left, ipywidgets.Box([picture], layout={"flex": "1 1 480px"})])
