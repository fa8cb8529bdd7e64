"""The plan of a teacher: pretrained weights, fine-tuned."""

from transformers import set_seed

from kd import tracking
from kd.base.console import say
from kd.config import TeacherConfig, TeachingOptions, narrowed
from kd.run import student
from kd.run.data import Rows
from kd.run.encode import encoder
from kd.run.execute import Where, train
from kd.run.identity import shared_identity
from kd.run.locate import load
from kd.run.plan import Plan
from kd.run.register import register
from kd.run.trial import require_works


def finished(config: TeachingOptions, rows: Rows, where: Where) -> str:
    """Return the URI of the teacher: a finished one that is given, or one that is trained now and registered."""
    if config.teacher_is_finished:
        return tracking.stored_model(config.teacher, "teacher").uri  # resolved: its alias may move meanwhile
    options = narrowed(
        TeacherConfig,
        config,
        epochs=config.teacher_epochs or config.epochs,
        learning_rate=config.teacher_learning_rate or config.learning_rate,
    )
    decided = plan(options, rows)
    student.require_shape(config, rows, decided)
    outcome = train(decided, options, where)
    name, version = register(outcome, options, rows)
    reused = ", reused: it was trained before with these options" if outcome.reused else ""
    say(f"Teacher: {name} version {version}{reused}")
    return f"models:/{name}/{version}"


def plan(config: TeacherConfig, rows: Rows) -> Plan:
    """Plan the training of a teacher.

    Raises:
        UserError: the weights do not exist or are not safe to load.
    """
    set_seed(config.seed)
    source = load(rows.task, config.teacher, "teacher", finished=False)
    require_works(source.model, source.processor, rows, "teacher")
    short = source.located.uri.removeprefix("builtin:").rstrip("/").rpartition("/")[2]
    return Plan(
        stage="teacher",
        role="teacher",
        method=f"teacher {short}",
        start=student.depth_of(source.model),
        seed=config.seed,
        model=source.model,
        processor=source.processor,
        rows=rows,
        features=encoder(config, rows, source.processor),
        identity={**shared_identity(config, rows), "role": "teacher", "source": source.located.digest},
    )
