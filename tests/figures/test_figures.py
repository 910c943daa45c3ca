"""The figures show what the records hold, of finished and of unfinished studies alike."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import made_up
import matplotlib
import numpy as np
import pandas as pd
import pytest

from experiments import figures
from experiments.analysis.defaults import Case
from experiments.analysis.results import AVERAGES, Results
from experiments.figures import grids, style, tuning
from experiments.figures import theory as theory_figures
from experiments.figures.axes import cost_range, log_axis, show_hidden
from experiments.figures.costs import _clock
from experiments.figures.style import COLOURS, new_figure, styled
from experiments.paper import curves as digitised
from experiments.problems import samples
from experiments.studies import STUDIES
from experiments.studies import defaults as declared
from experiments.words import in_words

COMPARED = [name for name, study in STUDIES.items() if not study.arms[0].grid]
CURVES = [name for name in COMPARED if name not in ("fig2-sfo", "batches-gpt")]
# What the rows of each measurement hold.
MEASURED = {
    "step_sizes": (
        "largest_over_paper mean_snr overall_snr mean_step difference_scaled difference_rescaled "
        "difference_scaled_no_epsilon difference_rescaled_no_epsilon longer_than_alpha"
    ),
    "signal_steps": "t mean_step",
    "constructed_steps": "t growing_step sparse_step paper_bound growing_over_paper",
    "identities": (
        "t reordered reordered_constant uncorrected adagrad adagrad_uncorrected adamax_step "
        "adamax_longest"
    ),
    "norms": "t p_2 p_8 p_32 p_128",
    "moment_bias": (
        "t second second_corrected second_expected first first_corrected first_expected"
    ),
    "regret": "t average_regret regret_over_bound sparsity",
    "optimizer_state": "t sgd sgd_nesterov adagrad rmsprop adadelta adam adamax",
    "drift": "t sgd adagrad rmsprop adam adam_sqrt adam_over_adagrad decayed_over_sqrt",
    "counterexample": "t x average_regret expected_regret bound regret_over_bound",
}


AVERAGED = ("last", *AVERAGES)


def falling(run) -> dict[str, Any]:
    """A record of costs that fall with the passes."""
    if run.problem in MEASURED:
        rows = np.arange(1.0, 13.0)
        metrics = {name: list(rows + run.seed) for name in MEASURED[run.problem].split()}
        return made_up.record(metrics)
    rate = np.log10(run.settings.get("learning_rate", 0.001))
    level = 0.3 + 0.1 * abs(rate + 2.1) + 0.01 * (run.seed % 10)
    if run.problem == "mnist_variational":
        level *= 250
    cost = level * (1 + 1 / np.arange(1, run.epochs + 1))
    if rate > -1.5 and run.settings.get("bias_correction") is False:
        return made_up.AT_ONCE
    metrics = {
        "training_cost": cost,
        "objective": cost,
        "held_out_cost": cost * 1.1,
        "held_out_accuracy": 1 - cost / cost.max() / 3,
        "seconds": cost,
    }
    if run.optimizer == "sfo":
        n = run.settings["minibatches"]
        metrics |= {"gradient_seconds": cost / n, "optimizer_mb": n * np.ones(run.epochs)}
    if "stability" in run.options:
        for name in ("step_signal", "signal_agreement", "noise_rise"):
            metrics[name] = 0.1 * cost
    manifest = {}
    if "drawn" in run.options:
        metrics["read_as_digits"] = np.linspace(0.1, 0.3, run.epochs)
        metrics["real_read_as_digits"] = np.full(run.epochs, 0.9)
        images = np.full((10, 16, 16), run.seed % 10 + 100 * (run.optimizer == "adam"), np.uint8)
        manifest["drawn"] = samples.picture(images)
    if "averages" in run.options:
        for kind in AVERAGED:
            metrics[f"{kind} training_cost"] = metrics[f"{kind} held_out_cost"] = cost
    if run.problem == "mnist_variational":
        del metrics["held_out_accuracy"]
        metrics["gradient_support"] = np.linspace(0.3, 0.1, run.epochs)
    if run.problem == "cifar10_convolutional" and run.optimizer == "adam":
        for layer in ("conv1", "full", "all"):
            metrics[f"below_epsilon {layer}"] = np.linspace(0, 0.3, run.epochs)
            metrics[f"near_epsilon {layer}"] = np.linspace(0, 0.6, run.epochs)
    lists = {name: list(map(float, values)) for name, values in metrics.items()}
    return made_up.record(lists, **manifest)


def results(name: str, profile: str = "quick", data: str = "", keep=lambda run: True) -> Results:
    """Results with a record for every run that `keep` lets through."""
    return made_up.results(
        STUDIES[name], lambda run: falling(run) if keep(run) else None, profile, data
    )


def texts(figure) -> str:
    footer = figure._supxlabel.get_text() if figure._supxlabel else ""
    parts = [" ".join(footer.split())]  # lines wrap anywhere
    for axis in figure.axes:
        parts += [axis.get_title(loc="left"), axis.get_xlabel(), axis.get_ylabel()]
        parts += [text.get_text() for text in axis.texts]
        if legend := axis.get_legend():
            parts += [text.get_text() for text in legend.get_texts()]
    for legend in figure.legends:
        parts += [text.get_text() for text in legend.get_texts()]
    return "\n".join(parts)


def laid_out(figure) -> None:
    """Draw it as often as when a file is written: first the layout, then the picture."""
    figure.draw_without_rendering()
    figure.draw_without_rendering()


@pytest.fixture
def coarse(monkeypatch) -> None:
    """Few pixels: all else, the layout and the lines too, is as ever."""
    monkeypatch.setattr(style, "DPI", 24)


def every_figure(found: Results):
    study = found.study
    drawn: list[Any]
    if study.measured or study.name == "fig2-sfo-cost":
        drawn = [figures.main]
        if study.problem == "counterexample":
            drawn.append(lambda r: theory_figures.bound_broken(r, "three, walled/Adam"))
    elif study.name == "fig2-sfo":
        drawn = [figures.main, lambda r: figures.clocked(r, "tuned"), figures.sensitivity]
    elif study.name.startswith("sec7-"):
        drawn = [figures.main, figures.averages, lambda r: figures.averages(r, "tuned")]
        drawn += [figures.sensitivity]
    elif study.name.startswith("stability-"):
        drawn = [figures.main, figures.steps_and_noise, figures.held_out]
    elif study.name == "ablation-gpt" or study.name.startswith("sec6-"):
        drawn = [figures.main, figures.ratios, figures.held_out]
    elif study.name == "batches-gpt":
        drawn = [figures.main, figures.sensitivity, figures.held_out]
    elif study.name.startswith("defaults-"):
        drawn = [figures.images_drawn] if "drawn" in study.options else []
        drawn += [figures.main, figures.sensitivity, figures.best_of_trials, figures.held_out]
    elif study.arms[0].grid:
        drawn = [figures.main, figures.grid_difference, figures.best_of_settings]
        drawn += [figures.gradient_sparsity, lambda r: figures.grid(r, metric="held_out_cost")]
    else:
        drawn = [figures.main, figures.ratios, figures.sensitivity, figures.best_of_trials]
        drawn += [figures.held_out, lambda r: figures.curves(r, ("tuned",))]
    if study.name == "fig3":
        drawn.append(figures.second_moments)
    return [draw(found) for draw in drawn]


def test_drawn_images_are_those_of_the_first_seed_with_the_share_of_all():
    found = results("defaults-diffusion", "paper")
    figure = figures.images_drawn(found)
    assert len(figure.axes) == 2 * len(found.study.arms) + 1
    first, shares = figure.axes[0], figure.axes[-1]
    assert first.get_title(loc="left") == "Adam, at its default"
    assert first.get_title(loc="right") == "30% [30%, 30%] read, n = 5"
    assert len(shares.lines) == 2 * len(found.study.arms)
    np.testing.assert_allclose(shares.lines[0].get_ydata()[[0, -1]], [10, 30])
    (image,) = first.images
    pixels = np.asarray(image.get_array())
    assert pixels.shape == (18, 180, 3)
    assert set(np.unique(pixels)) == {100, 255}, "seed 0 of Adam, with a white border"
    assert "Of real digits 90% are read as such." in texts(figure)
    laid_out(figure)
    lost = next(run_id for run_id, run in found.records.runs.items() if run.seed == 1)
    whole = found.records.get
    gone = {"status": "diverged", "metrics": {"training_cost": []}, "manifest": {}}
    found.records.get = lambda run_id: gone if run_id == lost else whole(run_id)
    assert "Of real digits 90% are read" in texts(figures.images_drawn(found))
    none = figures.images_drawn(results("defaults-diffusion", "paper", keep=lambda run: False))
    assert "no images yet" in texts(none)


def test_a_profile_that_draws_no_images_says_so():
    none = results("defaults-diffusion", "quick", keep=lambda run: False)
    found = texts(figures.images_drawn(none))
    assert "profile quick draws no images" in found
    assert "no images yet" not in found


def test_a_study_that_compares_no_two_costs_has_no_ratios():
    with pytest.raises(ValueError, match="no claim on defaults-gpt compares"):
        figures.ratios(results("defaults-gpt"))


def defaults_cases() -> list[Case]:
    return [
        Case(title, results(name, "paper"), variant)
        for title, name, variant in declared.CASES
        if name != "fig3"
    ]


def test_the_overview_shows_every_problem_at_defaults_and_at_best_rates():
    cases = defaults_cases()
    figure = figures.overview(cases)
    laid_out(figure)
    left, right, bar = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == [case.title for case in cases]
    for axis in (left, right):
        assert [label.get_text() for label in axis.get_xticklabels()] == list(declared.RATES)
    # At level 0.3 + 0.1 |log10(rate) + 2.1| Adam's default is 0.9 decades from the best rate.
    cells = {text.get_text().split("\n")[0] for text in left.texts}
    assert all(cell == "" or cell.endswith("%") for cell in cells)
    shown = texts(figure)
    assert "Below it means over 5 fresh seeds" in shown
    assert "Not finished" not in shown
    assert bar.get_ylabel() == "regret, share of the way down"


@pytest.mark.parametrize("draw", [figures.overview, figures.rates])
def test_pictures_of_all_problems_shout_and_say_what_is_missing(draw):
    data = "tinyshakespeare-stand-in"
    case = Case("GPT", results("defaults-gpt", data=data))
    figure = draw([case])
    panels = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    assert all("STAND-IN DATA" in [t.get_text() for t in axis.texts] for axis in panels)
    empty = draw([Case("GPT", results("defaults-gpt", keep=lambda run: False))])
    assert any(words in texts(empty) for words in ("Not finished: GPT", "no method is tuned"))


def test_a_search_may_select_what_is_on_no_plain_grid():
    """Its star is left out of the picture of the grid."""
    found = results("fig1-mnist")
    chosen = {arm: {"learning_rate": 0.0123} for arm in found.plan.selected}
    one = dataclasses.replace(found, plan=dataclasses.replace(found.plan, selected=chosen))
    for each, stars in ((found, True), (one, False)):
        figure = figures.sensitivity(each)
        laid_out(figure)
        assert ("selected" in texts(figure)) == stars


def test_the_rates_show_the_default_and_the_methods_tuned_on_most_problems():
    cases = [*defaults_cases(), Case("The first once more", results("fig1-mnist", "paper"))]
    figure = figures.rates(cases)
    laid_out(figure)
    for axis in figure.axes:  # no problem is left out, and no two look alike
        assert [line.get_label() for line in axis.lines[:-1]] == [case.title for case in cases]
        looks = {(line.get_marker(), line.get_color()) for line in axis.lines[:-1]}
        assert len(looks) == len(cases) == len({marker for marker, _ in looks})
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "Adam", "AdamW", "AdaMax", "RMSProp", "AdaGrad", "SGDNesterov",
    ]  # fmt: skip
    for axis in figure.axes:
        default = declared.RATES[axis.get_title(loc="left")]
        line = next(line for line in axis.lines if line.get_label() == "default")
        assert set(line.get_xdata()) == {default}
        assert all(0 <= y <= 100 for line in axis.lines for y in line.get_ydata())


def test_a_shortened_study_says_how_many_examples_it_trains_on():
    quick = results("fig2-dropout")
    assert quick.study.profiles["quick"].options["train_examples"] == 6_000
    assert "MNIST, 6,000 training examples, 12 passes, 1 seed" in quick.label
    assert "6,000 training examples" in texts(figures.main(quick))
    for name, profile in (("fig2-dropout", "paper"), ("fig1-mnist", "quick")):
        assert "examples" not in results(name, profile).label


def study_has_rows(found: Results) -> bool:
    """Whether a title stands above a column of axes instead of above each."""
    return found.study.problem == "counterexample"


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_of_a_finished_study_has_lines_and_labels(name):
    found = results(name)
    for figure in every_figure(found):
        shown = texts(figure)
        assert "Profile quick" in shown.replace("\n", " ")
        assert "STAND-IN" not in shown
        for axis in figure.axes:
            if axis.get_label() == "<colorbar>" or not axis.get_visible():
                continue
            assert axis.lines or axis.images or axis.patches
            assert axis.get_title(loc="left") or study_has_rows(found)
            assert np.isfinite([*axis.get_xlim(), *axis.get_ylim()]).all()
        assert figures.png(figure)[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_of_a_study_without_records_can_be_drawn(name):
    for figure in every_figure(results(name, keep=lambda run: False)):
        assert "not finished, 0 of" in texts(figure)
        assert figures.png(figure)


@pytest.mark.parametrize(
    ("limits", "labels"),
    [
        ((0.3, 0.9), "0.3 0.4 0.5 0.6 0.7 0.8 0.9"),
        ((0.03, 0.5), "0.03 0.05 0.1 0.2 0.3 0.5"),
        ((0.003, 0.5), "0.01 0.1"),
    ],
)
def test_a_logarithmic_axis_has_as_many_labels_as_can_be_read(limits, labels):
    with style.styled():
        figure, axes = new_figure(1, 3.0)
        axes[0, 0].set_ylim(*limits)
        log_axis(axes[0, 0])
        figure.draw_without_rendering()
        axis = axes[0, 0].yaxis
        ticks = [
            (tick.get_loc(), tick.label1.get_text())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        ]
    found = sorted((at, text) for at, text in ticks if text and limits[0] <= at <= limits[1])
    assert " ".join(text for _, text in found) == labels


@pytest.mark.parametrize("draw", [figures.gradient_sparsity, figures.second_moments])
def test_what_is_measured_after_a_pass_stands_at_its_number(draw):
    """The first pass is 0 in every figure, table and rule."""
    study = "fig4" if draw is figures.gradient_sparsity else "fig3"
    lines = [line for axis in draw(results(study)).axes for line in axis.lines]
    starts = {line.get_xdata()[0] for line in lines if len(line.get_xdata()) > 2}
    assert starts == {0}


@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_of_an_unfinished_study_says_so(name):
    def some(run):
        kept = run.optimizer != "sgd_nesterov" and run.settings.get("beta_2") != 0.99
        dropped = ("moving", "logistic", "stochastic", "jumps")
        kept &= run.problem != "optimizer_state"
        kept &= not set(dropped) & {str(value) for value in run.options.values()}
        kept &= run.settings.get("minibatches") != 100 and run.optimizer != "adamax"
        kept &= not run.settings.get("warmup_steps")
        return (
            kept
            and (run.settings.get("beta_1"), run.problem)
            not in (
                (0.0, "step_sizes"),
                (0.0, "constructed_steps"),
                (0.0, "cifar10_convolutional"),
                (0.0, "mnist_multilayer"),
            )
            and (run.seed, run.problem) not in ((0, "identities"), (0, "norms"))
            and run.options.get("signal") != 0.5
            and not (run.optimizer == "sfo" and run.options["hidden_dropout"])
        )

    for figure in every_figure(results(name, keep=some)):
        assert "not finished" in texts(figure)


@pytest.mark.parametrize("name", [n for n, s in STUDIES.items() if s.data_set != "none"])
def test_stand_in_data_are_shouted_on_every_axis(name):
    found = results(name, data=f"{STUDIES[name].data_set}-stand-in")
    for figure in every_figure(found):
        for axis in figure.axes:
            if axis.get_label() != "<colorbar>":
                assert any("STAND-IN DATA" in text.get_text() for text in axis.texts)
                assert not any(line.get_alpha() == 0.75 for line in axis.lines)  # the paper's
        assert not {"the paper's curve", "the paper's"} & set(texts(figure).split("\n"))


@pytest.mark.parametrize("name", CURVES)
def test_curves_lie_over_the_papers_in_the_same_colour(name):
    found = results(name)
    figure = figures.curves(found)
    study = found.study
    plotted = [arm for arm in study.arms if arm.plotted]
    dashed = [line for axis in figure.axes for line in axis.lines if line.get_linestyle() != "-"]
    variants = {arm.variant for arm in study.arms}
    assert len(figure.axes) % len(variants) == 0
    columns = len(figure.axes) // len(variants)
    assert len(dashed) == columns * len(plotted)
    for arm in plotted:
        assert any(line.get_color() == COLOURS[arm.method] for line in dashed)
        assert digitised.shows(study.panel.name, arm.name)
    solid = [line for axis in figure.axes for line in axis.lines if line.get_linestyle() == "-"]
    enlarged = len(study.panels) == 1 and not study.panel.log
    left_out = len(study.arms) - len(plotted) if plotted else 0
    assert len(solid) == columns * len(study.arms) - enlarged * left_out
    first = next(line for line in solid if line.get_color() == COLOURS["Adam"])
    shown = {arm.name for arm in study.arms if arm.method == "Adam"}
    means = [found.curves("matched").query("arm == @arm")["mean"].to_numpy() for arm in shown]
    assert any(np.array_equal(first.get_ydata(), mean) for mean in means)


@pytest.mark.parametrize("name", ["fig2-dropout", "fig3"])
def test_axes_end_where_the_runs_do(name):
    """A stage of a long run fills the figure, and the footer says how far the paper's goes."""
    study = STUDIES[name]
    (stage,) = study.profile("paper").stages
    last, lowest = study.panel.x[1], study.panel.y[0]
    whole = results(name, "paper")
    begun = results(name, "paper", keep=lambda run: run.epochs == stage)
    for found, right in ((whole, last), (begun, stage - 1)):
        for figure in (figures.curves(found), figures.ratios(found)):
            assert figure.axes[-1].get_xlim()[1] == right
            assert (f"The paper's goes on to pass {last:g}" in texts(figure)) == (right < last)
    assert figures.curves(whole).axes[-1].get_ylim()[0] == lowest
    assert figures.curves(begun).axes[-1].get_ylim()[0] > lowest


