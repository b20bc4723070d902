"""How many files and sockets this process may have open, and how many of them are left for HTTP connections."""

import contextlib
import logging
import resource

log = logging.getLogger(__name__)

RESERVED = 256
"""What workers, files, the database and admins need beside; at most half of all there are."""

MOST = 2**20
"""More is not asked for: some programs that inherit the limit look at each number below it."""


def allowed_connections(wanted: int) -> int:
    """Raise the limit of open files as far as this process may, and return how many connections fit below it."""
    limit = raised_limit()
    allowed = max(1, min(wanted, limit - min(RESERVED, limit // 2)))
    if allowed < wanted:
        log.warning(
            "%d connections may be open at a time, not %d (OPENLAUNCH_MAX_CONNECTIONS): this process may have %d "
            "files open, some of which workers and the store need; raise its limit (ulimit -n, LimitNOFILE) for more",
            allowed,
            wanted,
            limit,
        )
    else:
        log.info("%d connections may be open at a time; %d files may be", allowed, limit)
    return allowed


def raised_limit() -> int:
    """Raise the limit of open files as far as this process may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):  # macOS has a limit of its own below "infinity"
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft
