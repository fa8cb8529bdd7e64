"""The first run, made of commands that anyone can type: few labels and much text, compared, promoted, and asked."""

from typing import Any

from kd import tracking
from kd.base.console import command, say
from kd.commands import main, promote, read
from kd.config import DemoConfig
from kd.run.data import model_name, rows_of

COMPARED = (
    "--dataset builtin:apidocs --labelled 300 --transfer rest --alpha 1 --temperature 1 "
    "--epoch_rows 1000 --epochs 4 --learning_rate 3e-4 --max_length 32"
)
"""300 of 2,100 training rows have their labels; `epoch_rows` gives student and control as many steps."""
GATES = "--min_metric 0.4 --min_teacher_share 0.85 --allowed_drop 0.01"
SENTENCE = "Draw the outline of each bar, with a legend beside the axes."


def run(config: DemoConfig) -> None:
    """Run the commands one after the other, each shown before it runs.

    Raises:
        Refused: a gate did not pass.
    """
    with tracking.session(config.experiment) as experiment:
        comparing = _typed("main", COMPARED, experiment)
        main.run(comparing)
        name = model_name(comparing, rows_of(comparing).test_digest)
        promote.run(_typed("promote", f"--model {name} {GATES}", experiment))
        uri = f"models:/{name}@champion"
        say("")
        say(f"Ask it: mlflow.pyfunc.load_model({uri!r}).predict([{SENTENCE!r}])")
        (answer,) = tracking.load_served(uri).predict([SENTENCE])
        say(f"{answer['label']}, with a probability of {answer['score']:.2f}")
    say("")
    rows = ("--dataset", "rows.csv", "--text_column", "NAME", "--label_column", "NAME")
    say(f"The same for rows of your own: {command('main', *rows)}")


def _typed(name: str, words: str, experiment: str) -> Any:
    """Return the options of a command line, and show it."""
    line = [*words.split(), "--experiment", experiment]
    say("")
    say(f"$ {command(name, *line)}")
    return read(name, line)
