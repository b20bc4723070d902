"""What is new in a log that is asked for again and again: the server gives its end, so lines fall off at its head."""


def new_lines(before: list[str], now: list[str]) -> list[str]:
    """What `now` has beyond the end of `before`; a last line that has grown since is given again."""
    for start in range(len(before)):
        shared = len(before) - start
        if shared > len(now) or before[start:-1] != now[: shared - 1]:
            continue
        if before[-1] == now[shared - 1]:
            return now[shared:]
        if now[shared - 1].startswith(before[-1]):
            return now[shared - 1 :]
    return now