def test_a_protocol_without_runs_takes_no_place():
    """While tuning is not done, ratios and held-out examples are those of the matched runs."""
    both = results("fig3", "paper")
    matched = results("fig3", "paper", keep=lambda run: run.seed < 1_000)
    assert not matched.plan.selected
    variants = 2
    assert len(figures.ratios(both).axes) == 2 * variants
    assert len(figures.ratios(matched).axes) == variants
    assert "no runs yet" not in texts(figures.ratios(matched))
    for found, protocol in ((both, "tuned"), (matched, "matched")):
        figure = figures.held_out(found)
        assert all(f"; {protocol}, " in axis.get_title("left") for axis in figure.axes)
        assert all(len(axis.lines) == 3 for axis in figure.axes)


def test_held_out_examples_are_those_of_the_protocol_that_has_come_further():
    """Tuned runs that end after the first stage do not hide matched ones of the whole length."""
    both = results("fig3", "paper")
    ids = {
        role: {entry.run.id for entry in both.plan.entries if entry.role == role}
        for role in ("matched", "tuned")
    }
    only = ids["matched"] - ids["tuned"]
    found = results("fig3", "paper", keep=lambda run: run.epochs == 4 or run.id in only)
    assert set(found.curves("tuned")["pass"]) == set(range(4))
    figure = figures.held_out(found)
    assert all("; matched, " in axis.get_title("left") for axis in figure.axes)
    assert all(max(max(line.get_xdata()) for line in axis.lines) == 45 for axis in figure.axes)


