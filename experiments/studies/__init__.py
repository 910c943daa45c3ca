"""The studies, one file per figure or section, in the paper's order. Declarations only."""

from experiments.check import known
from experiments.studies import fig1_imdb, fig1_mnist, fig2_dropout, fig3, fig4
from experiments.study import Study

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY for module in (fig1_mnist, fig1_imdb, fig2_dropout, fig3, fig4)
}


def get(name: str) -> Study:
    """The study of that name."""
    return STUDIES[known("study", name, STUDIES)]
