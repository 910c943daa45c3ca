"""What an author of a study may mistype is named in one line, with what is allowed."""

from __future__ import annotations

import dataclasses

import pytest

from experiments import studies
from experiments.cli.main import main
from experiments.declarations import check
from experiments.studies import STUDIES
from experiments.study import Alternative, Departure

FIG1 = STUDIES["fig1-mnist"]
ADAM = FIG1.arm("Adam")


def arm(**changes):
    """The study with its Adam changed."""
    return {"arms": (FIG1.arms[0], dataclasses.replace(ADAM, **changes))}


def paper(**changes):
    """The study with its paper profile changed."""
    profile = dataclasses.replace(FIG1.profiles["paper"], **changes)
    return {"profiles": {**FIG1.profiles, "paper": profile}}


def alternative(**changes):
    """The study with one alternative."""
    return {"departures": (Departure("so", "why", (Alternative("else", **changes),)),)}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_declared_as_it_must_be(name):
    assert studies.get(name) is STUDIES[name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Fig 1"}, "use small letters, digits and hyphens"),
        ({"problem": "mnist_logistic"}, "unknown problem 'mnist_logistic': did you mean mnist_log"),
        ({"data_set": "minst"}, "unknown data set 'minst': did you mean mnist"),
        ({"options": {"l3": 1}}, "unknown option of mnist_logistic_regression 'l3'"),
        ({"notebook": "nadam.ipynb"}, "notebook='nadam.ipynb' is not valid: leave out .ipynb"),
        ({"batch_size": 0}, "batch_size=0 is not valid: use a whole number, 1 or more"),
        ({"step_ms": 0}, "step_ms=0 is not valid: use a finite number > 0"),
        ({"arms": ()}, "it has no arms: declare at least one"),
        ({"panels": ()}, "it has no panels: declare at least one"),
        ({"arms": (ADAM, ADAM)}, "two arms are called 'Adam': give one another name"),
        ({"profiles": {}}, "it lacks the profile smoke; declare smoke, quick, paper"),
        (
            {"profiles": {**FIG1.profiles, "papr": FIG1.profiles["paper"]}},
            "unknown profile 'papr': did you mean paper",
        ),
        (paper(seeds=-1), "profile paper: seeds=-1 is not valid: use a whole number, 1 or more"),
        (paper(epochs=4.5), "profile paper: epochs=4.5 is not valid"),
        (paper(epochs=None), "profile paper: epochs=None is not valid"),
        (paper(tuning_seeds=None), "profile paper: tuning_seeds=None is not valid"),
        (paper(fit_seeds=-1), "profile paper: fit_seeds=-1 is not valid"),
        (paper(stages=(46,)), "profile paper: stages=(46,) must rise, below epochs=46"),
        (paper(rungs=(8, 4)), "profile paper: rungs=(8, 4) must rise, and end at epochs=46"),
        (paper(options={"examples": 9}), "profile paper: unknown option of"),
        (arm(name="Adam:2"), "arm 'Adam:2': a name has letters, and no colon"),
        (arm(optimizer="adma"), "arm 'Adam': unknown optimizer 'adma': did you mean adam"),
        (arm(options={"l2": -1}), "arm 'Adam': l2=-1 is not valid"),
        (arm(batch_size=-4), "arm 'Adam': batch_size=-4 is not valid"),
        (arm(matched={"lr": 0.1}), "arm 'Adam': unknown parameter of adam 'lr': use learning_rate"),
        (arm(matched={}, tune={}, search=()), "arm 'Adam': there is nothing to train"),
        (arm(tune={"learning_rate": [0.1]}), "arm 'Adam': tune has learning_rate=[0.1]: give one"),
        (arm(tune={"decay": ["constant"]}), "arm 'Adam': tune has learning_rate=None: give one"),
        (arm(fit={"decay": "constant"}), "arm 'Adam': fit has decay='constant': give a list"),
        (arm(search=({"beta_1": ()},)), "arm 'Adam': search has beta_1=(): give a list"),
        (
            arm(search=({"learning_rate": (0.002, 0.006)},)),
            "learning_rate=0.002 is not on the ladder",
        ),
        (
            arm(search=({"learning_rate": (0.003, 0.001)},)),
            "arm 'Adam': search has learning_rate=(0.003, 0.001): give neighbours on the",
        ),
        (arm(search=({"decay": ("constant",)},)), "arm 'Adam': adam needs a learning_rate"),
        (arm(search=({"learning_rate": (0.002,)},)), "learning_rate=0.002 is not on the ladder"),
        (
            arm(search=({"learning_rate": (0.001, 0.003)},)),
            "the arms enter unequal numbers of candidates into the search: AdaGrad 0, Adam 2",
        ),
        (paper(rungs=(8, 46)), "profile paper: rungs need arms with `search`"),
        (arm(name="Nadam"), "arm 'Nadam': the paper shows no curve of it: give it plotted=False"),
        (alternative(arm="Adma"), "unknown arm 'Adma': did you mean Adam"),
        (alternative(arm="Adam", settings={"beta": 1}), "unknown parameter of adam 'beta'"),
    ],
)
def test_a_mistake_is_named(changes, message):
    with pytest.raises(ValueError, match=r"^study '") as caught:
        check(dataclasses.replace(FIG1, **changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_ends_with_the_line(monkeypatch, capsys):
    wrong = dataclasses.replace(FIG1, name="mine", **paper(seeds=0))
    monkeypatch.setitem(STUDIES, "mine", wrong)
    for line in (["list"], ["plan", "mine"]):
        assert main(line) == 2
        err = capsys.readouterr().err
        assert err.startswith("adam-study: study 'mine': profile paper: seeds=0 is not valid")
        assert err.count("\n") == 1