def test_held_out_examples_are_not_those_of_the_one_method_whose_tuned_runs_are_whole():
    """One method's tuned settings may be the matched ones: its tuned runs are then whole."""
    both = results("fig3", "paper")
    late = {
        entry.run.id
        for entry in both.plan.entries
        if entry.role == "tuned" and not entry.arm.startswith("Adam")
    } - {entry.run.id for entry in both.plan.entries if entry.role == "matched"}
    found = results("fig3", "paper", keep=lambda run: run.epochs == 4 or run.id not in late)
    ends = found.curves("tuned").groupby("arm")["pass"].max()
    assert ends["Adam"] == 45 > ends.min() == 3
    figure = figures.held_out(found)
    assert all("; matched, " in axis.get_title("left") for axis in figure.axes)


@pytest.mark.parametrize("draw", [figures.curves, figures.held_out])
def test_the_legend_hides_no_curve(draw):
    figure = draw(results("fig2-dropout", "paper"))
    laid_out(figure)
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert {"AdaGrad (n = 5 to 10)", "Adam (n = 5 to 10)"} <= set(shown)
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    for axis in figure.axes:
        assert axis.get_legend() is None
        assert not box.overlaps(axis.get_tightbbox())


def test_what_one_seed_alone_has_reached_is_drawn():
    """A first seed of the whole length, in one variant: the other one's axes end where it does."""

    def some(run):
        long = run.seed == 0 and not run.options["hidden_dropout"]
        return run.epochs == 4 or long

    found = results("fig3", "paper", keep=some)
    table = found.curves("matched")
    seeds = table[table["arm"] == "Adam"].set_index("pass")["n"]
    assert list(seeds) == 4 * [3] + 42 * [1]
    assert set(table[table["arm"] == "Adam+dropout"]["pass"]) == set(range(4))
    for figure in (figures.curves(found), figures.ratios(found), figures.held_out(found)):
        ends = {axis.get_title("left")[:4]: axis.get_xlim()[1] for axis in figure.axes}
        assert ends == {"no d": 45, "with": 3}
    assert "The paper's goes on to pass 45 with dropout." in texts(figures.curves(found))
    clean = figures.ratios(found).axes[0]
    ours = [line for line in clean.lines if line.get_linewidth() == 2]
    alone = [line for line in clean.lines if line.get_marker() == "o"]
    assert len(ours) == len(alone) == 3
    over, under = (found.matrix("matched", arm) for arm in ("Adam", "SGDNesterov"))
    for line, rest in zip(ours, alone, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(4))
        np.testing.assert_array_equal(rest.get_xdata(), np.arange(3, 46))  # from the mean on
        assert rest.get_linewidth() < line.get_linewidth()
    np.testing.assert_allclose(alone[0].get_ydata()[1:], (over / under).loc[0, 4:])
    np.testing.assert_allclose(np.log(ours[0].get_ydata()), np.log(over / under).loc[:, :3].mean())
    assert "95% band, n = 1 to 3. Thin with dots: one seed." in texts(figures.ratios(found))
    for name in ("Adam (n = 1 to 3)", "one seed"):
        assert name in texts(figures.curves(found))


