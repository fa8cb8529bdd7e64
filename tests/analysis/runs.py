"""Finished runs as a comparison reads them."""

from kd.base.types import RunRecord


def scored(arm, seed, score, control="", metric="score"):
    """Return a run of task t that scored test set d; with a control it is a distilled one."""
    tags = {
        "kd.task": "t",
        "kd.test_digest": "d",
        "kd.test_scored": "true",
        "kd.role": "distilled" if control else "student",
        "kd.arm": arm,
        "kd.seed": str(seed),
        "kd.control_arm": control,
    }
    return RunRecord(f"{arm}-{seed}", f"{arm} · seed {seed}", {}, {f"test/{metric}": score}, tags)
