"""Panels and their axes: what they are called, how far they go, the lines of an arm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from experiments.analysis.results import Results, paper_curve
from experiments.figures.drawn import BENEATH
from experiments.figures.style import DASHED, PASSES, colour_of
from experiments.study import PROTOCOLS, Arm, Panel, Study

SEVERAL: dict[str, Any] = {"lw": 2}  # the mean of several seeds
ONE_SEED: dict[str, Any] = {"lw": 1, "marker": "o", "ms": 3.5, "mfc": "white"}
MARKERS = {"constant": "o", "sqrt_epoch": "s", "sqrt_step": "D"}
TITLES = {
    "matched": "matched: settings fitted to the paper's curves",
    "tuned": "tuned: equal trials for every method",
}


def defaults_of(study: Study) -> str:
    """What the matched settings are, or are of, in words, where the paper shows no curve."""
    if not study.tunes:
        return study.title.partition(": ")[2] or "nothing is tuned"
    whose = "the paper's" if study.section.startswith("Section") else "each method's"
    return f"{whose} default settings"


def title_of(study: Study, protocol: str) -> str:
    """What a protocol means in this study."""
    if protocol == "matched" and not study.fitted:
        return defaults_of(study)
    return TITLES[protocol]


def variants_of(study: Study) -> dict[str, list[Arm]]:
    """The arms of each variant of the problem; those that the paper plots come first."""
    variants: dict[str, list[Arm]] = {}
    for arm in sorted(study.arms, key=lambda arm: not arm.plotted):
        variants.setdefault(arm.variant, []).append(arm)
    return variants


def panel_title(study: Study, variant: str, title: str) -> str:
    """A panel's title, with the variant where there are several.

    Args:
        study: the study.
        variant: "" for the one without a name.
        title: of the panel, shortened to what precedes its colon beside a variant.
    """
    if len(variants_of(study)) == 1:
        return title
    return f"{f'with {variant}' if variant else 'no dropout'}; {title.partition(':')[0]}"


def protocols_of(results: Results) -> list[str]:
    """The protocols that have runs; every possible one while there are no runs at all."""
    possible = PROTOCOLS if results.study.tunes else PROTOCOLS[:1]
    done = [
        protocol
        for protocol in possible
        if any(not results.matrix(protocol, arm.name).empty for arm in results.study.arms)
    ]
    return done or list(possible)


def last_pass(results: Results, protocols: Iterable[str], arms: Iterable[Arm]) -> int:
    """The last pass that any of these runs has reached; -1 while there are none.

    Args:
        results: the results.
        protocols: whose runs count.
        arms: whose runs count.
    """
    tables = [results.matrix(protocol, arm.name) for protocol in protocols for arm in arms]
    return max((int(table.notna().any().sum()) - 1 for table in tables), default=-1)


def seeds_drawn(*tables: pd.DataFrame, mean: str = "Mean", band: bool = True) -> str:
    """How many seeds were averaged, in words.

    Args:
        *tables: the curves that are drawn.
        mean: what kind of mean; that of costs is geometric.
        band: whether the interval is drawn.
    """
    found = sorted({int(n) for table in tables for n in table["n"]})
    if not found:
        return "No runs yet."
    n = f"{found[0]} to {found[-1]}" if len(found) > 1 else f"{found[0]}"
    text = f"{mean if n != '1' else 'Mean'} of {n} seed{'s' * (n != '1')}"
    return text + (" with 95% interval." if band and found[-1] > 1 else ".")


def pass_limits(
    results: Results, panel: Panel, arms: Sequence[Arm], protocols: Iterable[str] = PROTOCOLS
) -> tuple[float, float]:
    """Limits of the axis of passes: the panel's, or closer while no run has come near its end.

    Args:
        results: the results.
        panel: the paper's.
        arms: those that are drawn.
        protocols: those that are drawn.
    """
    reached = last_pass(results, protocols, arms)
    first, last = panel.x
    return (first, reached if 0 < reached < 0.9 * last else last)


def pass_axis(
    axis: Axes,
    results: Results,
    panel: Panel,
    arms: Sequence[Arm],
    protocols: Iterable[str] = PROTOCOLS,
) -> None:
    """Make the horizontal axis one of whole passes; arguments as in `pass_limits`."""
    axis.set(xlim=pass_limits(results, panel, arms, protocols), xlabel=PASSES)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def cost_limits(panel: Panel, axis: Axes) -> tuple[float, float]:
    """Limits of the axis of costs: the panel's, or closer around lines of few passes."""
    low, high = panel.y
    last = axis.get_xlim()[1]
    if panel.log and last < panel.x[1]:
        lines = [np.asarray(line.get_xydata(), float) for line in axis.lines]
        shown = [cost for line in lines for x, cost in line if x <= last and cost > 0]
        if shown:
            low, high = 0.8 * min(shown), min(high, 1.25 * max(shown))
    return low, high