def test_ratios_compare_the_same_methods_with_and_without_dropout():
    """Also where claims name a pair in one variant alone, and once where they turn it around."""
    axes = figures.ratios(results("fig3", "paper", keep=lambda run: run.seed < 1_000)).axes
    named = [[text.get_text() for text in axis.get_legend().get_texts()] for axis in axes]
    pairs = ["Adam / SGDNesterov", "AdaGrad / SGDNesterov", "Adam / AdaGrad"]
    assert [names[:-2] for names in named] == [pairs, pairs]
    assert [len([line for line in axis.lines if line.get_lw() == 2]) for axis in axes] == [3, 3]


@pytest.mark.usefixtures("coarse")
def test_methods_of_which_one_has_gone_further_are_drawn_together():
    found = results("fig3", "paper", keep=lambda run: run.epochs == 4 or run.optimizer == "adam")
    for figure in every_figure(found):
        assert figures.png(figure)
    clean = figures.curves(found).axes[1]
    ends = {line.get_color(): line.get_xdata()[-1] for line in clean.lines if line.get_lw() == 2}
    assert ends[COLOURS["Adam"]] == 45
    assert ends[COLOURS["SGDNesterov"]] == ends[COLOURS["AdaGrad"]] == 3


def test_a_grid_that_is_half_trained_says_so():
    """Its trials are shown; the best of them is not, since the best may be yet to come."""
    half = results("fig3", "paper", keep=lambda run: run.optimizer == "adam" or run.seed < 1_000)
    assert half.best_of().empty
    sensitivity = figures.sensitivity(half)
    assert "Tuning is not finished: 6 of 18 runs." in texts(sensitivity)
    notes = [[text.get_text() for text in axis.texts] for axis in sensitivity.axes]
    assert notes == 2 * [["no runs yet"], ["no runs yet"], []]
    assert "tuning is not finished" in texts(figures.best_of_trials(half))
    whole = results("fig3", "paper")
    assert not whole.best_of().empty
    assert "costs off the axis" not in texts(figures.sensitivity(whole))
    for figure in (figures.sensitivity(whole), figures.best_of_trials(whole)):
        assert "not finished" not in texts(figure)


