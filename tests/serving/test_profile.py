import gc
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
import time
import types
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from kd.base.budgets import fits
from kd.base.memory import ram_mib
from kd.serving import profile as profiling
from kd.serving.profile import (
    ROUNDS,
    Profiler,
    TimeBudget,
    folder_size_mib,
    machine,
    profile_callable,
)
from kd.serving.work import gflops

SHORT = TimeBudget(warmup_s=0.02, latency_s=0.1, latency_limit_s=0.4, throughput_s=0.02, throughput_limit_s=0.5)
ALL_NAMES = {
    *("profile/latency_ms_p50", "profile/latency_ms_p95", "profile/latency_ms_p99", "profile/throughput_per_s"),
    *("profile/ram_peak_mib", "profile/ram_model_mib"),
    *("profile/gpu_peak_mib", "profile/gpu_utilisation_pct", "profile/gpu_energy_j"),
}
TINY = replace(SHORT, warmup_s=0.001, latency_s=0.001, throughput_s=0.001)
LONG = list(range(50))
linux = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")


def sleeper(fixed_s, each_s=0.0):
    return lambda batch: time.sleep(fixed_s + each_s * len(batch))


def figure(profile, name):
    return profile.metrics[f"profile/{name}"]


def test_latency_is_per_request_in_milliseconds():
    profile = profile_callable(sleeper(0.003), LONG, SHORT)
    assert 3.0 <= figure(profile, "latency_ms_p50") < 30
    assert all(3.0 <= median < 60 for median in profile.rounds_ms)


def test_percentiles_follow_the_mix_of_requests_so_rare_slow_ones_are_not_lost():
    slow = set(range(0, 50, 5))  # one in five
    profile = profile_callable(
        lambda batch: time.sleep(0.02 if batch[0] in slow else 0.001), LONG, replace(SHORT, latency_s=0.5)
    )
    assert figure(profile, "latency_ms_p50") < 15
    assert figure(profile, "latency_ms_p95") >= 20


def test_warm_up_calls_are_not_in_the_latency():
    calls = []

    def cold_start(batch):
        calls.append(batch)
        time.sleep(0.3 if len(calls) <= 3 else 0.001)

    assert max(profile_callable(cold_start, LONG, SHORT).rounds_ms) < 100


def test_p99_is_absent_under_100_requests_and_p95_always_rests_on_20():
    slow = profile_callable(sleeper(0.03), LONG, replace(SHORT, latency_limit_s=0.1))
    assert 20 <= slow.requests < 100
    assert "profile/latency_ms_p99" not in slow.metrics
    fast = profile_callable(sleeper(0.0), LONG, SHORT)
    assert fast.requests >= 100
    assert 0 < figure(fast, "latency_ms_p50") <= figure(fast, "latency_ms_p95") <= figure(fast, "latency_ms_p99")


def test_fifty_requests_are_timed_where_the_limit_allows():
    assert profile_callable(sleeper(0.004), LONG, replace(SHORT, latency_limit_s=5)).requests >= 50


