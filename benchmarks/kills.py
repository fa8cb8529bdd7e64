"""What is left of a command that was killed, once the same command was given again: a table of windows and tries.

    python -m benchmarks.kills --out benchmarks/results/kills.json [--only student,promote] [--minutes 60]

Each try runs a command in a fork of this process and kills it and all its processes with SIGKILL, at a named place or
after a random time. Up to four kills come one after the other, from a copy of the same state, before the command may
end. They held if it ends with code 0 and all is as after the undisturbed command: the bytes of all weights, versions
and aliases, how many runs of each kind are FINISHED, none RUNNING and none twice, no model PENDING, and what lies in
KD_HOME and TMPDIR. Where they did not, each is tried alone. Times are drawn by a seed, and tries are written down as
they are made, so that the same command continues with those that are missing. What takes a fresh process, measuring and
asking a model before its promotion, is done in a fork or left out.
"""

import argparse
import hashlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kd.analysis.gates import TOLERANCE, Gate
from kd.commands import QUIET
from kd.serving.profile import ROUNDS
from kd.serving.seat import Measured, Seat
from tests import tiny
from tests.integration import killing, preloaded
from tests.integration.conftest import write_rows

LONGEST_S = 300
SEED = 14
STUDENTS = "kd-classification-rows"
VARYING = r"(?<=signals/)(.*)-[0-9a-f]+(?=\.\w+$)|(?<=checkpoints/)()[0-9a-f]+(?=\.lock$)"
"""Not compared: checksums, as safetensors writes its notes in an order that differs by process; and which of two
workers' trials has which number, which is part of its key."""
END = "mlflow:end_run"
MODEL = "mlflow.tracking.client:MlflowClient.log_model_artifacts"
VERSION = "mlflow.tracking.client:MlflowClient.create_model_version"
ALIAS = "kd.tracking.registry:set_alias"
NOTE = "kd.tracking.registry:annotate"
TRAINING = (
    "before kd.run.checkpoints:note 1",
    "before kd.run.execute:_log_inputs 1",
    "after kd.training.loop:_Trainer._save_checkpoint 1",
    "before kd.run.execute:score_test 1",
    f"before {MODEL} 1",
    "after kd.run.execute:log_model 1",
    f"before {END} 1",
    f"after {END} 1",
    "before kd.run.execute:_log_baseline 2",
    "before kd.run.register:register 1",
    f"after {VERSION} 1",
)
DATA = ("--dataset", "rows", "--max_length", "32", "--batch_size", "8")
RECIPE = (*DATA, "--learning_rate", "0.01", "--epochs", "3", "--patience", "0", "--checkpoint_every_s", "0")
TEACHER = ("teacher", "--teacher", "weights", *RECIPE)
GUIDE = ("--teacher", "models:/{teacher}/1")
STUDENT = ("student", "--teacher", "weights", *RECIPE)
SEARCH = "--space space.yaml --epochs 2 --n_trials 2 --top_k 1 --final_seeds 1,2,3 --workers 2 --study_name killed"
SPACE = "learning_rate: {type: categorical, choices: [0.003, 0.01]}\n"
DESIGN = "title: killed\naxes:\n  objective: [none, soft]\n  seed: [0, 1]\n"
MOVE = ("promote", "--model", "{students}", "--min_metric", "0")


@dataclass(frozen=True)
class Scenario:
    """A command, the commands before it, where it is killed, how often after a random time, and how often in a row."""

    name: str
    command: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    windows: tuple[str, ...] = ()
    random: int = 0
    chain: int = 4


