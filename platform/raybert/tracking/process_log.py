"""Log records and warnings of a process into a file of the run folder, off the terminal."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextlib.contextmanager
def process_log(path: Path) -> Iterator[None]:
    """Writes every record of level INFO and above to `path` while inside.

    Ray's loggers don't hand their records up to the root, so they get the file as well. Records of
    our own no longer reach the terminal: what a person must see is printed, not logged.
    """
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(_FORMAT))
    loggers = [logging.getLogger(name) for name in ("", "ray", "ray.train", "ray.data")]
    taps = [loggers[0], *(logger for logger in loggers[1:] if not logger.propagate)]
    ours = logging.getLogger("raybert")
    level = ours.level
    ours.setLevel(logging.INFO)
    logging.captureWarnings(True)
    for logger in taps:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in taps:
            logger.removeHandler(handler)
        logging.captureWarnings(False)
        ours.setLevel(level)
        handler.close()
