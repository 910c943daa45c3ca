"""What notebooks call: open the results of a study, show its tables, say where they come from."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import studies
from experiments.analysis import claims, defaults, ledger
from experiments.analysis import results as analysis
from experiments.analysis.defaults import Case
from experiments.analysis.results import Results
from experiments.analysis.statistics import interval
from experiments.data import catalogue, download
from experiments.engines import execution
from experiments.options import known
from experiments.paths import ROOT
from experiments.records.published import Published
from experiments.records.store import Store, Together, local_store
from experiments.study import PROTOCOLS, Study
from experiments.training.runtime import commit
from experiments.words import counted, in_words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RESULTS = ROOT / "results"
PUBLISHED_PROFILE = "paper"


def published(study: Study) -> Results:
    """The published results of a study: `results/<study>.parquet`.

    There may be none if another study of the same page has some.

    Raises:
        ValueError: nothing is published for any study of its page.
    """
    page = (other for other in studies.STUDIES.values() if other.notebook == study.notebook)
    if not any(published_file(other).exists() for other in page):
        raise ValueError(f"nothing is published for {study.name}; use --profile quick")
    records = Published(RESULTS)
    return analysis.results(study, PUBLISHED_PROFILE, study.data_set, records, published=True)


def published_studies() -> list[Study]:
    """The studies that have published records, finished or not."""
    return [study for study in studies.STUDIES.values() if published_file(study).exists()]


def with_published(store: Store) -> Together:
    """The records of a store and the published ones; the store's where both have a run."""
    return Together(store, Published(RESULTS))


def published_file(study: Study) -> Path:
    """Where the published records of a study are."""
    return RESULTS / f"{study.name}.parquet"


def existing(study: Study, profile: str, data: str = "auto") -> Results:
    """The results of a study from the records there are; nothing is trained or downloaded.

    Args:
        study: the study.
        profile: "published", or one of its profiles.
        data: "auto" (see `results`), "real" or "stand-in".

    Raises:
        ValueError: an unknown profile or policy, or nothing is published.
    """
    known("profile", profile, (*study.profiles, "published"))
    if profile == "published":
        if not published_file(study).exists():  # another study of its page may have some
            raise ValueError(f"nothing is published for {study.name}; use --profile quick")
        return published(study)
    kind = download.choose(study.data_set, data, download=False).kind
    found = analysis.results(study, profile, kind, local_store())
    runs = found.plan.runs()
    if data == "auto" and len(found.plan.missing(found.records)) == len(runs):
        # Nothing was trained on the real data; without a network, the stand-ins were used.
        other = analysis.results(study, profile, catalogue.stand_in(study.data_set), local_store())
        if len(other.plan.missing(other.records)) < len(runs):
            return other
    return found


def results(name: str, profile: str = "published", data: str = "auto") -> Results:
    """The results of a study, after training whatever the profile lacks.

    Args:
        name: the study, for example "fig1-mnist".
        profile: "published" (reads `results/`, trains nothing), "smoke", "quick" or "paper".
        data: "auto" (real data, downloaded when missing; stand-ins without a network), "real" or
            "stand-in".

    Raises:
        ValueError: an unknown name, or damaged data.
    """
    study = studies.get(name)
    known("profile", profile, (*study.profiles, "published"))
    if profile == "published":
        return published(study)
    choice = download.choose(study.data_set, data)
    store = local_store()
    execution.complete(study, profile, choice.kind, store)
    return analysis.results(study, profile, choice.kind, store)


def verdicts(*results: Results) -> pd.DataFrame:
    """The verdict table: one row per claim, both protocols, with the numbers."""
    import pandas as pd

    return pd.DataFrame(
        {
            "section": row.claim.section,
            "statement": row.claim.reading,
            "the paper's curves": row.paper,
            **{protocol: _judged(row.verdicts[protocol]) for protocol in PROTOCOLS},
        }
        for found in results
        for row in claims.by_claim(found)
    )


def _judged(verdict: claims.Verdict) -> str:
    """A verdict with its numbers and what they depend on."""
    return ": ".join(filter(None, (verdict.verdict, "; ".join(verdict.details)))) or "-"


def criteria(*results: Results) -> pd.DataFrame:
    """The decision rules: the paper's words, what is measured, and where the margin comes from."""
    import pandas as pd

    return pd.DataFrame(
        {
            "the paper": f"“{claim.quote}”" if claim.source == "text" else claim.quote,
            "reproduced if": claim.criterion,
            "margin": claim.why,
        }
        for result in results
        for claim in ledger.of(result.study)
    )


def compared(*results: Results) -> pd.DataFrame:
    """The final training cost of each study's second method over its first, both protocols."""
    import pandas as pd

    rows = []
    for found in results:
        first, second = found.study.arms
        row: dict[str, Any] = {"problem": found.study.title.partition(": ")[2]}
        for protocol in PROTOCOLS:
            name = protocol if found.study.fitted else analysis.SETTINGS[protocol]
            row[f"{second.name} / {first.name}, {name}"] = _ratio(found, protocol)
        rows.append(row)
    return pd.DataFrame(rows)


def _ratio(results: Results, protocol: str) -> str:
    """The ratio of the final training costs of two arms with its interval and n."""
    import numpy as np
    import pandas as pd

    first, second = (
        results.matrix(protocol, arm.name).iloc[:, -1].dropna() for arm in results.study.arms
    )
    both = pd.concat([first, second], axis=1, join="inner").to_numpy(float)
    if not len(both):
        return "not finished"
    ended = both[np.isfinite(both).all(axis=1)]
    gone = f"diverged in {len(both) - len(ended)} of {counted(len(both), 'seed')}"
    if not len(ended):
        return gone
    mean, low, high = interval(ended[:, 1] / ended[:, 0], log=True)
    text = f"{mean:.4f} [{low:.4f}, {high:.4f}], n = {len(ended)}"
    return text if len(ended) == len(both) else f"{text}; {gone}"