@pytest.mark.parametrize(("name", "rows", "columns"), [("defaults-gpt", 2, 3), ("fig3", 2, 3)])
def test_no_row_of_step_sizes_has_more_panels_than_can_be_read(name, rows, columns):
    """Six methods of one network stand in two rows, as three of two networks do."""
    found = results(name, "paper")
    figure = figures.sensitivity(found)
    assert figure.axes[0].get_gridspec().get_geometry() == (rows, columns)
    tuned = [arm.method for arm in found.study.arms if arm.tune]
    titles = [axis.get_title(loc="left") or axis.get_title() for axis in figure.axes]
    assert sorted(title.partition(",")[0] for title in titles) == sorted(tuned)
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert labels == [""] * columns + ["step size α"] * columns


def test_a_trial_off_the_axis_is_spoken_of(monkeypatch):
    found = results("fig3", "paper")
    trial, get = found.plan.runs("tuning")[0].id, found.records.get
    poor = {**get(trial), "metrics": {"training_cost": [100.0] * 4}}
    monkeypatch.setattr(found.records, "get", lambda id: poor if id == trial else get(id))
    assert "; costs off the axis are at its edge." in texts(figures.sensitivity(found))


@pytest.mark.parametrize(
    ("costs", "whole", "log"),
    [
        pytest.param([0.5, 0.8, 0.9, 1.4, 1.99], True, False, id="close together: all are shown"),
        pytest.param([0.5, 0.8, 0.9, 1.4, 2.49], True, False, id="within a factor of five"),
        pytest.param([0.5, 0.5, 0.5], True, False, id="all equal"),
        pytest.param([0.5, 0.6, 0.7, 9.0, np.inf], False, False, id="mostly near the best"),
        pytest.param([0.001, 0.1, 0.2], True, True, id="far apart"),
        pytest.param([np.inf, np.inf], False, False, id="none is finite"),
    ],
)
def test_the_axis_of_the_trials_shows_the_best_of_them_and_all_where_they_are_close(
    costs, whole, log
):
    low, top, logarithmic = cost_range(pd.DataFrame({"final_cost": costs}))
    assert low < top
    assert logarithmic == log
    if np.isfinite(min(costs)):
        assert low < min(costs) < top
    assert (top > max(costs)) == whole


