"""Of several processes that meet a mistake, the main one says it; another says one that it alone has met."""

import signal

import pytest

from kd import commands


@pytest.mark.parametrize(("rank", "waits"), [("0", []), ("1", [15])])
def test_a_mistake_is_said_by_the_main_process_or_after_it_had_the_time_to_end_all(monkeypatch, capsys, rank, waits):
    monkeypatch.setenv("RANK", rank)
    former, waited = signal.getsignal(signal.SIGTERM), []
    monkeypatch.setattr(commands.time, "sleep", waited.append)
    with pytest.raises(SystemExit) as ended:
        commands.start("teacher", ["--nonsense", "1"])
    signal.signal(signal.SIGTERM, former)
    assert (ended.value.code, waited) == (2, waits)
    assert "error: unknown option --nonsense" in capsys.readouterr().err
