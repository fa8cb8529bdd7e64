"""Train a student on the labels alone: the control of every distilled student."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from kd import tracking
from kd.base.console import say
from kd.base.types import SplitName, UserError
from kd.config import StudentConfig
from kd.data.digests import digest
from kd.models.layers import layer_map, parse_layers
from kd.models.load import fit_together, load_tokenizer
from kd.models.precision import autocast_dtype, resolve_precision
from kd.models.students import build_student, configured_student
from kd.run.data import Rows, model_name
from kd.run.encode import encode
from kd.run.identity import fingerprint, shared_identity, teaching_code
from kd.run.layer_ranking import moved
from kd.run.locate import Located, locate
from kd.run.plan import Plan, Signals
from kd.teacher.run import TeacherPass
from kd.teacher.signal import Caching, TeacherSignal, Wanted, signal_key, teacher_signal

DEFAULT_LAYERS = "2"
TOKENS_CPU, TOKENS_CUDA = 2048, 2**17
"""Tokens of a forward of the teacher. On a CPU more is slower: rows pad one another, and layers outgrow the processor's
cache. On a GPU it is halved until it fits."""


@dataclass(frozen=True)
class Start:
    """A student as initialised: model, tokenizer, what it came from, in words and as a hash."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    words: str
    identity: Mapping[str, Any]


def plan(config: StudentConfig, rows: Rows, found: tuple[Located, PreTrainedModel] | None = None) -> Plan:
    """Decide the training of a control; `found` is the teacher, where it is loaded already.

    Raises:
        UserError: teacher or student are not there, know other labels, or have too few layers.
    """
    located, teacher = found or find_teacher(config, rows)
    start = initialise(config, rows, located, teacher)
    labels = f" · {len(rows.train)} labels" if config.labelled else ""
    return Plan(
        stage="student",
        role="student",
        method="student",
        start=f"{start.words}{labels}",
        seed=config.seed,
        model=start.model,
        tokenizer=start.tokenizer,
        rows=rows,
        identity={**shared_identity(config, rows), **start.identity},
        control=None,
        terms=(),
        alpha=0.0,
        teacher=located,
        signal=signal_of(config, rows, located, teacher),
        guide=teacher,
        explained=config.attribution_examples,
        teacher_labels=further_labels(config, rows, located),
    )


def find_teacher(config: StudentConfig, rows: Rows) -> tuple[Located, PreTrainedModel]:
    """Load the finished teacher: the one named, or the newest registered for this data."""
    name = config.teacher or _newest(config, rows)
    if not name:
        whose = f"these labels (labelled={config.labelled})" if config.labelled else "this data"
        raise UserError(f"teacher is missing, and none is registered for {whose}: run the entry point teacher first")
    located = locate(name, "teacher")
    return located, rows.task.load_model(located.folder, f"teacher={name!r}", finished=True)


def _newest(config: StudentConfig, rows: Rows) -> str:
    """Return the URI of the newest version as trained, of those that have seen just these labels, or all, or any.

    Where `labelled` restricts the labels, no others will do. An exported version cannot be learned from.
    """
    name = f"{model_name(config, rows.test_digest)}-teacher"
    trained = [one for one in tracking.versions(name) if "kd.exported_from" not in one.tags]
    for digest_of in (rows.train_digest, rows.full_digest):
        if same := [one for one in trained if one.tags.get("kd.dataset_digest") == digest_of]:
            return f"models:/{name}/{same[-1].version}"
        if config.labelled:
            return ""
    return f"models:/{name}/{trained[-1].version}" if trained else ""


