"""The errors that Headrace raises: one tree, split by whether a retry can help."""

_SHOWN_CHARACTERS = 60


class HeadraceError(Exception):
    """An error with a remedy.

    Attributes:
        fix: One sentence on what to do next.
        exit_code: Exit code of a command that this error ends.
    """

    exit_code = 1

    def __init__(self, what: object, *, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class TransientError(HeadraceError):
    """A retry may help. The retry policy retries this class and no other."""


class PermanentError(HeadraceError):
    """A retry cannot help."""


class ConfigError(PermanentError):
    """The configuration is invalid; the message has the file, the path in it and the remedy."""

    exit_code = 2


class UnknownColumnError(PermanentError):
    """The table has no column of that name."""


class IncompatibleSchemaError(PermanentError):
    """A published table cannot be changed to the new columns or types without losing data."""


def rebuild_command(table: str) -> str:
    """For remedies: the command that rebuilds namespace.name and what is built from it."""
    return f"headrace backfill --rebuild --select 'key:\"{table.replace('.', '/', 1)}\"+'"


class SourceUnavailableError(TransientError):
    """A source does not answer, or is still being written.

    Attributes:
        retry_after_seconds: When the source asks to be tried again; None: it does not say.
    """

    def __init__(self, what: object, *, fix: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(what, fix=fix)
        self.retry_after_seconds = retry_after_seconds


class SourceRateLimitedError(SourceUnavailableError):
    """A source refuses requests because there were too many of them."""


class SourceRejectedError(PermanentError):
    """A source delivered data that cannot be read as declared."""


class SourceUnauthorizedError(SourceRejectedError):
    """A source does not accept the credentials, or not any more."""


class NoFilesError(PermanentError):
    """An entity's path has never matched a file; most often it is misspelt."""


class StorageUnavailableError(TransientError):
    """A file cannot be written: the disk is full, or the storage does not answer."""


class StorageRejectedError(PermanentError):
    """The storage refuses to write a file."""


class CommitConflictError(TransientError):
    """Other runs published to the same table during every retry of the commit."""


class CatalogUnavailableError(TransientError):
    """The lake's catalog does not answer, or dropped the connection."""


class UnpublishedTableError(PermanentError):
    """A table of the lake was read that was never published."""


class StagedFileRejectedError(PermanentError):
    """A staged file is damaged, or has rows of another partition."""


class WarehouseUnavailableError(TransientError):
    """Postgres does not answer, or dropped the connection."""


class PublishedFileMissingError(PermanentError):
    """A file that a snapshot refers to does not exist."""


def shown(name: str) -> str:
    """A name for an error: its start, without control characters, which no database stores."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name[:_SHOWN_CHARACTERS])
