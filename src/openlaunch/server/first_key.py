"""The key that a server makes for its first admin, and writes to the credentials file."""

from openlaunch.errors import ConfigurationError, Conflict
from openlaunch.server.control.context import Context
from openlaunch.server.operations.datadir import DataDir
from openlaunch.wire.keys import Role

FIRST_OWNER = "admin"


async def first_key(context: Context, data: DataDir) -> str:
    """Return the key for the credentials file: the one that was asked for, the one in the file, or a new one."""
    keyring, asked = context.keyring, context.settings.api_key
    if asked is not None:
        key = asked.get_secret_value()
        if keyring.find(key) is None:
            try:
                await _make_first_key(context, key)
            except Conflict:  # another server, which starts at the same time, has made it, or it was revoked
                await keyring.load()
        if keyring.find(key) is None:
            raise ConfigurationError("OPENLAUNCH_API_KEY is a key that was revoked; give another one")
        return key
    key = data.read_api_key() or ""
    if keyring.find(key) is not None:
        return key
    return await _make_first_key(context)


async def _make_first_key(context: Context, key: str | None = None) -> str:
    """Make an admin's key, the given one or a new one; the audit log says that the server made it."""
    record, key = await context.keyring.create(FIRST_OWNER, Role.ADMIN, key)
    summary = {"owner": record.owner, "role": record.role.value}
    await context.audit.record_own("create_key", record.id, summary)
    return key


def page_link(context: Context, key: str) -> str:
    """Return the token of a link that signs in to the page once, with the first key."""
    principal = context.keyring.find(key)
    assert principal is not None  # it was looked for, or made
    return context.keyring.make_link(principal.key_id)
