"""What a figure holds of itself: its numbers and its lines, as texts of its PNG."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from experiments import pages
from experiments.figures import best_of_settings, curves, drawn, grid_difference, style
from experiments.figures.axes import draw_mean, show_hidden
from experiments.studies import STUDIES


def held(picture: bytes) -> tuple[pd.DataFrame, str]:
    texts = Image.open(io.BytesIO(picture)).text
    return pd.read_csv(io.StringIO(texts["CSV"])), texts["SVG"]


def values(table: pd.DataFrame, kind: str, *columns: str) -> list[list[object]]:
    return table.loc[table["kind"] == kind, list(columns)].to_numpy().tolist()


def test_lines_bands_bars_and_levels_are_read_off_the_drawing():
    figure = Figure()
    first, second = figure.subplots(1, 2)
    first.plot([0, 1], [2, 3], color="#0173b2", label="AdaGrad (n = 3)")
    first.fill_between([0, 1], [1, 2], [3, 5], color="#0173b2", alpha=0.2)
    first.plot([0, 1], [2.5, 3.5], color="#0173b2", ls="--")
    first.axhline(7, color="black")
    first.axhspan(6, 8)
    first.text(0.5, 0.5, "words", transform=first.transAxes)
    handles = first.lines[:1]
    figure.legend(handles=handles)
    second.barh([0, 1], [5, 6], color="#d55e00")
    second.set_yticks([0, 1], ["SGD", "Adam"])
    first.set_title("left", loc="left")
    second.set_ylabel("state")
    table = drawn.table(figure)
    assert list(table.columns) == list(drawn.COLUMNS)
    lines = [[0, 2], [1, 3], [0, 2.5], [1, 3.5]]
    assert values(table[table["x"].notna()], "line", "x", "y") == lines
    assert values(table[table["x"].isna()], "line", "series", "y") == [["#000000", 7]]
    assert values(table, "band", "series", "x", "low", "high") == [
        ["AdaGrad (n = 3)", 0, 1, 3],
        ["AdaGrad (n = 3)", 1, 2, 5],
    ]
    assert values(table, "bar", "y", "value") == [["SGD", 5], ["Adam", 6]]
    assert set(table["panel"]) == {"left", "2: state"}
    assert len(table) == 9


def test_a_dashed_line_is_the_papers_where_the_legend_says_so():
    figure = Figure()
    axis = figure.subplots()
    axis.plot([0, 1], [2, 3], color="#d55e00", label="Adam (n = 3)")
    axis.plot([0, 1], [4, 5], color="#d55e00", ls="--")
    grey = figure.subplots().plot([], [], color="#555555", ls="--", label="the paper's curve")
    figure.axes[0].legend(handles=[axis.lines[0], *grey])
    paper = drawn.table(figure).query("y >= 4")
    assert set(paper["series"]) == {"Adam, the paper's curve"}


def test_an_error_bar_and_a_point_have_their_line_s_name():
    figure = Figure()
    axis = figure.subplots()
    axis.plot([0, 1], [2, 3], color="#d55e00", label="with")
    axis.errorbar([0, 1], [2, 3], [[1, 1], [2, 2]], color="#d55e00", fmt="o")
    axis.scatter([5], [6], color="#d55e00")
    table = drawn.table(figure)
    assert values(table, "error bar", "series", "x", "low", "high") == [
        ["with", 0, 1, 4],
        ["with", 1, 2, 5],
    ]
    assert values(table, "point", "series", "x", "y") == [["with", 5, 6]]


@pytest.mark.parametrize("flat", [True, False])
def test_a_cell_has_its_categories_its_value_and_its_words(flat):
    figure = Figure()
    axis = figure.subplots()
    shown = np.array([[1.0, 2.0], [3.0, np.nan]])
    mesh = axis.imshow(shown) if flat else axis.pcolormesh(shown)
    figure.colorbar(mesh, ax=axis)
    half = 0.0 if flat else 0.5
    axis.set_xticks([half, 1 + half], ["0.1", "1"])
    axis.set_yticks([half, 1 + half], ["β₁ = 0", "β₁ = 0.9"])
    axis.text(half, 1 + half, "> 3", ha="center")
    table = drawn.table(figure)
    found = table.set_index(["x", "y"])
    assert found.loc[("0.1", "β₁ = 0.9"), ["value", "words"]].tolist() == [3.0, "> 3"]
    assert found.loc[("1", "β₁ = 0"), ["value", "words"]].tolist() == [2.0, ""]
    assert np.isnan(found.loc[("1", "β₁ = 0.9"), "value"])
    assert len(table) == 4


def test_the_numbers_of_a_published_figure_are_those_of_its_records():
    found = pages.results("fig1-mnist", "published")
    numbers, _ = held(style.png(curves(found)))
    means = found.curves("matched")
    for method in ("Adam", "AdaGrad", "SGDNesterov"):
        rows = numbers[numbers["series"].str.startswith(f"{method} (")]
        rows = rows[rows["panel"].str.startswith("matched")]
        mine = means[means["arm"] == method].sort_values("pass")
        line, band = rows[rows["kind"] == "line"], rows[rows["kind"] == "band"]
        np.testing.assert_array_equal(line["x"].astype(float), mine["pass"])
        np.testing.assert_allclose(line["y"], mine["mean"], rtol=1e-5)
        np.testing.assert_allclose(band["low"], mine["low"], rtol=1e-5)
        np.testing.assert_allclose(band["high"], mine["high"], rtol=1e-5)
    assert "Adam, the paper's curve" in set(numbers["series"])


def test_a_grid_s_cells_are_named_by_their_settings():
    table = drawn.table(grid_difference(pages.results("fig4", "published")))
    betas = [(one, two) for one in (0, 0.9) for two in (0.99, 0.999, 0.9999)]
    assert set(table["y"]) == {f"β₁={one}, β₂={two}" for one, two in betas}
    assert {float(x) for x in table["x"]} == set(STUDIES["fig4"].arms[0].grid["learning_rate"])
    assert table["words"].str.len().gt(0).any()
    assert drawn.table(best_of_settings(pages.results("fig4", "published")))["series"].notna().all()


def test_a_line_beneath_another_keeps_its_name():
    figure = Figure()
    axis = figure.subplots()
    for name, colour in (("Adam", "#d55e00"), ("AdaMax", "#56b4e9")):
        axis.plot([0, 1, 2], [3, 2, 1], color=colour, label=name)
    show_hidden(axis)
    assert axis.lines[0].get_label() == f"Adam{drawn.BENEATH}"
    assert list(drawn.table(figure)["series"].unique()) == ["Adam", "AdaMax"]


def test_a_picture_holds_a_drawing_with_the_same_layout_and_the_same_bytes_each_time():
    def picture() -> bytes:
        with style.styled():
            figure, axes = style.new_figure(2)
            table = pd.DataFrame(
                {"pass": [0, 1], "mean": [3.0, 2.0], "low": 1.0, "high": 4.0, "n": 3}
            )
            draw_mean(axes[0][0], table, "#d55e00")
            axes[0][1].set(xlabel="α", title="<&> β₁")
        picture = style.png(figure, "records")
        assert figure.get_layout_engine() is not None
        return picture

    first = picture()
    assert first == picture()
    numbers, lines = held(first)
    assert lines.startswith("<?xml")
    assert "<dc:date>" not in lines
    width, height = Image.open(io.BytesIO(first)).size
    size = [float(part) for part in lines.partition('viewBox="')[2].partition('"')[0].split()]
    assert width / height == pytest.approx(size[2] / size[3], rel=0.01)
    assert len(numbers) == 4


def test_a_figure_without_lines_has_no_numbers_to_save():
    figure = Figure()
    figure.subplots()
    texts = Image.open(io.BytesIO(style.png(figure))).text
    assert set(texts) == {"SVG"}
