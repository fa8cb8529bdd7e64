"""How long the rest takes is told by trainings that took time, and nothing is told where none did."""

from kd.run import pace
from kd.run.pace import Pace


def test_the_time_left_is_of_this_training_and_those_to_come(monkeypatch, capsys):
    clock = iter([0.0, 100.0, 130.0, 200.0])
    monkeypatch.setattr(pace.time, "perf_counter", lambda: next(clock))
    one = Pace(5)
    one.begin("teacher")
    one.end()  # takes another time than a student
    one.end(one.begin("first"))
    one.begin("second")
    assert capsys.readouterr().out.splitlines() == [
        "Training 1 of 5: teacher",
        "Training 2 of 5: first",
        "Training 3 of 5, about 2 min left: second",
    ]


def test_trainings_that_were_done_before_count_and_say_nothing_of_the_time(capsys):
    one = Pace(2)
    one.end()
    one.begin("second")
    assert capsys.readouterr().out == "Training 2 of 2: second\n"