def test_the_grid_shows_what_is_off_its_axis_and_what_diverged():
    found = results("fig4", "paper")
    figure = figures.grid(found, 10)
    markers = {
        line.get_marker() for axis in figure.axes for line in axis.lines if len(line.get_xdata())
    }
    assert {"^", "x"} <= markers
    assert "diverged" in texts(figure)
    assert len(figure.axes) == 6
    for axis in figure.axes:
        assert axis.get_ylim() == (95, 140)


def test_a_setting_of_which_some_seeds_diverged_is_not_drawn_like_one_of_which_all_did():
    losses = {0.001: (100.0, 101.0, 102.0), 0.01: (110.0, math.inf, 112.0), 0.1: (math.inf,) * 3}
    table = pd.DataFrame(
        [
            ("b1=0/b2=0.99/biascorr", rate, seed, loss)
            for rate, own in losses.items()
            for seed, loss in enumerate(own)
        ],
        columns=["arm", "learning_rate", "seed", "loss"],
    )
    panel = STUDIES["fig4"].panel
    with style.styled():
        _, axes = new_figure(1)
        grids._grid_line(axes[0, 0], panel, table, "b1=0/b2=0.99/biascorr", "#000000")
    marked = {
        line.get_marker(): line.get_xdata().tolist()
        for line in axes[0, 0].lines
        if line.get_marker() in ("^", "+", "x")
    }
    assert marked == {"^": [], "+": [-2.0], "x": [-1.0]}


