"""The studies, one file per figure or part: first the paper's figures, then its other sections.

Declarations only.
"""

from experiments.options import known
from experiments.studies import (
    fig1_imdb,
    fig1_mnist,
    fig2_dropout,
    fig2_sfo,
    fig3,
    fig4,
    sec7,
    theory,
)
from experiments.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        fig1_mnist.STUDY,
        fig1_imdb.STUDY,
        fig2_dropout.STUDY,
        fig2_sfo.STUDY,
        fig2_sfo.COST,
        fig3.STUDY,
        fig4.STUDY,
        *theory.STUDIES,
        *sec7.STUDIES,
    )
}


def get(name: str) -> Study:
    """The study of that name."""
    return STUDIES[known("study", name, STUDIES)]
