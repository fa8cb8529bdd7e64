"""A file of devices means what it says or is refused in a line: a slip would let a model pass that does not fit."""

from pathlib import Path

import pytest

from kd.base.budgets import Device
from kd.base.types import UserError
from kd.config import MainConfig, MeasureConfig, PromoteConfig
from kd.config.devices import read_devices
from kd.registry.candidates import thresholds

PHONE = "phone: {ram_mib: 512, storage_mib: 100}\n"


@pytest.fixture
def file(tmp_path):
    def file(text, name="d.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return file


def refused(made):
    with pytest.raises(UserError) as caught:
        made()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_devices_have_the_numbers_of_the_file(file):
    text = PHONE + "my watch-2.0: {storage_mib: 16.5, ram_mib: 64}\n'7': {ram_mib: 1, storage_mib: 1e-3}\n"
    wanted = {"phone": Device(512, 100), "my watch-2.0": Device(64, 16.5), "7": Device(1, 0.001)}
    assert read_devices(file(text)) == MainConfig(devices=file(text)).named_devices == wanted
    assert MainConfig().named_devices == {}


def test_the_examples_that_come_with_the_project_can_be_read_and_say_that_they_are_examples():
    path = Path(__file__).parents[2] / "devices.yaml"
    assert {"watch", "phone"} <= read_devices(str(path)).keys()
    assert "Examples" in path.read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no device: give a file with lines such as phone: {ram_mib: 512"),
        ("- phone\n", "has no device"),
        ("phone\n", "has no device"),
        ("phone:\n", "phone is None: give it as"),
        ("phone: 512\n", "phone is 512: give it as"),
        ("phone: {ram_mib: 512}\n", "phone: storage_mib is missing: give a number"),
        ("phone: {ram: 512, storage_mib: 100}\n", "phone: unknown key 'ram'; did you mean ram_mib?"),
        ("phone: {ram_mib: 512, storage_mib: 100, latency_ms: 5}\n", "unknown key 'latency_ms'"),
        ("phone: {ram_mib: '512', storage_mib: 100}\n", "phone: ram_mib is '512': give a number"),
        ("phone: {ram_mib: 0, storage_mib: 100}\n", "ram_mib is 0: give a number of MiB > 0"),
        ("phone: {ram_mib: -1, storage_mib: 100}\n", "ram_mib is -1"),
        ("phone: {ram_mib: true, storage_mib: 100}\n", "ram_mib is True"),
        ("phone: {ram_mib: .inf, storage_mib: 100}\n", "'.inf' is no plain decimal number"),
        ("phone: {ram_mib: 1_000, storage_mib: 100}\n", "'1_000' is no plain decimal number"),
        (PHONE + PHONE, "'phone' is given a second time"),
        ("7: {ram_mib: 1, storage_mib: 1}\n", "7 is no device's name"),
        ("'a,b': {ram_mib: 1, storage_mib: 1}\n", "'a,b' is no device's name"),
        ("'a=`b`': {ram_mib: 1, storage_mib: 1}\n", "is no device's name"),
        ("'': {ram_mib: 1, storage_mib: 1}\n", "'' is no device's name"),
        (f"{'a' * 41}: {{ram_mib: 1, storage_mib: 1}}\n", "is no device's name"),
        ("a: [\n", "is no YAML"),
    ],
)  # fmt: skip
def test_what_could_be_taken_otherwise_is_refused_with_the_file_and_the_device(file, text, told):
    path = file(text)
    line = refused(lambda: MeasureConfig(model="models:/m/1", devices=path))
    assert line.startswith(f"devices={path!r}")
    assert told in line


def test_a_file_that_is_not_there_is_refused_before_anything_is_trained():
    assert refused(lambda: MainConfig(devices="none.yaml")).startswith("devices='none.yaml' is no file")


def test_a_required_device_must_be_one_of_the_file(file):
    assert PromoteConfig(model="m", fits="phone", devices=file(PHONE)).required_devices == {"phone": Device(512, 100)}
    assert "fits='phone' needs devices: give" in refused(lambda: PromoteConfig(model="m", fits="phone"))
    line = refused(lambda: PromoteConfig(model="m", fits="phones", devices=file(PHONE)))
    assert "has no 'phones'; did you mean phone?" in line


def test_file_of_gates_and_options_may_each_name_the_device_or_its_file(file):
    devices = file(PHONE)
    whole = file(f"fits: phone\ndevices: {devices}\n", "g.yaml")
    assert thresholds(PromoteConfig(model="m", gates=whole)).required_devices == {"phone": Device(512, 100)}
    half = file("fits: phone\n", "h.yaml")
    assert thresholds(PromoteConfig(model="m", gates=half, devices=devices)).required_devices.keys() == {"phone"}
    line = refused(lambda: thresholds(PromoteConfig(model="m", gates=half)))
    assert line.startswith(f"gates={half!r}: fits='phone' needs devices")
    line = refused(lambda: thresholds(PromoteConfig(model="m", gates=file("fits: 7\n", "i.yaml"))))
    assert "fits=7 is no device's name" in line
