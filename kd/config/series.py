"""Which series are read, and how windows are cut from them: options of tasks that forecast."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from kd.base.console import shown
from kd.base.numbers import number
from kd.base.types import UserError
from kd.config.base import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Range, TaskOptions, listed

UnitName = Literal["mg/dL", "mmol/L", "none"]
ItemsName = Literal["each", "pooled", "left-out"]
ScenarioName = Literal["clean", "noisy", "denoised", "missing", "missing-blocks"]
MG_PER_MMOL = 18.016
"""mg/dL of glucose that are 1 mmol/L."""


@dataclass(frozen=True, kw_only=True)
class SeriesOptions(TaskOptions):
    """Series of one number over time, of one patient or several, and the windows that are cut from them."""

    heading: ClassVar[str] = "forecasting"
    units: UnitName = "mg/dL"
    """Unit of the values read, and of all that is reported; none where they are not glucose."""
    patients: str = "all"
    """Patients (or other items) by id, comma-separated: 570,584; or all."""
    models: ItemsName = "each"
    """each trains one model a patient; pooled one for all; left-out one a patient, from the data of all others."""
    patients_file: str = ""
    """CSV with a column id, and others (age, sex, pump) that predictions can be sliced by."""
    item_column: str = "item_id"
    """Column of the patient in a table; a table without it is one series."""
    time_column: str = "timestamp"
    """Column of the time in a table."""
    target_column: str = "target"
    """Column of the value that is forecast."""
    covariates: str = ""
    """Further columns or events the model sees: carbs,bolus,basal of OhioT1DM, carbs,bolus of sensors, or columns of a
    table."""
    known_ahead: str = ""
    """Those of the covariates whose values over the horizon are known when the forecast is made."""
    step_minutes: NonNegativeFloat = 0.0
    """Minutes between two values of the grid; 0 takes the commonest in the data."""
    history: PositiveInt = 12
    """Steps that the model sees; 12 of 5 minutes are one hour; 144 (12 hours) is also usual."""
    horizon: PositiveInt = 6
    """Steps that are forecast; 6 of 5 minutes are 30 minutes, 12 are 60."""
    window_stride: PositiveInt = 1
    """Steps from one training window to the next; validation and test have a window at every step."""
    max_gap_minutes: NonNegativeFloat = 30.0
    """Longest gap without a value that is filled in a history, in minutes; windows across longer ones are dropped."""
    time_split: str = "0.7,0.1,0.2"
    """Shares of the time that are train, validation and test, in this order; where files say what is test, the first
    two are of the rest."""
    train_days: NonNegativeFloat = 0.0
    """Use the last so many days of each patient's training time; 0 uses all."""
    train_scenario: ScenarioName = "clean"
    """What is done to training inputs (targets stay as measured): noise, smoothing, or removal of values."""
    test_scenario: ScenarioName = "clean"
    """The same for the inputs of validation and test."""
    noise_sd: PositiveFloat = 10.0
    """Standard deviation of the scenario noisy, in the unit of the values."""
    missing_share: Annotated[float, Range(lambda value: 0 < value < 1, "a share above 0 and below 1")] = 0.2
    """Share of the values that the scenarios missing and missing-blocks remove."""
    scenario_seed: NonNegativeInt = 0
    """Seed of the scenarios' noise and removals."""

    def __post_init__(self) -> None:
        super().__post_init__()
        absent = [name for name in listed(self.known_ahead) if name not in listed(self.covariates)]
        if absent:
            raise UserError(
                f"known_ahead={shown(self.known_ahead)}: {absent[0]!r} is no covariate: name it in covariates too"
            )
        self.shares  # noqa: B018  # refuses what is no split

    @property
    def part(self) -> str:
        """The patient, where there is one."""
        return "" if self.patients == "all" or len(listed(self.patients)) > 1 else self.patients

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """Names of the covariates, in the order of the channels after the first."""
        return listed(self.covariates)

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names of the covariates that are known over the horizon."""
        return listed(self.known_ahead)

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of train, validation and test, which add up to 1."""
        try:
            train, validation, test = map(number, self.time_split.split(","))
        except ValueError:
            train = validation = test = -1.0
        if min(train, validation, test) <= 0 or abs(train + validation + test - 1) > 1e-6:
            raise UserError(
                f"time_split={shown(self.time_split)} is not understood: give three shares above 0 that add up to 1, "
                "such as 0.7,0.1,0.2"
            )
        return train, validation, test
