"""The plan of a student that is trained on the labels alone: the control of every distilled student."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from rich.table import Column
from transformers import PreTrainedModel, set_seed

from kd import tracking
from kd.base.console import command, say, say_once
from kd.base.hashing import fingerprint
from kd.base.task import Processor
from kd.base.terminal import Table
from kd.base.types import UserError
from kd.config import RowOptions, StudentConfig, as_words, narrowed
from kd.config.layers import DEFAULT_LAYERS, parse_layers
from kd.models.importance import Importance, measure, remembered
from kd.models.layers import LayerMap, Moved, layer_map
from kd.models.students import build_student, configured_student, require_same
from kd.run.code import code_digest
from kd.run.data import Rows, model_name
from kd.run.encode import encoder, sample
from kd.run.identity import library_versions, shared_identity
from kd.run.locate import Loaded, Located, load
from kd.run.plan import Plan
from kd.run.signals import TeacherSignals
from kd.run.trial import outputs, require_works, trial_batch

ITSELF = "teacher"
"""Name of a student that starts as the whole teacher."""
RANKED_ON = 1024
"""Most validation features on which the teacher's layers are ranked."""
RANKING_CODE = ("data", "models")


@dataclass(frozen=True)
class Start:
    """A student as initialised: model, processor, and its origin in words and as an identity."""

    model: PreTrainedModel
    processor: Processor
    words: str
    identity: Mapping[str, Any]


def plan(config: StudentConfig, rows: Rows) -> Plan:
    """Plan the training of a control.

    Raises:
        UserError: teacher or student do not exist, know other labels, or have too few layers.
    """
    teacher = find_teacher(config, rows)
    require_works(teacher.model, teacher.processor, rows, "teacher")
    if config.attribution_examples and not hasattr(rows.task, "evidence"):
        raise UserError(
            f"attribution_examples={config.attribution_examples}: task={config.task!r} has no decisions that could be "
            "attributed to tokens: leave it out"
        )
    start = initialise(config, rows, teacher)
    require_works(start.model, start.processor, rows, "student")
    return Plan(
        stage="student",
        role="student",
        method="student",
        start=start.words,
        seed=config.seed,
        model=start.model,
        processor=start.processor,
        rows=rows,
        features=encoder(config, rows, start.processor),
        identity={**shared_identity(config, rows), **start.identity},
        teacher=teacher,
        signals=TeacherSignals(config, rows, teacher),
        explained=config.attribution_examples,
        teacher_labels=further_labels(config, rows, teacher.located),
    )


def find_teacher(config: StudentConfig, rows: Rows) -> Loaded:
    """Load the finished teacher: the one named, or the newest registered that has seen exactly these labels.

    Where `labelled` restricts no labels, one that has seen all of them comes next, then any. Exported versions are left
    out: they cannot be loaded.
    """
    name = config.teacher
    if not name:
        model = f"{model_name(config, rows.test_digest)}-teacher"
        trained = [one for one in tracking.versions(model)[::-1] if "kd.exported_from" not in one.tags]
        seen = (rows.train_digest,) if config.labelled else (rows.train_digest, rows.full_digest, None)
        found = [one for digest in seen for one in trained if digest in (None, one.tags.get("kd.dataset_digest"))]
        if not found:
            whose = f"these labels (labelled={config.labelled})" if config.labelled else "this data"
            first = command("teacher", *as_words(narrowed(RowOptions, config)))
            raise UserError(f"teacher is missing, and none is registered for {whose}: name one, or train it: {first}")
        name = f"models:/{model}/{found[0].version}"
    return load(rows.task, name, "teacher", finished=True)


def further_labels(config: StudentConfig, rows: Rows, teacher: Located) -> str:
    """Return how many labels a teacher has seen where they are not its student's, and warn once; else "".

    Labels that the teacher's own teacher had seen count. `unknown` where its run has no such parameter. A teacher of
    fewer labels by the same `labelled` draw counts as one of the student's labels: the draws are nested.
    """
    if not (config.labelled or config.max_train) or not teacher.run_id:
        return ""
    record = tracking.record(teacher.run_id)
    inherited = record.tags.get("kd.teacher_labels", "")
    if record.tags.get("kd.dataset_digest") == rows.train_digest:
        return inherited
    seen = inherited or record.params.get("labelled_rows", "unknown")
    drawn = {name: str(getattr(config, name)) for name in ("dataset", "split_seed")}
    nested = record.params.get("labelled", "0") != "0" and drawn.items() <= record.params.items()
    if config.labelled and nested and not inherited and int(seen) < len(rows.train):
        return ""
    _warn_of_labels(teacher.uri, seen, len(rows.train))
    return seen


@cache
def _warn_of_labels(teacher: str, seen: str, count: int) -> None:
    """Warn once a process: all seeds and arms check their teacher."""
    say(
        f"Warning: the teacher {teacher} was trained on other labels ({seen}) than the {count} of its student: what it "
        "adds is not distillation alone; train both with the same max_train, labelled and split_seed"
    )


def initialise(config: StudentConfig, rows: Rows, teacher: Loaded) -> Start:
    """Build the student from layers of the teacher or of another model; arm and control start the same."""
    set_seed(config.seed)
    if config.student_config:
        return _configured(config, rows, teacher)
    itself = config.student in ("", ITSELF)
    source = teacher if itself else load(rows.task, config.student, "student", finished=False)
    if config.student_layers or not config.student:
        return _cut(config, rows, teacher, source)
    words = f"{depth_of(source.model)} {called(config.student)}"
    model = copy.deepcopy(source.model) if itself else source.model  # the teacher stays as it is
    return Start(model, source.processor, words, {"source": source.located.digest, "layers": "all"})