def left_out_of(results: Results) -> str:
    """Which part of the paper's figure the axes leave out."""
    panel, variants = results.study.panel, variants_of(results.study)
    short = [
        variant
        for variant, arms in variants.items()
        if any(arm.plotted for arm in arms) and pass_limits(results, panel, arms)[1] < panel.x[1]
    ]
    if not short:
        return ""
    names = " and ".join(f"with {variant}" if variant else "without dropout" for variant in short)
    where = f" {names}" if len(short) < len(variants) else ""
    return f" The paper's goes on to pass {panel.x[1]:g}{where}."


def seeds_of(methods: Iterable[str], *tables: pd.DataFrame) -> dict[str, list[int]]:
    """How many seeds were averaged in these tables of curves, by method."""
    found: dict[str, set[int]] = {method: set() for method in methods}
    for table in tables:
        for arm, n in table.groupby("arm")["n"]:
            found.get(str(arm).partition("+")[0], set()).update(map(int, n))
    return {method: sorted(numbers) for method, numbers in found.items()}


def counted(name: str, seeds: Sequence[int]) -> str:
    """A line's name with the number of seeds that it averages."""
    if not seeds:
        return f"{name} (no runs yet)"
    return f"{name} (n = {seeds[0]}{f' to {seeds[-1]}' if len(seeds) > 1 else ''})"


def legend_of(arms: Sequence[Arm], results: Results, *tables: pd.DataFrame) -> list[Line2D]:
    """The legend's lines: one per method with its n; one for the paper's curves if they are drawn.

    A method of which nothing is drawn, neither runs nor the paper's curve, is left out. One more
    line stands for single seeds if there are some beside means.

    Args:
        arms: those that are drawn.
        results: the results.
        *tables: the curves that are drawn.
    """
    seeds = seeds_of((arm.method for arm in arms), *tables)
    plotted = {arm.method for arm in arms if arm.plotted}
    handles = [
        Line2D(
            [],
            [],
            color=colour_of(method),
            label=counted(method, n),
            **(ONE_SEED if n == [1] else SEVERAL),
        )
        for method, n in seeds.items()
        if n or method in plotted or not any(seeds.values())
    ]
    every = set().union(*seeds.values())
    if 1 in every and len(every) > 1:
        handles.append(Line2D([], [], color="#555555", label="one seed", **ONE_SEED))
    if any(arm.plotted for arm in arms) and not results.stand_in:
        handles.append(Line2D([], [], color="#555555", ls=DASHED, label="the paper's curve"))
    return handles


def legend_above(figure: Figure, handles: Sequence[Any]) -> None:
    """One legend for all panels, above them, where it hides no line."""
    widest = max([len(str(handle.get_label())) for handle in handles] or [1])
    columns = max(1, int(figure.get_figwidth() / (0.085 * widest + 0.55)))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def legend_below(axis: Axes, handles: Sequence[Any] | None = None, columns: int = 2) -> None:
    """A panel's legend below it, where it hides no line.

    Args:
        axis: the panel.
        handles: the lines to name; by default all that have names.
        columns: of the legend.
    """
    found = axis.get_legend_handles_labels()[0] if handles is None else handles
    if not found:
        return
    figure = axis.get_figure(root=True)
    assert figure is not None
    below = ScaledTranslation(0, -0.48, figure.dpi_scale_trans)
    axis.legend(
        handles=found,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=axis.transAxes + below,
        ncols=columns,
        fontsize=8,
        columnspacing=1.2,
    )


def show_hidden(axis: Axes) -> None:
    """Redraw each line that another one covers as a wide pale line, and say so in its name."""
    shown = [line for line in axis.lines if np.shape(line.get_xydata())[0] > 2]
    low, high = axis.get_ylim()
    log = axis.get_yscale() == "log"
    for i, under in enumerate(shown):
        for over in shown[i + 1 :] if _named(under) else ():
            if _covers(over, under, np.log(high / low) if log else high - low, log):
                under.set(linewidth=6, alpha=0.35, linestyle="-", solid_capstyle="butt")
                under.set_label(f"{under.get_label()}{BENEATH}")
                break


def _named(line: Line2D) -> bool:
    return bool(line.get_label()) and not str(line.get_label()).startswith("_")


def _covers(over: Line2D, under: Line2D, height: float, log: bool) -> bool:
    """Whether two lines differ nowhere by more than half a percent of the axis."""
    first, second = (np.asarray(line.get_xydata(), float) for line in (over, under))
    if first.shape != second.shape or not np.array_equal(first[:, 0], second[:, 0]):
        return False
    a, b = first[:, 1], second[:, 1]
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return False
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if log:
        if not len(a) or min(a.min(), b.min()) <= 0:
            return False
        a, b = np.log(a), np.log(b)
    return bool(len(a)) and bool(np.abs(a - b).max() < 0.005 * height)


def enlarged(curves: pd.DataFrame) -> tuple[float, float]:
    """Limits that show the ends of the curves, from their lowest point to those after a tenth."""
    if not len(curves):
        return (0.0, 1.0)
    late = curves[curves["pass"] >= 0.1 * curves["pass"].max()]["mean"]
    low, high = late.min(), late[np.isfinite(late)].max()
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def around(values: pd.Series) -> tuple[float, float]:
    """Limits of a logarithmic axis around the finite positive values."""
    kept = values[np.isfinite(values) & (values > 0)]
    return (0.8 * kept.min(), 1.25 * kept.max()) if len(kept) else (0.1, 1.0)


def draw_curve(axis: Axes, results: Results, panel: Panel, arm: Arm, table: pd.DataFrame) -> None:
    """The mean of an arm with its interval, over the paper's own curve.

    On stand-in data the paper's curve would mean nothing, and is left out.

    Args:
        axis: to draw on.
        results: the results.
        panel: the paper's.
        arm: the arm.
        table: the curves of all arms, as from `Results.curves`.
    """
    colour = colour_of(arm.method)
    if arm.plotted and not results.stand_in:
        paper = paper_curve(panel.name, arm.name)
        axis.plot(paper.index, paper, color=colour, ls=DASHED, lw=1.3, alpha=0.75)
    ours = table[table["arm"] == arm.name]
    if not len(ours):
        return
    draw_mean(axis, ours.replace([np.inf, -np.inf], np.nan), colour)


def draw_mean(axis: Axes, ours: pd.DataFrame, colour: str) -> None:
    """A mean with its band; where it is of a single seed, thin with dots and without a band.

    Args:
        axis: to draw on.
        ours: the rows of one arm in a table of curves.
        colour: of the line and the band.
    """
    single = ours["n"].to_numpy() == 1
    if not single.all():
        several = ours[~single]
        axis.plot(several["pass"], several["mean"], color=colour, **SEVERAL)
        axis.fill_between(
            several["pass"], several["low"], several["high"], color=colour, alpha=0.25, lw=0
        )
    if single.any():
        first = max(int(np.argmax(single)) - 1, 0)  # joined to the mean before it
        rest = ours.iloc[first:]
        every = max(1, len(rest) // 12)
        axis.plot(rest["pass"], rest["mean"], color=colour, markevery=every, **ONE_SEED)


def cost_range(trials: pd.DataFrame) -> tuple[float, float, bool]:
    """Limits for final costs, and whether they span so much that the axis is logarithmic."""
    kept = trials["final_cost"].astype(float)
    kept = kept[np.isfinite(kept)]
    if not len(kept):
        return 0.0, 1.0, False
    low, high = float(kept.min()), float(kept.max())
    if high < 5 * low:
        margin = 0.05 * (high - low) + 0.001 * low
        return low - margin, high + margin, False
    if kept.median() < 1.6 * low:
        return low * 0.985, low * 1.6, False
    top = min(high, 3 * float(kept.median())) * 1.1
    return max(low * 0.85, top * 1e-5), top, True


def log_axis(axis: Axes) -> None:
    """A logarithmic cost axis with plain numbers, few enough to read."""
    low, high = axis.get_ylim()
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    if high < 5 * low:
        axis.yaxis.set_minor_formatter("{x:g}")
    elif high < 100 * low:
        axis.yaxis.set_minor_formatter(lambda y, _: f"{y:g}" if f"{y:e}"[0] in "235" else "")
    else:
        axis.yaxis.set_minor_formatter("")


def rate_axis(axis: Axes) -> None:
    """A logarithmic axis of learning rates, with plain numbers if it spans two decades or less."""
    axis.set(xscale="log")
    axis.xaxis.set_minor_formatter("")
    low, high = axis.get_xlim()
    if high < 200 * low:
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.xaxis.set_major_formatter("{x:g}")
