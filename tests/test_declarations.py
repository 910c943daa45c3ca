"""What an author of a study may mistype is named in one line, with what is allowed."""

from __future__ import annotations

import dataclasses
import runpy
import sys
import types

import pytest

import adam_study
from experiments import mistakes, studies
from experiments.cli.main import main
from experiments.declarations import _check_problem, check
from experiments.methods import optimizers
from experiments.methods.optimizers import Decay
from experiments.options import Count, Positive
from experiments.problems import options as trained
from experiments.problems import registry
from experiments.problems.options import Options
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


def panel(**changes):
    """The study with its panel changed."""
    return {"panels": (dataclasses.replace(FIG1.panel, **changes),)}


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
        ({"title": 5}, "title=5 is not valid: use text, in quotes"),
        ({"section": None}, "section=None is not valid: use text, in quotes"),
        ({"options": {"l2"}}, "options={'l2'} is not valid: use a dict, {NAME: VALUE, ...}"),
        ({"panels": FIG1.panel}, "use a tuple of Panels, with a comma after a single one"),
        ({"departures": ("so",)}, "departures=('so',) is not valid: use a tuple of Departures"),
        ({"profiles": {"smoke": {"epochs": 1}}}, "is not valid: use a dict of Profiles by name"),
        ({"notebook": "../nadam"}, "notebook='../nadam' is not valid: name a page of notebooks/"),
        ({"batch_size": 70_000}, "batch_size=70000 is more than the "),
        (paper(stages=5), "profile paper: stages=5 is not valid: use a tuple of whole numbers"),
        (paper(tuning_epochs=99), "profile paper: tuning_epochs=99 is more than epochs=46"),
        (paper(whole_seeds=99), "profile paper: whole_seeds=99 is more than seeds=10: lower it"),
        (paper(grid={"beta_1": 3}), "profile paper: grid has beta_1=3: give a list of values"),
        (paper(grid={"beta_1": (0.9,)}), "profile paper: its grid replaces values of the arms'"),
        (panel(x=45), "x=45 is not valid: use two numbers, (LOW, HIGH)"),
        (panel(x=(45, 0)), "x=(45, 0) is not valid: use (LOW, HIGH)"),
        (panel(y=("0.2", 1)), "y=('0.2', 1) is not valid: use two numbers, (LOW, HIGH)"),
        (panel(y=(0, 1), log=True), "y=(0, 1) is not valid: a logarithmic axis begins above 0"),
        (arm(plotted="no"), "arm 'Adam': plotted='no' is not valid: use True or False"),
        (arm(tune=0.001), "arm 'Adam': tune=0.001 is not valid: use a dict, {NAME: VALUE, ...}"),
        (alternative(arm="Adam", options=None), "an alternative: options=None is not valid"),
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


def nadam(steps_per_epoch: int, *, learning_rate: Positive, decay: Decay = "constant"):
    """A method as it must be."""


def no_steps(*, learning_rate: Positive):
    """It does not take the steps of a pass."""


def by_position(steps_per_epoch: int, learning_rate: Positive):
    """Its setting could be taken for the steps."""


def bare(steps_per_epoch: int, *, learning_rate):
    """Its setting could be anything."""


def misspelt(steps_per_epoch: int, *, learning_rate: Postive):  # noqa: F821
    """Its annotation does not exist."""


def odd_default(steps_per_epoch: int, *, learning_rate: Positive = 0.0):
    """Its default is not one of the values it takes."""


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("nadam", None, "OPTIMIZERS['nadam'] is None: enter the function itself, without ()"),
        ("adam_2", nadam, "OPTIMIZERS['adam_2'] is the function nadam: enter it by its own name"),
        ("no_steps", no_steps, "no_steps() takes no steps: write no_steps(steps_per_epoch: int,"),
        ("by_position", by_position, "takes learning_rate by position: put * before its settings"),
        ("bare", bare, "bare: learning_rate must be bool, int, float, a Literal or Annotated"),
        ("misspelt", misspelt, "misspelt: name 'Postive' is not defined"),
        ("odd_default", odd_default, "learning_rate=0.0 is not valid for odd_default: use a fin"),
    ],
)
def test_a_mistake_in_a_method_is_named(name, method, message, monkeypatch):
    monkeypatch.setitem(optimizers.OPTIMIZERS, name, method)
    with pytest.raises(ValueError, match=r"^study 'fig1-mnist': arm 'Adam': ") as caught:
        check(dataclasses.replace(FIG1, **arm(optimizer=name)))
    assert message in str(caught.value)


