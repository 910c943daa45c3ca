"""The figures show what the records hold, of finished and of unfinished studies alike."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import figures
from experiments.analysis import Results, is_in_paper
from experiments.studies import STUDIES
from experiments.study import plan

COMPARED = [name for name, study in STUDIES.items() if not study.arms[0].grid]


class Synthetic:
    """A record for every run that `keep` lets through: costs that fall with the passes."""

    def __init__(self, keep=lambda run: True) -> None:
        self.keep, self.runs = keep, {}

    def get(self, run_id):
        run = self.runs.get(run_id)
        if run is None or not self.keep(run):
            return None
        rate = np.log10(run.settings["learning_rate"])
        level = 0.3 + 0.1 * abs(rate + 2.1) + 0.01 * (run.seed % 10)
        if run.problem == "mnist_variational":
            level *= 250
        cost = level * (1 + 1 / np.arange(1, run.epochs + 1))
        if rate > -1.5 and run.settings.get("bias_correction") is False:
            return {"status": "diverged", "metrics": {"training_cost": []}, "manifest": {}}
        metrics = {
            "training_cost": cost,
            "objective": cost,
            "held_out_cost": cost * 1.1,
            "held_out_accuracy": 1 - cost / cost.max() / 3,
            "seconds": cost,
        }
        if run.problem == "mnist_variational":
            del metrics["held_out_accuracy"]
            metrics["gradient_support"] = np.linspace(0.3, 0.1, run.epochs)
        if run.problem == "cifar10_convolutional" and run.optimizer == "adam":
            for layer in ("conv1", "full", "all"):
                metrics[f"below_epsilon {layer}"] = np.linspace(0, 0.3, run.epochs)
                metrics[f"near_epsilon {layer}"] = np.linspace(0, 0.6, run.epochs)
        lists = {name: list(map(float, values)) for name, values in metrics.items()}
        return {"status": "finished", "metrics": lists, "manifest": {}}


def results(name: str, profile: str = "quick", data: str | None = None, **options) -> Results:
    study = STUDIES[name]
    records = Synthetic(**options)
    kind = data or study.data_set
    while True:
        found = plan(study, profile, kind, records)
        new = {run.id: run for run in found.runs() if run.id not in records.runs}
        if not new:
            break
        records.runs |= new
    return Results(study, profile, kind, records, found)


def texts(figure) -> str:
    parts = [figure._supxlabel.get_text()] if figure._supxlabel else []
    for axis in figure.axes:
        parts += [axis.get_title(loc="left"), axis.get_xlabel(), axis.get_ylabel()]
        parts += [text.get_text() for text in axis.texts]
        if legend := axis.get_legend():
            parts += [text.get_text() for text in legend.get_texts()]
    for legend in figure.legends:
        parts += [text.get_text() for text in legend.get_texts()]
    return "\n".join(parts)


def every_figure(found: Results):
    if found.study.arms[0].grid:
        drawn = [figures.main, figures.grid_difference, figures.best_of_settings]
        drawn += [figures.gradient_sparsity, lambda r: figures.grid(r, metric="held_out_cost")]
    else:
        drawn = [figures.main, figures.ratios, figures.sensitivity, figures.best_of_trials]
        drawn += [figures.held_out, lambda r: figures.curves(r, ("tuned",))]
    if found.study.name == "fig3":
        drawn.append(figures.second_moments)
    return [draw(found) for draw in drawn]


@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_of_a_finished_study_has_lines_and_labels(name):
    for figure in every_figure(results(name)):
        shown = texts(figure)
        assert "Profile quick" in shown
        assert "STAND-IN" not in shown
        for axis in figure.axes:
            if axis.get_label() == "<colorbar>" or not axis.get_visible():
                continue
            assert axis.lines or axis.images
            assert axis.get_title(loc="left")
            assert np.isfinite([*axis.get_xlim(), *axis.get_ylim()]).all()
        assert figures.png(figure)[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_of_a_study_without_records_can_be_drawn(name):
    for figure in every_figure(results(name, keep=lambda run: False)):
        assert "not finished, 0 of" in texts(figure)
        assert figures.png(figure)


@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_of_an_unfinished_study_says_so(name):
    def some(run):
        return run.optimizer != "sgd_nesterov" and run.settings.get("beta_2") != 0.99

    for figure in every_figure(results(name, keep=some)):
        assert "not finished" in texts(figure)


@pytest.mark.parametrize("name", STUDIES)
def test_stand_in_data_are_shouted_on_every_axis(name):
    found = results(name, data=f"{STUDIES[name].data_set}-stand-in")
    for figure in every_figure(found):
        for axis in figure.axes:
            if axis.get_label() != "<colorbar>":
                assert any("STAND-IN DATA" in text.get_text() for text in axis.texts)


@pytest.mark.parametrize("name", COMPARED)
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
        assert any(line.get_color() == figures.COLOURS[arm.method] for line in dashed)
        assert is_in_paper(study.panel.name, arm.name)
    solid = [line for axis in figure.axes for line in axis.lines if line.get_linestyle() == "-"]
    enlarged = len(study.panels) == 1 and not study.panel.log
    assert len(solid) == columns * len(study.arms) - enlarged * (len(study.arms) - len(plotted))
    first = next(line for line in solid if line.get_color() == figures.COLOURS["Adam"])
    shown = {arm.name for arm in study.arms if arm.method == "Adam"}
    means = [found.curves("matched").query("arm == @arm")["mean"].to_numpy() for arm in shown]
    assert any(np.array_equal(first.get_ydata(), mean) for mean in means)


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


def test_the_grid_is_drawn_at_the_most_passes_that_are_complete():
    whole = results("fig4", "paper")
    assert "after 100 passes" in texts(figures.grid(whole))
    early = results("fig4", "paper", keep=lambda run: run.epochs == 10)
    assert "after 10 passes" in texts(figures.grid(early))
    assert "after 10 passes" in texts(figures.grid_difference(early))


def test_the_footer_counts_the_seeds():
    assert "Mean of 3 seeds with 95% interval." in texts(figures.curves(results("fig1-mnist")))
    single = results("fig1-mnist", keep=lambda run: run.seed == 0 or run.seed >= 1000)
    assert "Mean of 1 seed." in texts(figures.curves(single))


def test_equal_figures_have_equal_bytes():
    found = results("fig1-mnist")
    assert figures.png(figures.curves(found)) == figures.png(figures.curves(found))