def test_a_slow_model_does_not_run_past_the_promised_bounds(monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(profiling.time, "perf_counter_ns", lambda: round(clock.now * 1e9))

    def seconds(cost):
        def call(batch):
            clock.now += cost * len(batch)

        start = clock.now
        profile = profile_callable(call, LONG)
        assert figure(profile, "latency_ms_p50") == pytest.approx(cost * 1000)
        return clock.now - start

    assert seconds(0.005) <= 6.5
    assert seconds(0.05) <= 15
    assert seconds(0.5) <= 20.5


def test_every_model_meets_the_same_requests_in_the_same_order_whatever_its_speed():
    def served(pause):
        seen = []
        profile_callable(lambda batch: (seen.extend(batch), time.sleep(pause)), LONG, replace(SHORT, batch_sizes=()))
        return seen

    slow, fast = served(0.004), served(0.001)
    assert set(slow) == set(LONG)
    assert slow[:3] != LONG[:3]
    # the timed part restarts the order, so it ends where its own length says and not where the warm-up stopped
    order = slow[:3]
    assert any(fast[i : i + 3] == order for i in range(3, len(fast)))
    assert any(slow[i : i + 3] == order for i in range(3, 3 + 20))


def test_throughput_takes_the_best_batch_and_stops_when_it_falls():
    sizes = []

    def call(batch):
        sizes.append(len(batch))
        time.sleep(0.004 if len(batch) <= 8 else 0.004 * len(batch))

    profile = profile_callable(call, LONG, replace(SHORT, throughput_limit_s=30))
    assert profile.batch == 8
    assert figure(profile, "throughput_per_s") == pytest.approx(8 / 0.004, rel=0.5)
    assert set(sizes) == {1, 8, 32}


def profiled(call, times=1):
    with Profiler(lambda batch: time.sleep(call()), LONG, TINY) as profiler:
        for attempt in range(times):
            if attempt:
                profiler.begin()
            for _ in range(ROUNDS):
                quiet = profiler.round()
        return quiet, profiler.finish()


@pytest.fixture
def waited(monkeypatch):
    """For how long threads have waited for a processor: nothing, unless a test says otherwise."""
    found = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(profiling, "_waited_s", lambda: found.seconds)
    return found


def test_a_round_that_other_work_slowed_down_is_noticed(waited):
    paces = itertools.chain(itertools.repeat(0.001, 30), itertools.repeat(0.004))
    quiet, profile = profiled(lambda: next(paces))
    assert not quiet
    assert "medians of the rounds differ" in profile.disturbance


def test_a_load_that_slows_all_rounds_alike_is_noticed_although_they_agree(waited):
    def call():
        waited.seconds += 0.0005
        return 0.002

    quiet, profile = profiled(call)
    assert not quiet
    assert "waited for a processor" in profile.disturbance


def test_of_two_times_the_quiet_one_counts_and_its_percentiles_are_in_order(waited, monkeypatch):
    monkeypatch.setattr(profiling, "NOISY", 1000.0)  # whatever else this machine does
    calls = itertools.count()

    def call():
        first = next(calls) < 60
        waited.seconds += 0.01 if first else 0
        return 0.01 if first else 0.002

    quiet, profile = profiled(call, times=3)
    assert quiet
    assert profile.disturbance == ""
    assert 2 <= figure(profile, "latency_ms_p50") <= figure(profile, "latency_ms_p95")
    assert figure(profile, "latency_ms_p50") < 9


def test_no_requests_is_refused_instead_of_timed():
    with pytest.raises(ValueError, match="requests"):
        profile_callable(lambda batch: None, [], SHORT)


def test_a_failing_model_is_not_given_a_latency_and_gc_comes_back():
    def call(batch):
        if not gc.isenabled():
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        profile_callable(call, LONG, SHORT)
    assert gc.isenabled()
    profile_callable(lambda batch: None, LONG, TINY)
    assert gc.isenabled()


@linux
def test_ram_of_the_model_and_the_peak_while_loading_are_told_apart():
    code = """
import numpy as np, json
from kd.serving.profile import *
before = ram_mib()
copy = np.ones(300 * 2**17)  # 300 MiB that loading needs for a moment
del copy
model = np.ones(100 * 2**17)
call = lambda batch: np.ones(200 * 2**17) if len(batch) > 1 else model[0]
budget = TimeBudget(warmup_s=.01, latency_s=.05, throughput_s=.01)
p = profile_callable(call, [1, 2, 3], budget, before)
print(json.dumps([before, p.metrics["profile/ram_peak_mib"], p.metrics["profile/ram_model_mib"]]))
"""
    ballast = b"x" * (500 * 2**20)  # a big parent: ru_maxrss would hand its peak down
    env = os.environ | {"PYTHONPATH": os.getcwd()}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    del ballast
    before, peak, model = json.loads(out.stdout)
    assert before < 200
    assert 95 < model < 130
    assert before + 295 < peak < before + 340


@linux
def test_ram_before_loading_unknown_gives_no_figure_instead_of_zero():
    profile = profile_callable(lambda batch: None, LONG, TINY)
    assert "profile/ram_model_mib" not in profile.metrics
    assert figure(profile, "ram_peak_mib") >= ram_mib() - 50


def test_without_a_gpu_its_figures_are_absent(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    profile = profile_callable(lambda batch: None, LONG, TINY)
    assert not [name for name in profile.metrics if "gpu" in name]


def fake_nvml(broken=()):
    """NVML with two devices, 2.5 J between two readings of the energy; the functions in `broken` raise."""

    class NVMLError(Exception):
        pass

    def fail(*_):
        raise NVMLError("Not Supported")

    energy = itertools.count(1_000_000, 2500)
    fakes = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda i: i,
        "nvmlDeviceGetName": lambda handle: "NVIDIA Test",
        "nvmlSystemGetDriverVersion": lambda: "555.1",
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetUtilizationRates": lambda handle: types.SimpleNamespace(gpu={"GPU-uuid-1": 40}[handle]),
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: next(energy),
    }
    return types.SimpleNamespace(NVMLError=NVMLError, **(fakes | dict.fromkeys(broken, fail)))


@pytest.fixture
def cuda(monkeypatch):
    """A torch whose process uses the second CUDA device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: types.SimpleNamespace(uuid=f"uuid-{i}"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 512 * 2**20)


def test_gpu_figures_come_from_the_device_torch_uses(monkeypatch, cuda):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    profile = profile_callable(lambda batch: None, LONG, TINY)
    assert figure(profile, "gpu_peak_mib") == 512
    assert figure(profile, "gpu_utilisation_pct") == 40
    assert figure(profile, "gpu_energy_j") == pytest.approx(5 * 2.5 / profile.requests)


@linux
def test_metrics_carry_exactly_the_agreed_names(monkeypatch, cuda):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    assert set(profile_callable(lambda batch: None, LONG, SHORT, ram_mib()).metrics) == ALL_NAMES


def test_cuda_is_synchronised_around_each_call_else_only_the_launch_is_timed(monkeypatch, cuda):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: time.sleep(0.002))
    assert figure(profile_callable(lambda batch: None, LONG, TINY), "latency_ms_p50") >= 2


@pytest.mark.parametrize(
    ("broken", "absent"),
    [
        ("nvmlInit", {"gpu_utilisation_pct", "gpu_energy_j"}),
        ("nvmlDeviceGetHandleByUUID", {"gpu_utilisation_pct", "gpu_energy_j"}),
        ("nvmlDeviceGetUtilizationRates", {"gpu_utilisation_pct"}),
        ("nvmlDeviceGetTotalEnergyConsumption", {"gpu_energy_j"}),
    ],
)
def test_what_nvml_cannot_give_is_absent_and_the_rest_stays(monkeypatch, cuda, broken, absent):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(broken=(broken,)))
    profile = profile_callable(lambda batch: None, LONG, TINY)
    names = {"gpu_peak_mib", "gpu_utilisation_pct", "gpu_energy_j"}
    assert {name for name in names if f"profile/{name}" not in profile.metrics} == absent


def test_nvml_not_installed_leaves_figures_out_and_does_not_crash(monkeypatch, cuda):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    profile = profile_callable(lambda batch: None, LONG, TINY)
    assert "profile/gpu_energy_j" not in profile.metrics
    assert figure(profile, "gpu_peak_mib") == 512
    assert "hw.gpu" not in machine()


def test_machine_names_hardware_and_versions_but_no_person_host_or_path(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    tags = machine()
    assert tags["hw.gpu"] == "NVIDIA Test; NVIDIA Test"
    assert tags["hw.driver"] == "555.1"
    assert tags["hw.threads"] == str(torch.get_num_threads())
    assert tags["lib.torch"] == importlib.metadata.version("torch")
    assert int(tags["hw.cores"]) >= 1
    assert float(tags["hw.ram_gib"]) > 0
    assert {"hw.cpu", "os.platform", "lib.python"} <= tags.keys()
    assert all(tags.values())
    words = " ".join(tags.values())
    assert os.path.expanduser("~") not in words
    assert platform.node() not in words


def test_machine_omits_a_gpu_and_a_library_that_are_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(broken=("nvmlInit",)))
    monkeypatch.setattr(profiling, "LIBRARIES", ("no-such-library",))
    tags = machine()
    assert not {"hw.gpu", "hw.driver", "lib.no-such-library"} & tags.keys()


def test_limits_are_judged_only_where_asked_and_against_p95_and_peak():
    figures = {"latency_ms_p50": 1.0, "latency_ms_p95": 120.0, "ram_model_mib": 1.0, "ram_peak_mib": 900.0}
    metrics = {**{f"profile/{name}": value for name, value in figures.items()}, "model/size_mib": 80.0}
    assert fits(metrics, {}) == {}
    assert fits(metrics, {"latency_budget_ms": 100, "ram_budget_mib": 900, "size_budget_mib": 79.9}) == {
        "latency_ms": False,
        "ram_mib": True,
        "size_mib": False,
    }


def test_an_unmeasured_figure_does_not_pass_a_limit():
    assert fits({"profile/latency_ms_p95": 1.0}, {"ram_budget_mib": 1e9}) == {"ram_mib": False}


def test_folder_size_counts_nested_files_and_refuses_a_missing_folder(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "x.bin").write_bytes(b"x" * 2**20)
    (tmp_path / "a" / "b" / "y.bin").write_bytes(b"x" * 2**19)
    assert folder_size_mib(tmp_path) == 1.5
    with pytest.raises(NotADirectoryError):
        folder_size_mib(tmp_path / "absent")


def test_gflops_of_a_linear_layer_count_a_multiply_add_as_two():
    layer, x = nn.Linear(16, 32), torch.randn(4, 16)
    assert gflops(lambda: layer(x)) == pytest.approx(2 * 4 * 16 * 32 / 1e9, rel=1e-12)


def block_flops(batch, length, width, feed):
    return 2 * batch * length * (4 * width * width + 2 * width * feed) + 4 * batch * length * length * width


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("masked", [False, True])
def test_gflops_do_not_lose_fused_attention(mode, attention, masked):
    shape = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64}
    config = BertConfig(**shape, vocab_size=50, attn_implementation=attention)
    model = BertModel(config, add_pooling_layer=False).eval()
    ids, mask = torch.randint(0, 50, (2, 10)), torch.tensor([[1] * 10, [1] * 6 + [0] * 4])
    with mode():
        got = gflops(lambda: model(ids, attention_mask=mask if masked else None))
    assert got == pytest.approx(2 * block_flops(2, 10, 32, 64) / 1e9, rel=1e-12)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_gflops_do_not_lose_the_encoder_fast_path_and_leave_it_as_it_was(mode):
    layer, x = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval(), torch.randn(2, 10, 32)
    before = torch.backends.mha.get_fastpath_enabled()
    with mode():
        assert gflops(lambda: layer(x)) == pytest.approx(block_flops(2, 10, 32, 64) / 1e9, rel=1e-12)
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_gflops_are_absent_where_torch_cannot_count_instead_of_too_low():
    linear, lstm, x = nn.Linear(8, 8), nn.LSTM(8, 8), torch.randn(5, 2, 8)
    assert gflops(lambda: x + 1) is None
    assert gflops(lambda: sum(range(5))) is None
    for mode in (torch.enable_grad, torch.no_grad):
        with mode():
            assert gflops(lambda: linear(lstm(x)[0])) is None
    assert gflops(lambda: torch.mv(torch.randn(8, 8), torch.randn(8)) @ linear.weight) is None


def test_gflops_count_convolutions_and_plain_attention_products():
    conv, x, q = nn.Conv1d(4, 8, 3), torch.randn(2, 4, 10), torch.randn(1, 2, 6, 4)
    assert gflops(lambda: conv(x)) == pytest.approx(2 * 2 * 8 * 4 * 3 * 8 / 1e9)
    assert gflops(lambda: F.scaled_dot_product_attention(q, q, q)) == pytest.approx(2 * 2 * 2 * 6 * 6 * 4 / 1e9)