def test_the_grid_is_drawn_at_the_most_passes_that_are_complete():
    whole = results("fig4", "paper")
    assert "after 100 passes" in texts(figures.grid(whole))
    early = results("fig4", "paper", keep=lambda run: run.epochs == 10)
    assert "after 10 passes" in texts(figures.grid(early))
    assert "after 10 passes" in texts(figures.grid_difference(early))


def test_methods_stand_against_the_size_of_the_batches():
    """Costs and step sizes of three methods, and two of them over the first at equal seeds."""
    found = results("batches-gpt", "paper")
    figure = figures.main(found)
    costs, ratios, rates = figure.axes
    assert [len(axis.lines) for axis in figure.axes] == [3, 2, 3]
    sizes = [4, 16, 64, 256]
    assert all(list(line.get_xdata()) == sizes for axis in figure.axes for line in axis.lines)
    assert [text.get_text() for text in costs.get_xticklabels()] == list(map(str, sizes))
    adam, nesterov, _ = (line.get_ydata() for line in costs.lines)
    assert ratios.lines[0].get_ydata() == pytest.approx(nesterov / adam)
    assert ratios.lines[0].get_color() == costs.lines[1].get_color() == COLOURS["SGDNesterov"]
    best = [found.plan.selected[f"Adam+batches of {size}"]["learning_rate"] for size in sizes]
    assert list(rates.lines[0].get_ydata()) == best
    assert "SGD (n = 3)" in texts(figure)


def test_the_footer_counts_the_seeds():
    assert "Geometric mean of 2 seeds with 95% interval." in texts(
        figures.curves(results("fig1-mnist"))
    )
    single = results("fig1-mnist", keep=lambda run: run.seed == 0 or run.seed >= 1000)
    assert "Mean of 1 seed." in texts(figures.curves(single))


def test_a_panel_without_runs_is_not_drawn():
    early = results("fig4", "paper", keep=lambda run: run.epochs == 10)
    assert len(figures.grid(early, 10).axes) == 6
    none = figures.grid(early, 100)
    assert len(none.axes) == 1
    assert "no run of 100 passes" in texts(none)
    some = results("fig4", "paper", keep=lambda run: run.settings.get("beta_2") != 0.999)
    figure = figures.grid(some, 10)
    assert len([axis for axis in figure.axes if axis.get_visible()]) == 4
    assert "Not trained yet: 2 pairs of betas." in texts(figure)
    stage = results("fig3", "paper", keep=lambda run: run.epochs == 4)
    titles = [axis.get_title("left") for axis in figures.curves(stage).axes]
    assert titles == ["no dropout; matched, first passes", "with dropout; matched, first passes"]
    for axis in figures.curves(results("fig3", "paper"), ("tuned",)).axes:
        assert axis.get_xlim()[1] in (3, 45)


def test_a_line_that_another_covers_shows_beneath_it():
    _, axes = new_figure(1)
    axis = axes[0][0]
    x = np.arange(10.0)
    (under,) = axis.plot(x, x, label="first")
    (over,) = axis.plot(x, x + 1e-3, ":", label="second")
    (other,) = axis.plot(x, x + 1, label="third")
    show_hidden(axis)
    assert under.get_linewidth() > 2 * over.get_linewidth()
    assert under.get_label() == "first (wide, beneath)"
    assert (over.get_label(), other.get_label()) == ("second", "third")
    assert other.get_linewidth() < 3


def test_quartiles_of_few_trials_are_not_drawn():
    few, many = results("fig3", "paper"), results("fig1-mnist", "paper")
    assert few.best_of()["k"].max() < 8 <= many.best_of()["k"].max()
    for found, bands in ((few, False), (many, True)):
        figure = figures.best_of_trials(found)
        assert any(axis.collections for axis in figure.axes) == bands
        assert ("band: its quartiles" in texts(figure)) == bands


@pytest.mark.parametrize("name", ["fig2-sfo", "fig2-sfo-cost", "fig3", "sec2-steps", "sec7-imdb"])
def test_no_legend_lies_on_an_axis(name):
    for figure in every_figure(results(name)):
        laid_out(figure)
        for axis in figure.axes:
            legends = [*figure.legends, *filter(None, [axis.get_legend()])]
            for legend in legends:
                assert not legend.get_window_extent().overlaps(axis.get_window_extent())


def test_settings_read_as_in_the_paper():
    given = {"learning_rate": 0.001, "decay": "sqrt_epoch", "beta_1": 0.9, "momentum": 0.9}
    assert in_words(given) == "α = 0.001, α/√t, t in passes, β₁ = 0.9, momentum = 0.9"
    chosen = results("fig1-mnist").selected().set_index("arm")["matched"]
    assert chosen["Adam"] == "α = 0.001, α/√t, t in passes"


@pytest.mark.usefixtures("coarse")
def test_equal_figures_have_equal_bytes():
    found = results("fig1-mnist")
    assert figures.png(figures.curves(found)) == figures.png(figures.curves(found))