def further_labels(config: StudentConfig, rows: Rows, teacher: Located) -> str:
    """Return how many labels a teacher has seen where they are others than its student has, else "".

    Labels that the teacher's own teacher had seen count. `unknown` where its run does not say. A teacher of fewer
    labels by the same `labelled` draw has seen some of the same: they are nested. It is warned of, once.
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
    """Warn once a process: all seeds and arms come here."""
    say(
        f"Warning: the teacher {teacher} was trained on other labels ({seen}) than the {count} of its student: what it "
        "adds is not distillation alone; train both with the same labelled, which is the same rows for every seed"
    )


def initialise(config: StudentConfig, rows: Rows, located: Located, teacher: PreTrainedModel) -> Start:
    """Build the student: some of the teacher's layers, or of another model's. Arm and control start the same."""
    set_seed(config.seed)
    source, model = located, teacher
    if config.student:
        source = locate(config.student, "student")
        model = rows.task.load_model(source.folder, "student", finished=False)
    option = "student" if config.student else "teacher"
    tokenizer = load_tokenizer(source.folder, option)
    fit_together(model, tokenizer, option, config.max_length)
    if config.student_config:
        return _configured(config, located, teacher, tokenizer)
    wanted = config.student_layers or ("" if config.student else DEFAULT_LAYERS)
    whose = f" {called(config.student)}" if config.student else ""
    if not wanted:
        count = model.config.num_hidden_layers
        return Start(model, tokenizer, f"{count} layers{whose}", {"source": source.digest, "layers": "all"})
    initialisation = config.initialisation or "spaced"
    layers = parse_layers(wanted)
    ranking = partial(moved, config, rows, located, teacher)
    indices = layer_map(layers, initialisation, model.config.num_hidden_layers, option, ranking)
    count = len(indices) or int(wanted)
    student = build_student(model, count, indices, config.seed)
    origin = (
        f"layers {', '.join(map(str, indices))} of {model.config.num_hidden_layers} (0-based)"
        if indices
        else "random layers"
    )
    say(f"Student: {origin}, {student.num_parameters() / 1e6:.1f} M parameters")
    explicit = f" ({wanted})" if isinstance(layers, tuple) else ""
    described = f"{count} layers{whose}{explicit}" + (f" {initialisation}" if config.initialisation else "")
    identity = {"source": source.digest, "layers": list(indices) or f"random {count}"}
    return Start(student, tokenizer, described, identity)


def called(source: str) -> str:
    """Return the last part of a model's name; of a registered one its name's end and version, as `teacher 6`."""
    name, _, last = source.rstrip("/").removeprefix("models:/").rpartition("/")
    return f"{name.rpartition('-')[2]} {last}" if name and source.startswith("models:/") else last


def _configured(
    config: StudentConfig, located: Located, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Start:
    student = configured_student(teacher, config.student_settings, config.seed)
    fit_together(student, tokenizer, "student_config", config.max_length)
    shape = student.config
    say(
        f"Student: random weights, {shape.num_hidden_layers} layers x {shape.hidden_size}, {shape.num_attention_heads} "
        f"heads, {student.num_parameters() / 1e6:.1f} M parameters"
    )
    settings = {**json.loads(shape.to_json_string(use_diff=False)), "transformers_version": None}
    identity = {"source": located.digest, "layers": f"random {shape.num_hidden_layers}", "config": settings}
    described = f"{shape.num_hidden_layers} layers x {shape.hidden_size} ({Path(config.student_config).name})"
    return Start(student, tokenizer, described, identity)


def require_shape(config: StudentConfig, teacher: PreTrainedModel) -> None:
    """Check, before a teacher is trained, that the student can be made of it.

    Raises:
        UserError: the teacher has too few layers, or `student_config` cannot be built.
    """
    if config.student_config:
        configured_student(teacher, config.student_settings, config.seed)
    elif not config.student:
        layers, depth = parse_layers(config.student_layers or DEFAULT_LAYERS), teacher.config.num_hidden_layers
        layer_map(layers, config.initialisation or "spaced", depth, moved=lambda: (0.0,) * depth)


def signal_of(config: StudentConfig, rows: Rows, located: Located, teacher: PreTrainedModel) -> Signals:
    """Return the teacher's outputs for a split, from the cache or by running the teacher once over it.

    Training follows the training's precision; validation and test are in float32, as the teacher is served.
    """

    def signal(name: SplitName, contents: tuple[str, ...] = ("logits",)) -> TeacherSignal:
        split = rows.split(name)
        whole = name != "train"  # scored against all that the teacher says
        precision = "fp32" if whole else resolve_precision(config.precision)
        key = signal_key(
            {
                "teacher": located.digest,
                "rows": digest(split, rows.task.inputs),
                "task": fingerprint(rows.task.serving()),
                "max_length": str(config.max_length),
                "precision": precision,
                "whole": str(whole),
                "code": teaching_code(),
            }
        )
        tokenizer = load_tokenizer(located.folder, "teacher")

        @cache
        def reading() -> TeacherPass:
            fit_together(teacher, tokenizer, "teacher", config.max_length)
            cuda = torch.cuda.is_available()
            return TeacherPass(
                teacher.to("cuda" if cuda else "cpu"),
                encode(config, rows, name, tokenizer),
                rows.task.collate(tokenizer),
                rows.task.masks,
                contents,
                autocast=autocast_dtype(precision),
                tokens=TOKENS_CUDA if cuda else TOKENS_CPU,
                whole=whole,
            )

        about = {"teacher": located.uri, "data": config.dataset, "split": name, "precision": precision}
        wanted = Wanted(key, len(split), contents, about, left=tokenizer.padding_side == "left")
        return teacher_signal(wanted, reading, Caching(config.cache, config.cache_budget_gib))

    return signal