def test_a_method_as_it_must_be_is_accepted(monkeypatch):
    monkeypatch.setitem(optimizers.OPTIMIZERS, "nadam", nadam)
    arms = (*FIG1.arms, dataclasses.replace(ADAM, name="Nadam", optimizer="nadam", plotted=False))
    check(dataclasses.replace(FIG1, arms=arms))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bare(Options):
    """An option without a default."""

    width: Count
    train_examples: Count = 60_000
    held_out_examples: Count = 10_000


class Undecorated(Options):
    """Not a dataclass of its own."""


ENTRY = registry.PROBLEMS[FIG1.problem]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (trained.LogisticRegression, "use Entry(MODULE, FUNCTION, OPTIONS)"),
        (
            dataclasses.replace(ENTRY, module="problems.clasifiers"),
            "unknown module of problem mine in experiments/problems 'clasifiers': did you mean cla",
        ),
        (
            dataclasses.replace(ENTRY, function="logistic"),
            "unknown function of problem mine in classifiers.py 'logistic': did you mean logistic_",
        ),
        (dataclasses.replace(ENTRY, function="at_most"), ""),
        (
            dataclasses.replace(ENTRY, function="classification"),
            "problem mine: classification() must take data, seed, options",
        ),
        (
            dataclasses.replace(ENTRY, measured=True),
            "logistic_regression() must take data, seed, settings, batch_size, epochs, options",
        ),
        (dataclasses.replace(ENTRY, options=dict), "problem mine has options=<class 'dict'>: use"),
        (
            dataclasses.replace(ENTRY, options=Bare),
            "its option width needs a default",
        ),
        (dataclasses.replace(ENTRY, options=Undecorated), "write @dataclass(frozen=True, kw_only="),
    ],
)
def test_a_mistake_in_a_problem_is_named(entry, message, monkeypatch):
    monkeypatch.setitem(registry.PROBLEMS, "mine", entry)
    _check_problem.cache_clear()
    changed = dataclasses.replace(FIG1, problem="mine")
    if not message:
        check(changed)
        return
    with pytest.raises(ValueError, match=r"^study 'fig1-mnist': ") as caught:
        check(changed)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def written(tmp_path, text):
    """The error of importing a declaration with this text."""
    file = tmp_path / "experiments" / "studies" / "mine.py"
    file.parent.mkdir(parents=True)
    file.write_text(f"from experiments.study import *\n{text}\n", encoding="utf-8")
    with pytest.raises(Exception, match=r".") as caught:
        runpy.run_path(str(file))
    return caught.value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = nadm", "NameError: name 'nadm' is not defined; correct it there"),
        ("x = Panel('p', x=(0, 1), y=(0, 1), colour=1)", "Panel has no 'colour': allowed: name, x"),
        ("x = Profile(epoch=1, seeds=1)", "Profile has no 'epoch': did you mean epochs? allowed: "),
        ("x = Panel('p', x=(0, 1))", "Panel needs 'y'; give it"),
        ("x = Panel('p')", "Panel needs 'x' and 'y'; give them"),
        (
            "from experiments.study import Panle",
            "there is no 'Panle' in experiments.study",
        ),
        ("import nosuch", "No module named 'nosuch'; `make env` installs what is needed"),
        ("x = (", "'(' was never closed; correct it there"),
        ("x = int('a b')", "invalid literal for int"),
    ],
)
def test_what_python_refuses_is_one_line_with_its_place(text, line, tmp_path, monkeypatch):
    monkeypatch.setattr(mistakes, "ROOT", tmp_path)
    monkeypatch.setattr(mistakes, "CODE", tmp_path / "experiments")
    said = mistakes.described(written(tmp_path, text))
    assert line in said
    assert "\n" not in said
    if "int(" not in text:
        assert said.startswith("experiments/studies/mine.py, line 2: ")


@pytest.mark.parametrize("start", ["adam-study", "python -m experiments"])
def test_a_command_ends_with_that_line(start, monkeypatch, capfd):
    def fails(name):
        raise NameError("name 'nadm' is not defined")

    module = types.ModuleType("experiments.cli.main")
    module.__getattr__ = fails
    monkeypatch.setitem(sys.modules, "experiments.cli.main", module)
    if start == "adam-study":
        assert adam_study.main() == 2
    else:
        with pytest.raises(SystemExit, match="2"):
            runpy.run_module("experiments", run_name="imported")
    err = capfd.readouterr().err
    assert err.startswith("adam-study: ")
    assert "NameError: name 'nadm' is not defined" in err
    assert err.count("\n") == 1


def test_what_is_no_study_is_refused():
    with pytest.raises(ValueError, match=r"STUDIES has 5: enter a Study, as in fig4\.STUDY"):
        studies.by_name([5])
