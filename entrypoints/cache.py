"""Entry point `cache`; see `python -m entrypoints.cache --help`."""

from kd.config import CacheConfig
from kd.stages import start

if __name__ == "__main__":
    start("cache", CacheConfig)
