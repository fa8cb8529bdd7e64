"""Small forecasters: what each is, and that all take and give the unit of the data."""

import pytest
import torch

from kd.models.forecast import FORECASTERS, ForecasterConfig, made, read
from kd.tasks.forecasting.task import Forecasting

PEER = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
every_kind = pytest.mark.parametrize("kind", Forecasting.named)


def model_of(kind, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = made(ForecasterConfig(kind=kind, **((PEER if kind == "patchtst" else {}) | settings)))
    model.scaled_by(150.0, [60.0, *[2.0] * (model.config.channels - 1)])
    return model.eval()


def windows(count=3, channels=1):
    return 80 + 100 * torch.rand(count, 12, channels, generator=torch.Generator().manual_seed(1))


@every_kind
@pytest.mark.parametrize("levels", [[], [0.1, 0.5, 0.9]])
def test_a_forecast_is_the_same_alone_and_in_a_batch_and_after_it_was_saved(kind, levels, tmp_path):
    model, given = model_of(kind, channels=2, quantiles=levels), windows(channels=2)
    said = model(given)
    assert said.forecast.shape == (3, 6)
    assert (said.quantiles is None) == (not levels)
    torch.testing.assert_close(model(given[1:2]).forecast[0], said.forecast[1], rtol=1e-5, atol=1e-3)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(read(tmp_path).eval()(given).forecast, said.forecast)


@every_kind
def test_the_unit_plays_no_part_because_the_scale_is_kept_with_the_weights(kind):
    model, given = model_of(kind), windows()
    said = model(given).forecast
    model.scaled_by(150.0 / 18, [60.0 / 18])
    torch.testing.assert_close(18 * model(given / 18).forecast, said, rtol=1e-4, atol=1e-2)


def test_all_forecasters_but_time_llm_are_made_by_name():
    assert {*Forecasting.named, "time-llm"} == {*FORECASTERS}


def test_persistence_repeats_the_last_value_and_has_nothing_to_learn():
    model, given = model_of("persistence"), windows()
    torch.testing.assert_close(model(given).forecast, given[:, -1:, 0].expand(-1, 6))
    assert not [name for name, weight in model.named_parameters() if weight.requires_grad]


def test_dlinear_splits_a_window_into_its_moving_average_and_the_rest():
    model = model_of("dlinear")
    assert model.kernel == 11
    with torch.no_grad():
        for part in (model.trend, model.rest):
            part.weight.zero_()
            part.bias.zero_()
            part.weight[:, -1] = 1.0  # both read the last step: together it is the window again
    given = windows()
    torch.testing.assert_close(model(given).forecast, given[:, -1:, 0].expand(-1, 6))
    with torch.no_grad():
        model.rest.weight.zero_()
    smooth = (given[:, -6:, 0].sum(dim=1) + 5 * given[:, -1, 0]) / 11  # the last value is repeated at the end
    torch.testing.assert_close(model(given).forecast[:, 0], smooth)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recurrent_models_have_about_a_hundred_thousand_weights_and_read_in_order(kind):
    model, given = model_of(kind), windows()
    assert model.num_parameters() == pytest.approx(100_000, rel=0.01)
    backwards = given.flip(1)
    gaps = [one(given).forecast - given[:, -1] for one in (model,)] + [model(backwards).forecast - backwards[:, -1]]
    assert (gaps[0] - gaps[1]).abs().max() > 1e-3
