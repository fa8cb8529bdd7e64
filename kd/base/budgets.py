"""What a served model may cost at most: the options and devices, and the figure that each of them limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Feasibility = Literal["excellent", "good", "acceptable", "challenging"]
BUDGETS = {
    "latency_budget_ms": "profile/latency_ms_p95",
    "ram_budget_mib": "profile/ram_peak_mib",
    "size_budget_mib": "model/size_mib",
}
"""Option to metric, both in the unit of the option's name."""
FITS_DEVICE = "kd.fits_device."
"""How the tags begin that say whether a run's model fits a device, which the rest names."""


@dataclass(frozen=True)
class Device:
    """What a model may cost on a device: MiB of peak RAM of the serving process, and of the model on disk."""

    ram_mib: float
    storage_mib: float

    @property
    def limits(self) -> dict[str, tuple[str, float]]:
        """The metric that each of them limits, and its greatest value."""
        return {
            "ram_mib": (BUDGETS["ram_budget_mib"], self.ram_mib),
            "storage_mib": (BUDGETS["size_budget_mib"], self.storage_mib),
        }


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


def fits_device(metrics: Mapping[str, float], device: Device) -> tuple[bool, str] | None:
    """Return whether a model fits a device, and its figures beside the device's; None where one was not measured."""
    (ram, most_ram), (size, most_size) = device.limits.values()
    if ram not in metrics or size not in metrics:
        return None
    words = (
        f"peak RAM {_mib(metrics[ram])} of {_mib(most_ram)} MiB, model {_mib(metrics[size])} of {_mib(most_size)} MiB"
    )
    return metrics[ram] <= most_ram and metrics[size] <= most_size, words


def _mib(value: float) -> str:
    return f"{value:.4g}" if value < 1e4 else f"{value:.0f}"


def feasibility(latency_ms_p95: float) -> Feasibility:
    """Return the class of a 95th percentile of latency: below 100 ms, 500 ms, 1000 ms, or above."""
    limits: dict[float, Feasibility] = {100: "excellent", 500: "good", 1000: "acceptable"}
    return next((name for limit, name in limits.items() if latency_ms_p95 < limit), "challenging")