SCENARIOS = (
    Scenario(
        "store that is not there",
        STUDENT,
        (),
        (
            "before alembic.runtime.migration:HeadMaintainer.update_to_step 1",
            "before alembic.runtime.migration:HeadMaintainer.update_to_step 30",
            "before kd.tracking.database:_named 1",
            "after kd.tracking.database:_named 1",
            "after kd.tracking.database:prepare 1",
            "before kd.tracking.store:close_lost 1",
        ),
    ),
    Scenario("teacher", TEACHER, (("compare",),), TRAINING[:2] + TRAINING[7:10], 7),
    Scenario("student", STUDENT, (("compare",),), TRAINING, 10),
    Scenario(
        "distill, with its cache",
        ("distill", *GUIDE, *RECIPE, "--objective", "hidden"),
        (TEACHER,),
        (
            "before kd.base.files:write 1",
            "before kd.base.files:write 2",
            "after kd.teacher.cache.shard:write 1",
            "before kd.teacher.cache.shard:write 2",
            TRAINING[4],
            TRAINING[9],
        ),
        10,
    ),
    Scenario(
        "main",
        ("main", "--teacher", "weights", *RECIPE, "--seeds", "0"),
        (("compare",),),
        (
            "after kd.run.register:register 1",
            "before kd.run.checkpoints:note 2",
            "before kd.commands.main:publish 1",
            "before kd.run.register:register_best 1",
            f"before {ALIAS} 1",
            f"after {ALIAS} 1",
        ),
        8,
    ),
    Scenario(
        "promote",
        (*MOVE, "--candidate", "2"),
        (STUDENT, (*MOVE, "--candidate", "1"), (*STUDENT, "--seed", "1")),
        (
            f"before {ALIAS} 1",
            f"after {ALIAS} 1",
            f"before {ALIAS} 2",
            f"after {ALIAS} 2",
            f"after {NOTE} 1",
            f"after {NOTE} 2",
            f"before {END} 1",
        ),
        4,
        1,
    ),
    Scenario(
        "rollback",
        (*MOVE[:3], "--rollback", "true"),
        (STUDENT, (*MOVE, "--candidate", "1"), (*STUDENT, "--seed", "1"), (*MOVE, "--candidate", "2")),
        (
            f"before {ALIAS} 1",
            f"after {ALIAS} 1",
            f"before {ALIAS} 2",
            f"after {ALIAS} 2",
            f"before {NOTE} 1",
            f"after {NOTE} 1",
            f"before {END} 1",
        ),
        3,
        1,
    ),
    Scenario(
        "copy (to_model)",
        (*MOVE, "--candidate", "1", "--to_model", "shipped"),
        (STUDENT,),
        (
            "before kd.tracking.registry:copy_version 1",
            "after kd.tracking.registry:copy_version 1",
            f"before {ALIAS} 1",
            f"after {ALIAS} 1",
            f"before {END} 1",
        ),
        3,
        1,
    ),
    Scenario(
        "export",
        ("export", "--model", "models:/{students}/1", "--format", "onnx", "--output", "exported"),
        (STUDENT,),
        (f"before {MODEL} 1", "after kd.commands.export:_copy 1", f"after {VERSION} 1", f"before {END} 2"),
        4,
    ),
    Scenario(
        "hpo, 2 workers",
        ("hpo", *GUIDE, *DATA, *SEARCH.split()),
        (TEACHER,),
        (
            "before kd.run.checkpoints:note 1 group",
            "after kd.search.lease:RunningTrial.complete 1 group",
            "before kd.search.leading:conclude 1 group",
            f"before {MODEL} 1 group",
            "before kd.run.register:register 1 group",
            f"before {ALIAS} 1 group",
        ),
        2,
    ),
    Scenario(
        "study, 2 workers",
        ("study", *GUIDE, *RECIPE, "--design", "design.yaml", "--workers", "2"),
        (TEACHER,),
        (
            "before kd.run.checkpoints:note 1 group",
            f"before {MODEL} 1 group",
            f"after {END} 1 group",
            "before kd.sweep.study:conclude 1 group",
            "before kd.report.publish:publish 1 group",
        ),
        3,
    ),
)


