"""How many files this process may have open."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)


def raise_file_limit() -> None:
    """Raises the soft limit to the hard one. The soft one is low for programs that use select."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as e:
            log.warning("the limit of %d open files stays: %s", soft, e)
            return
    log.info("at most %d files may be open", hard)