def defaults_cases(profile: str = "published", data: str = "auto") -> list[Case]:
    """The problems on which defaults are judged, those of the paper first; see `results`."""
    return [
        Case(title, results(name, profile, data), variant)
        for title, name, variant in studies.defaults.CASES
    ]


def method_defaults() -> pd.DataFrame:
    """The default of each method and its source; settings not named are the library's."""
    import pandas as pd

    methods = studies.defaults.METHODS.items()
    rows = [(name, in_words(settings), source) for name, (_, settings, source) in methods]
    return pd.DataFrame(rows, columns=["method", "default", "source"])


def records_of(cases: Iterable[Case]) -> pd.DataFrame:
    """The records that the answers for each problem come from."""
    import pandas as pd

    rows = []
    for case in cases:
        found = origin(case.results)
        records = found.get("records", found["results"])  # only published records have a file
        rows.append((case.title, found["study"], found["runs"], records))
    return pd.DataFrame(rows, columns=["problem", "study", "runs", "records"])


def one_rates(cases: Sequence[Case]) -> pd.DataFrame:
    """The step size with the smallest worst regret, for the methods tuned on most problems."""
    table = defaults.one_rate(cases)
    table = table[table["method"].isin(defaults.tuned_on_most(cases))]
    table = table[table["smallest"]].drop(columns="smallest").sort_values("worst")
    table["worst"] = [f"{value:.0%}" for value in table["worst"]]
    names = {
        "rate": "one rate",
        "worst": "worst regret",
        "problem": "on",
        "problems": "of problems",
    }
    return table.rename(columns=names).reset_index(drop=True)


def starts(cases: Iterable[Case]) -> pd.DataFrame:
    """Adam at its default against the best of all, by three measures; see `defaults.starts`."""
    import pandas as pd

    rows = []
    for case in cases:
        if case.compared and (found := defaults.starts(case.results)):
            (cost, *ends), *shares = found.values()
            first = f"{cost:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]"
            rest = [f"{mean:.0%} [{100 * low:.0f}, {100 * high:.0f}]" for mean, low, high in shares]
            rows.append((case.title, first, *rest))
    names = ("cost / the lowest", "share from the first pass", "share from the second pass")
    return pd.DataFrame(rows, columns=["problem", *names])


def valleys(cases: Iterable[Case]) -> pd.DataFrame:
    """How wide each method's valley is on each problem; see `analysis.defaults.valley`."""
    import pandas as pd

    tables = [(case.title, table) for case in cases if len(table := defaults.valley(case))]
    for title, table in tables:
        table.insert(0, "problem", title)
        for name in table.columns.drop(["problem", "method", "rates", "best"]):
            table[name] = ["-" if pd.isna(value) else f"{value:.0%}" for value in table[name]]
    return pd.concat([table for _, table in tables], ignore_index=True)


def provenance(results: Results) -> pd.DataFrame:
    """Where the results come from: records, code, versions, machine, data."""
    import pandas as pd

    return pd.DataFrame(origin(results).items(), columns=["what", "value"])


def origin(results: Results) -> dict[str, str]:
    """Where the results come from, by name."""
    study = results.study
    found = (results.records.get(run.id) for run in results.plan.runs())
    records = [record for record in found if record is not None]
    manifests = [record["manifest"] for record in records]
    rows = {
        "study": f"{study.name} ({study.section})",
        "results": results.label,
        "runs": results.progress + (", not finished" if results.missing else ""),
    }
    if results.published and (file := published_file(study)).exists():
        rows["records"] = f"results/{file.name}, SHA-256 {_sha256(file)}"
    rows["data"] = f"{results.data}, fingerprint {catalogue.fingerprint(results.data)}"
    for key, name in (
        ("commit", "commit of the runs"),
        ("python", "Python"),
        ("tensorflow", "TensorFlow"),
        ("jax", "JAX"),
        ("keras", "Keras"),
        ("numpy", "NumPy"),
        ("backend", "backend"),
        ("processor", "processor"),
        ("kind", "kind of processor"),
        ("devices", "devices"),
        ("threads", "threads per run"),
        ("precision", "precision"),
    ):
        values = [manifest[key] for manifest in manifests if key in manifest]
        if values or key not in ("tensorflow", "jax", "kind"):
            rows[name] = _distinct(values)
    if manifests:
        seconds = [_training_seconds(record) for record in records]
        rows["trained"] = _span(manifest["started"][:10] for manifest in manifests)
        rows["training time"] = (
            f"{sum(seconds) / 60:.1f} minutes in all; median run {statistics.median(seconds):.1f} s"
        )
    if not results.published:
        rows["commit of this page"] = commit()
    return rows


def _training_seconds(record: Mapping[str, Any]) -> float:
    """How long a run took: `wall_seconds` does not hold what came before an interruption."""
    before = record["manifest"].get("continues", {}).get("passes", 0)
    return max(
        record["manifest"]["wall_seconds"], sum(record["metrics"].get("seconds", ())[before:])
    )


def _distinct(values: Iterable[Any]) -> str:
    texts = {", ".join(v) if isinstance(v, list) else str(v) for v in values}
    return " and ".join(sorted(texts)) or "none"


def _span(days: Iterable[str]) -> str:
    days = sorted(set(days))
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def show(what: Figure | pd.DataFrame, alt: str = "") -> Any:
    """A figure or a table, ready for a notebook cell to end with; see `figures.display.show`."""
    from experiments.figures import display  # not where only numbers are wanted

    return display.show(what, alt)
