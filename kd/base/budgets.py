"""What a served model may cost at most: the options, and the figure that each of them limits."""

from collections.abc import Mapping

BUDGETS = {
    "latency_budget_ms": "profile/latency_ms_p95",
    "ram_budget_mib": "profile/ram_peak_mib",
    "size_budget_mib": "model/size_mib",
}
"""Option to metric, both in the unit of the option's name."""


def budgets_of(options: object) -> dict[str, float]:
    """Return the budgets that options set, by option; one that is absent, 0 or None sets none."""
    return {name: value for name in BUDGETS if (value := getattr(options, name, None))}


def fits(metrics: Mapping[str, float], budgets: Mapping[str, float]) -> dict[str, bool]:
    """Return, for each budget, whether the figure is at most that: by `latency_ms`, `ram_mib` and `size_mib`.

    A figure that was not measured was not shown to fit: False.
    """
    return {
        name.replace("_budget", ""): BUDGETS[name] in metrics and metrics[BUDGETS[name]] <= most
        for name, most in budgets.items()
    }
