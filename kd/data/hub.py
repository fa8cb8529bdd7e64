"""Rows from the Hugging Face hub, or from its local cache where the hub cannot be reached."""

from pathlib import Path

import datasets
from datasets import DatasetDict, load_dataset
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError  # type: ignore[attr-defined]

from kd.base.console import one_line
from kd.base.types import UserError

PROBE_TIMEOUT_S = 8.0
"""Seconds for the one request that shows whether the hub answers; `load_dataset` alone retries for more than 20."""
INSTEAD = "a local file or folder works in its place"


def load(identifier: str) -> DatasetDict:
    """Load all splits of `owner/name[:config]`, or `name[:config]`, under their own names, class names kept.

    Code that a data set brings is never run.

    Raises:
        UserError: Unknown id or config, hub out of reach and nothing cached, or a data set that needs its own code.
    """
    name, _, config = identifier.partition(":")
    unreachable = _probe(identifier, name)
    offline = datasets.config.HF_HUB_OFFLINE
    # No public option says "cache only" to one call; without it an unreachable hub costs 23 s of retries.
    datasets.config.HF_HUB_OFFLINE = offline or unreachable is not None
    try:
        data = load_dataset(name, config or None)
    except Exception as error:  # of the hub, of the network, or of any reader of any format
        raise UserError(f"--dataset={identifier}: {_explained(unreachable, error)}") from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
    if not isinstance(data, DatasetDict):
        raise UserError(f"--dataset={identifier}: gave {type(data).__name__}, not a set of splits: {INSTEAD}")
    return data


def _probe(identifier: str, name: str) -> str | None:
    """Return why the hub cannot be reached, None where it can."""
    try:
        HfApi().dataset_info(name, timeout=PROBE_TIMEOUT_S)
    except GatedRepoError as error:
        raise UserError(
            f"--dataset={identifier}: request access to it on its hub page, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"--dataset={identifier}: no such file or folder in {Path.cwd()}, and the hub knows no data set '{name}' "
            f"(or it is private): check the id; {INSTEAD}"
        ) from error
    except (OSError, HTTPError) as error:
        return one_line(error)
    return None


def _explained(unreachable: str | None, error: Exception) -> str:
    if "scripts are no longer supported" in str(error):
        return f"needs code of its own, which is not run: {INSTEAD}"
    if unreachable is not None:
        said = f"the hub cannot be reached ({unreachable}) and its cache does not have it"
        return f"no such file or folder in {Path.cwd()}, {said}: {INSTEAD}"
    if isinstance(error, ValueError) and "config" in str(error).lower():  # its text lists the configs there are
        return f"{one_line(error)}: name one as owner/name:config"
    return f"could not be loaded ({type(error).__name__}: {one_line(error)}): {INSTEAD}"