@dataclass(frozen=True)
class Place:
    """Where the commands run: the state is all of `work`, the data and weights lie beside it."""

    root: Path

    @property
    def work(self) -> Path:
        """Folder with the store, KD_HOME and TMPDIR; it is put back before each try."""
        return self.root / "work"

    @property
    def env(self) -> dict[str, str]:
        """What the commands are given, beside their options."""
        uri = f"sqlite:///{self.work}/mlflow.db"
        return {"MLFLOW_TRACKING_URI": uri, "KD_HOME": str(self.work / "home"), "TMPDIR": str(self.work / "tmp")}

    def prepare(self) -> None:
        """Write data, weights, space and design."""
        shutil.rmtree(self.root, ignore_errors=True)
        tiny.saved_bert(self.root / "weights")
        for seed, (split, count) in enumerate((("train", 48), ("validation", 24), ("test", 24))):
            write_rows(self.root / "rows" / f"{split}.csv", count, seed)
        (self.root / "space.yaml").write_text(SPACE)
        (self.root / "design.yaml").write_text(DESIGN)

    def fresh(self, state: Path | None = None) -> None:
        """Put a state in place, or an empty one."""
        shutil.rmtree(self.work, ignore_errors=True)
        if state is not None:
            shutil.copytree(state, self.work, symlinks=True)
        for name in ("home", "tmp"):
            (self.work / name).mkdir(parents=True, exist_ok=True)

    def begin(self, words: tuple[str, ...], kill: str = "apart") -> int:
        """Begin a command in a fork, in a process group of its own; returns its number."""
        names = self._models()
        given = [word.format(**names) if "{" in word else word for word in words]
        files = ("rows", "weights", "space.yaml", "design.yaml")
        given = [str(self.root / word) if word in files else word for word in given]
        if (number := os.fork()) == 0:
            os.chdir(self.work)
            code = preloaded.child(given[0], given[1:], self.env | {"KD_KILL": kill}, str(self.root))
            if kill == "apart":
                (self.root / "modules").write_text("\n".join(sys.modules))
            sys.stdout.flush()
            os._exit(code)
        return number

    def run(self, words: tuple[str, ...], kill: str = "apart") -> int:
        """Run a command to its end."""
        return self.ended(self.begin(words, kill))

    def ended(self, number: int) -> int:
        """Wait for a command, and return its exit code; one that hangs is killed."""
        limit = time.monotonic() + LONGEST_S
        while True:
            found, status = os.waitpid(number, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > limit:
                os.killpg(number, signal.SIGKILL)
                os.waitpid(number, 0)
                return 1000
            time.sleep(0.02)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Read from the store."""
        if not (self.work / "mlflow.db").exists():
            return []
        with closing(sqlite3.connect(self.work / "mlflow.db")) as store:
            return store.execute(query).fetchall()

    def _models(self) -> dict[str, str]:
        names = [name for (name,) in self.ask("SELECT name FROM registered_models")]
        teacher = next((name for name in names if name.endswith("-teacher")), "")
        return {"teacher": teacher, "students": next((name for name in names if name != teacher), "")}


def facts(place: Place) -> dict[str, Any]:
    """Return what must be the same after a kill and the command again as after the command alone."""
    tag = "(SELECT value FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key = '{}')"
    stage, key = tag.format("kd.stage"), tag.format("kd.cache_key")
    finished = place.ask(f"SELECT {stage}, {key}, run_uuid FROM runs r WHERE status = 'FINISHED'")  # noqa: S608
    models = place.ask(
        "SELECT status, source_run_id, artifact_location FROM logged_models WHERE lifecycle_stage = 'active'"
    )
    ends = {run for _, _, run in finished}
    keys = Counter(key for stage, key, _ in finished if key and stage != "baseline")
    kinds = Counter(str(stage) for stage, _, _ in finished if stage != "measure")  # within a run that was killed, say
    kept = [str(path.relative_to(place.work)) for path in (place.work / "home").rglob("*")]
    return {
        "weights": sorted(_digest(folder) for status, run, folder in models if status == 2 and run in ends),
        "versions": sorted(
            f"{name} {number}" for name, number in place.ask("SELECT name, version FROM model_versions")
        ),
        "aliases": sorted(map(str, place.ask("SELECT name, alias, version FROM registered_model_aliases"))),
        "finished": dict(sorted(kinds.items())),
        "running": place.ask("SELECT count(*) FROM runs WHERE status = 'RUNNING'"),
        "twice": [key for key, count in keys.items() if count > 1],
        "pending": sum(status == 1 for status, _, _ in models),
        "temporary": sorted(path.name for path in (place.work / "tmp").iterdir()),
        "home": sorted(re.sub(VARYING, r"\1\2", name) for name in kept),
        "output": sorted(path.name for path in (place.work / "exported").glob("*")),
    }


def _digest(folder: str) -> str:
    found = Path(unquote(urlsplit(folder).path))
    files = sorted([*found.rglob("*.safetensors"), *found.rglob("*.onnx")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def forked(uris: Sequence[str]) -> Iterator[Measured]:
    """Measure in forks instead of fresh processes, which take 8 s to import what is imported here already."""
    for uri in uris:
        answers, answer = os.pipe()
        if (number := os.fork()) == 0:
            with suppress(BaseException), os.fdopen(answer, "w") as given:
                seat = Seat(uri)
                with seat.profiler as profiler:
                    for _ in range(ROUNDS):
                        profiler.round()
                    given.write(json.dumps(vars(seat.finish())))
            os._exit(0)
        os.close(answer)
        with os.fdopen(answers) as found:
            text = found.read()
        os.waitpid(number, 0)
        yield Measured(**json.loads(text))


def import_all(place: Place) -> None:
    """Import here what the last command has imported, so that the next ones need not."""
    for name in (place.root / "modules").read_text().splitlines():
        if name not in sys.modules and not name.startswith("__"):
            with suppress(Exception):
                importlib.import_module(name)


def unasked(candidate: Any) -> Gate:
    """Let a candidate pass without loading it in a fresh process."""
    return Gate("answers", 0.0, TOLERANCE, False, True, f"{candidate.uri} was not asked")


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Say in one line what is otherwise than it should be."""
    return "; ".join(
        f"{name}: {found[name]} instead of {wanted[name]}" for name in wanted if found[name] != wanted[name]
    )


def attempt(place: Place, scenario: Scenario, kills: dict[str, float | None], wanted: dict[str, Any]) -> dict[str, str]:
    """Kill at each window (None) or after so many seconds, then give the command again; returns what is wrong by try.

    A try before which the command had ended is left out.
    """
    made: dict[str, str] = {}
    for name, seconds in kills.items():
        number = place.begin(scenario.command, name if seconds is None else "apart")
        if seconds is not None:
            time.sleep(seconds)
            with suppress(ProcessLookupError):
                os.killpg(number, signal.SIGKILL)
        code = place.ended(number)
        if code != -signal.SIGKILL:
            break
        made[name] = ""
    else:
        code = place.run(scenario.command)
    wrong = f"the command ended with {code}: {_last(place)}" if code else differences(facts(place), wanted)
    return dict.fromkeys(made, wrong)


def _last(place: Place) -> str:
    return ((place.root / "stderr").read_text().strip().splitlines() or [""])[-1][:300]


def tries_of(scenario: Scenario) -> list[str]:
    """Return the names of the tries: windows, and numbers of random ones."""
    return [*scenario.windows, *(f"random {number}" for number in range(scenario.random))]


def carry_out(place: Place, scenario: Scenario, done: dict[str, str], note: Callable[[str, str], None]) -> None:
    """Make the tries of a scenario that are missing."""
    missing = [name for name in tries_of(scenario) if f"{scenario.name} | {name}" not in done]
    if not missing:
        return
    place.fresh()
    for words in scenario.before:
        if words == ("compare",):  # a store with its tables, and nothing else
            place.run(("compare", "--experiments", "none"))
        elif code := place.run(words):
            raise SystemExit(f"{scenario.name}: {words[0]} ended with {code}: {_last(place)}")
    state = place.root / "state"
    shutil.rmtree(state, ignore_errors=True)
    shutil.copytree(place.work, state, symlinks=True)
    start = time.monotonic()
    if code := place.run(scenario.command):
        raise SystemExit(f"{scenario.name}: undisturbed it ended with {code}: {_last(place)}")
    took, wanted = time.monotonic() - start, facts(place)
    import_all(place)
    print(f"{scenario.name}: {took:.0f} s undisturbed, {wanted['finished']}", flush=True)
    draw = random.Random(f"{SEED} {scenario.name}")  # noqa: S311
    times = {f"random {number}": draw.uniform(0.02, 0.98) for number in range(scenario.random)}
    kills = {name: took * times[name] if name in times else None for name in missing}
    for start_at in range(0, len(missing), scenario.chain):
        chain = missing[start_at : start_at + scenario.chain]
        place.fresh(state)
        made = attempt(place, scenario, {name: kills[name] for name in chain}, wanted)
        for name in chain:
            again = kills[name]
            while name not in made or (made[name] and len(chain) > 1):  # not reached, or one of several is to blame
                place.fresh(state)
                alone = attempt(place, scenario, {name: again}, wanted)
                made |= alone
                if alone or again is None:
                    break
                again *= 0.8
            note(f"{scenario.name} | {name}", made.get(name, "the command had ended before"))


def table(done: dict[str, str]) -> str:
    """Return the tries by command and window, as Markdown."""
    lines = ["| command | killed | tried | held |", "| --- | --- | ---: | ---: |"]
    kinds: dict[tuple[str, str], list[bool]] = {}
    for name, wrong in done.items():
        command, _, window = name.partition(" | ")
        kind = "after a random time" if window.startswith("random") else window.removesuffix(" group")
        kinds.setdefault((command, kind), []).append(not wrong)
    lines += [f"| {command} | {kind} | {len(held)} | {sum(held)} |" for (command, kind), held in kinds.items()]
    held = [one for each in kinds.values() for one in each]
    return "\n".join([*lines, f"| all | | {len(held)} | {sum(held)} |"])


def main() -> None:
    """Read the options, make the tries that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the tries, which is continued")
    parser.add_argument("--place", type=Path, required=True, help="folder for all that the commands make")
    parser.add_argument("--only", default="", help="scenarios by the beginning of their names, with commas")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no try is begun later than that")
    options = parser.parse_args()
    done: dict[str, str] = json.loads(options.out.read_text()) if options.out.exists() else {}
    until = time.monotonic() + 60 * options.minutes

    def note(name: str, wrong: str) -> None:
        done[name] = wrong
        options.out.write_text(json.dumps(done, indent=1))
        print(f"{'held' if not wrong else 'FAILED'}: {name} {wrong}", flush=True)
        if time.monotonic() > until:
            raise SystemExit(table(done))

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for module in ("main", "measure", "promote", "export", "hpo", "study", "cascade"):
        importlib.import_module(f"kd.commands.{module}")
    sys.modules["kd.serving.sitting"].in_turn = forked
    sys.modules["kd.registry.candidates"].answers_as_made = unasked
    place = Place(options.place.resolve())
    place.prepare()
    chosen = [one for one in SCENARIOS if one.name.startswith(tuple(options.only.split(",")))]
    for scenario in chosen:
        carry_out(place, scenario, done, note)
    print(table(done))


if __name__ == "__mp_main__":
    killing.arm(spawned=True)
if __name__ == "__main__":
    main()
