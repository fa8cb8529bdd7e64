"""Optuna's own pictures of a search, in one page that opens offline."""

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import plot_optimization_history, plot_param_importances, plot_pareto_front, plot_slice

from kd.search.optuna_study import Study


def page(studies: Mapping[str, Study], names: Sequence[str]) -> str:
    """Return HTML with each study's history, importances, slices and Pareto front; `names` are of the directions."""
    parts: list[str] = []
    drawn = False
    for title, study in studies.items():
        parts.append(f"<h1>{html.escape(title)}: study {html.escape(study.name)}</h1>")
        for figure in _figures(study.inner, names):
            # the library once, and within the page: it is read without a network
            parts.append(figure.to_html(full_html=False, include_plotlyjs=not drawn))
            drawn = True
    return f'<!doctype html><html><head><meta charset="utf-8"></head><body>{"".join(parts)}</body></html>'


def _figures(study: optuna.Study, names: Sequence[str]) -> Iterator[Any]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return
    several = len(names) > 1
    if several:
        yield plot_pareto_front(study, target_names=list(names))
    varied = len({str(trial.params) for trial in complete}) > 1
    for place, name in enumerate(names):
        target = _value(place) if several else None
        yield plot_optimization_history(study, target=target, target_name=name)
        if varied:
            yield plot_slice(study, target=target, target_name=name)
            if len({trial.values[place] for trial in complete}) > 1:
                yield plot_param_importances(study, target=target, target_name=name)


def _value(place: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: float(trial.values[place])