def depth_of(model: PreTrainedModel) -> str:
    """Return how many layers a model has, in words, or what it has in their place."""
    count = model.config.num_hidden_layers
    layers = f"{count} layer{'s' * (count > 1)}" if count else "whole"
    return getattr(model.config, "in_words", layers)


def _cut(config: StudentConfig, rows: Rows, teacher: Loaded, source: Loaded) -> Start:
    """Build a student from some layers of `source`: the teacher, or another model."""
    wanted, depth = config.student_layers or DEFAULT_LAYERS, source.model.config.num_hidden_layers
    indices = _indices(config, depth, partial(_moved, config, rows, teacher))
    count = len(indices) or int(wanted)
    student = _copied(rows, source, count, indices, config.seed)
    origin = f"layers {', '.join(map(str, indices))} of {depth} (0-based)" if indices else "random layers"
    say_once(f"Student: {origin}, {student.num_parameters() / 1e6:.1f} M parameters")
    words = f"{count} layers" + (f" {called(config.student)}" if config.student else "")
    words += f" ({wanted})" if "," in wanted else ""
    words += f" {config.initialisation}" if config.initialisation else ""
    identity = {"source": source.located.digest, "layers": list(indices) or f"random {count}"}
    return Start(student, source.processor, words, identity)


def _copied(rows: Rows, source: Plan | Loaded, count: int, indices: LayerMap, seed: int) -> PreTrainedModel:
    """Build a student from layers of `source`; UserError where they would not compute in it what they do there."""
    student = build_student(source.model, count, indices, seed)
    if indices:
        batch = trial_batch(rows, source.processor)
        require_same(source.model, student, indices, lambda model: outputs(model, rows, batch))
    return student


def _indices(config: StudentConfig, depth: int, moved: Moved) -> LayerMap:
    """Return the layers of a source of `depth` layers that the student starts from; empty: random layers."""
    layers, source = parse_layers(config.student_layers or DEFAULT_LAYERS), "student" if config.student else "teacher"
    return layer_map(layers, config.initialisation or "spaced", depth, source, moved)


def _moved(config: StudentConfig, rows: Rows, teacher: Loaded) -> tuple[float, ...]:
    """Return how far the teacher's validation loss moves without each layer; measured once, then kept on disk.

    It is measured in float32 on all validation features, or on 1,024 of them that `split_seed` chooses, so that
    students of all seeds start from the same layers.
    """
    task, features = rows.task, encoder(config, rows, teacher.processor)("validation")
    chosen = sample(len(features), RANKED_ON, config.split_seed)
    parts = {
        "teacher": teacher.located.digest,
        "rows": rows.digest("validation"),
        "chosen": fingerprint({"features": chosen}),
        "task": fingerprint(task.identity()),
        "code": code_digest(task, RANKING_CODE),
        "libraries": fingerprint({"libraries": library_versions()}),
    }
    collate = task.collate(teacher.processor)
    found = remembered(parts, lambda: measure(teacher.on_device(), features, chosen, collate, task.loss))
    _show(found, teacher.located.uri)
    return found.moved


@cache
def _show(found: Importance, teacher: str) -> None:
    """Show the ranking, once a process: all seeds and arms use it."""
    say(f"Validation loss of {teacher} without each layer in turn ({found.loss:.4f} with all; {found.rows} features):")
    table = Table(*(Column(name, justify="right") for name in ("layer (0-based)", "loss without it", "moved by")))
    for layer, without in enumerate(found.without):
        table.add_row(str(layer), f"{without:.4f}", f"{without - found.loss:+.4f}")
    say(table)


def called(source: str) -> str:
    """Return the last part of a model's name; of a registered one the end of its name and its version: `teacher 6`."""
    name, _, last = source.rstrip("/").removeprefix("models:/").rpartition("/")
    return f"{name.rpartition('-')[2]} {last}" if name and source.startswith("models:/") else last


def _configured(config: StudentConfig, rows: Rows, teacher: Loaded) -> Start:
    student = configured_student(teacher.model, config.student_settings, config.seed)
    rows.task.require_fit(student, teacher.processor, "student_config")
    shape = student.config
    size = f"{shape.num_hidden_layers} layers x {shape.hidden_size}"
    say(
        f"Student: random weights, {size}, {shape.num_attention_heads} heads, "
        f"{student.num_parameters() / 1e6:.1f} M parameters"
    )
    settings = {**json.loads(shape.to_json_string(use_diff=False)), "transformers_version": None}
    identity = {"source": teacher.located.digest, "layers": f"random {shape.num_hidden_layers}", "config": settings}
    return Start(student, teacher.processor, f"{size} ({Path(config.student_config).name})", identity)


def require_shape(config: StudentConfig, rows: Rows, teacher: Plan | Loaded) -> None:
    """Check, before a teacher is trained, that the student can be made from it.

    Raises:
        UserError: the teacher has too few layers, they cannot be taken out of it, or `student_config` cannot be built.
    """
    if config.student_config:
        configured_student(teacher.model, config.student_settings, config.seed)
    elif not config.student:
        require_cut(config, rows, teacher)


def require_cut(config: StudentConfig, rows: Rows, source: Plan | Loaded) -> None:
    """Check that a student can be made of layers of `source`; which those are by importance is not known yet.

    Raises:
        UserError: it has too few, or they would not compute in a student what they do there.
    """
    depth = source.model.config.num_hidden_layers
    indices = _indices(config, depth, lambda: (0.0,) * depth)
    _copied(rows, source, len(indices) or int(config.student_layers or DEFAULT_LAYERS), indices, config.seed)
