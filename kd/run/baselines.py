"""Trivial baselines, which any model must beat: logged once for each test set and training data."""

from dataclasses import replace
from typing import TYPE_CHECKING

from kd import tracking
from kd.base.hashing import fingerprint
from kd.config import FitOptions
from kd.run.data import Rows

if TYPE_CHECKING:
    from kd.run.execute import Where


def log_baselines(rows: Rows, config: FitOptions, where: "Where") -> None:
    """Log the task's trivial baselines as runs of role `trivial`, unless the experiment has them."""
    arm = {"data": rows.full_digest, "max_train": config.max_train, "test": rows.test_digest}
    arm |= {"labelled": rows.train_digest} if config.labelled else {}
    key = fingerprint({**arm, "rows": rows.train_digest})
    known = f"tags.`kd.role` = 'trivial' and tags.`kd.cache_key` = '{key}'"
    if tracking.runs([where.experiment], known):
        return
    task = rows.task
    for name, tables in task.baselines(replace(rows.splits, train=rows.train)):
        tags = {
            "kd.stage": "baseline",
            "kd.label": f"baseline {name}",
            "kd.role": "trivial",
            "kd.task": config.task,
            "kd.metric": next(iter(task.directions)),
            "kd.dataset": config.dataset,
            "kd.dataset_digest": rows.train_digest,
            "kd.validation_digest": rows.validation_digest,
            "kd.test_digest": rows.test_digest,
            "kd.seed": str(config.seed),
            "kd.arm": fingerprint({**arm, "baseline": name}),
            "kd.cache_key": key,
            "kd.test_scored": "true",
        }
        with tracking.run(tags["kd.label"], tags, where.parent) as run:
            run.log_params({"max_train": config.max_train, "labelled": config.labelled})
            metrics: dict[str, float] = {}
            for prefix, split in (("val", "validation"), ("test", "test")):
                metrics |= {f"{prefix}/{key}": value for key, value in task.quality(tables[split]).items()}
                run.log_table(tables[split], f"predictions_{split}.parquet")
            run.log_metrics({**metrics, **task.diagnostics(None, tables["test"])})