def test_time_is_counted_in_passes_of_the_first_arm():
    found = results("fig2-sfo", "paper")
    table, seconds = found.curves("matched"), found.curves("matched", "seconds")
    clock = table.assign(clock=_clock(found.study, table, seconds))
    adam = clock[clock["arm"] == "Adam"].set_index("pass")["clock"]
    assert adam[0] == 0  # the first pass compiles
    assert adam[25] == pytest.approx(25)
    sfo = clock[clock["arm"] == "SFO"].set_index("pass")["clock"]
    spent = seconds[(seconds["arm"] == "SFO") & (seconds["pass"] > 0)]["mean"].sum()
    unit = seconds[(seconds["arm"] == "Adam") & (seconds["pass"] > 0)]["mean"].mean()
    assert sfo[25] == pytest.approx(spent / unit)


def test_what_has_nothing_to_tune_stands_under_both_protocols():
    found = results("fig2-sfo")
    tuned, matched = (found.matrix(protocol, "SFO") for protocol in ("tuned", "matched"))
    assert len(tuned) > 0
    assert tuned.equals(matched)
    other = results("fig1-mnist")
    assert not other.matrix("tuned", "AdaGrad").equals(other.matrix("matched", "AdaGrad"))


@pytest.mark.parametrize("name", ["sec7-logistic", "sec7-variational"])
def test_averages_of_a_study_that_is_not_tuned_yet(name):
    found = results(name, keep=lambda run: run.seed < 1_000)
    table = found.averages()
    assert set(table["settings"]) == {"the paper's defaults"}
    assert len(table) == 2 * len(found.study.arms) * len(AVERAGES)
    shown = texts(figures.curves(found))
    assert "no runs yet" not in shown
    assert "tuned" not in shown
    assert results(name, keep=lambda run: False).averages().empty


@pytest.mark.usefixtures("coarse")
def test_the_users_matplotlibrc_changes_no_byte():
    def drawn():
        return figures.png(figures.curves(results("fig1-mnist")))

    expected = drawn()
    settings = {
        "text.usetex": True,
        "axes.formatter.use_locale": True,
        "axes.facecolor": "black",
        "lines.linestyle": ":",
        "font.sans-serif": ["Nothing"],
        "mathtext.fontset": "stix",
        "xtick.labelsize": 30,
        "xtick.direction": "in",
        "figure.facecolor": "red",
        "savefig.facecolor": "red",
        "savefig.bbox": "tight",
        "savefig.transparent": True,
        "path.simplify": False,
        "path.sketch": (1, 100, 2),
    }
    with matplotlib.rc_context(settings):
        assert drawn() == expected
        assert matplotlib.rcParams["text.usetex"]  # and the user's own figures stay theirs


def test_a_cost_of_exactly_zero_makes_the_geometric_mean_zero(monkeypatch):
    """A line that changed to the arithmetic mean half way would jump upwards."""
    made = pd.DataFrame([[1.0, 4.0], [4.0, 0.0]])
    monkeypatch.setattr(Results, "matrix", lambda *_: made)
    ours = results("fig1-mnist").curves("matched")
    assert ours.loc[ours["pass"] == 0, "mean"].tolist() == pytest.approx([2.0] * 3)
    assert (ours.loc[ours["pass"] == 1, ["mean", "low", "high"]] == 0).all(axis=None)


def test_a_best_trial_off_the_axis_is_told():
    def drawn(*medians: float) -> tuple[bool, float]:
        line = pd.DataFrame({"k": [1, 2], "median": medians, "low": medians, "high": medians})
        with styled():
            axes = new_figure(1)[1]
        few = pd.DataFrame({"k": [1, 2], "median": [1e-3] * 2, "low": [1e-3] * 2, "high": 1e-3})
        off = tuning._best_of(axes[0][0], {"Adam": few, "SGD": line}, {"Adam": "k", "SGD": "b"})
        return off, axes[0][0].get_ylim()[1]

    assert drawn(0.002, 0.001) == (False, pytest.approx(0.0022, rel=0.2))
    off, top = drawn(1.0, 0.5)
    assert off  # the first one
    assert top > 0.5  # but the last one is in sight
    assert drawn(1e-3, 1e-11)[0]


def test_a_method_of_which_nothing_is_drawn_is_not_in_the_legend():
    found = results("fig2-sfo", keep=lambda run: run.settings.get("minibatches") != 100)
    assert "SFO/100" not in texts(figures.clocked(found))
    assert "SFO/50" in texts(figures.clocked(found))


def test_the_band_of_longest_steps_is_their_range():
    """An interval of the mean would reach steps that no seed took."""
    mean, low, high = theory_figures._range(np.array([[1.0, 2.0], [3.0, 8.0], [2.0, 2.0]]))
    assert (mean.tolist(), low.tolist(), high.tolist()) == ([2, 4], [1, 2], [3, 8])
