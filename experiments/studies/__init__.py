"""The studies, one file per figure or part: first the paper's figures, then its other sections.

Declarations only.
"""

from collections.abc import Iterable

from experiments.declarations import check
from experiments.options import known
from experiments.studies import (
    ablation,
    batches,
    defaults,
    fig1_imdb,
    fig1_mnist,
    fig2_dropout,
    fig2_sfo,
    fig3,
    fig4,
    first_moment,
    sec7,
    stability,
    theory,
)
from experiments.study import Study


def by_name(studies: Iterable[Study]) -> dict[str, Study]:
    """The studies by name.

    Raises:
        ValueError: one is not a `Study`, or two have the same name, or say that they are the same
            figure of the paper.
    """
    found: dict[str, Study] = {}
    for study in studies:
        if not isinstance(study, Study):
            raise ValueError(f"STUDIES has {study!r}: enter a Study, as in fig4.STUDY")
        for other in found.values():
            if study.name == other.name:
                raise ValueError(f"two studies are called {study.name!r}: give one another name")
            if study.section == other.section and "Figure" in str(study.section):
                raise ValueError(
                    f"{study.name} says that it is {study.section!r} of the paper, as {other.name} "
                    "does: give it a section of its own, such as 'Not in the paper'"
                )
        found[study.name] = study
    return found


STUDIES = by_name(
    (
        fig1_mnist.STUDY,
        fig1_imdb.STUDY,
        fig2_dropout.STUDY,
        fig2_sfo.STUDY,
        fig2_sfo.COST,
        fig3.STUDY,
        fig4.STUDY,
        *first_moment.STUDIES,
        *theory.STUDIES,
        *sec7.STUDIES,
        *defaults.STUDIES,
        ablation.STUDY,
        *stability.STUDIES,
        batches.STUDY,
    )
)


def get(name: str) -> Study:
    """The study of that name.

    Raises:
        ValueError: there is none, or its declaration can't be right.
    """
    study = STUDIES[known("study", name, STUDIES)]
    check(study)
    return study
