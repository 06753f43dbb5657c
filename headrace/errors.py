"""Everything Headrace raises on purpose: one tree, split by what the caller can do."""


class HeadraceError(Exception):
    """What happened, and what the reader can do about it.

    Attributes:
        fix: One sentence that says what to do next.
        exit_code: The command line's exit code when this error ends a command.
    """

    exit_code = 1

    def __init__(self, what: object, *, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class TransientError(HeadraceError):
    """Repeating may help. The retry policy asks for this class and for no other."""


class PermanentError(HeadraceError):
    """Repeating cannot help: retried by nobody."""


class ConfigError(PermanentError):
    """The configuration is wrong; the message names the file, the path in it and the fix."""

    exit_code = 2


class UnknownColumnError(PermanentError):
    """A name was used that the table lacks."""


class IncompatibleSchemaError(PermanentError):
    """A published table cannot take the new columns or types without losing what it holds."""


class SourceUnavailableError(TransientError):
    """A source did not answer, or is still being written."""


class SourceRejectedError(PermanentError):
    """A source delivered something that cannot be read as declared."""


class NoFilesError(PermanentError):
    """An entity's path matches no file, and never did: most often it is misspelt."""


class StorageUnavailableError(TransientError):
    """A file could not be written: the disk is full, or the storage does not answer."""


class StorageRejectedError(PermanentError):
    """A file may not be written there."""


class CommitConflictError(TransientError):
    """Another run published to the same table first, more often than we retried."""


class CatalogUnavailableError(TransientError):
    """The lake's catalog did not answer or dropped the connection."""


class UnpublishedTableError(PermanentError):
    """A table of the lake was read to which nothing was ever published."""


class StagedFileRejectedError(PermanentError):
    """A staged file is not what its publication says it is: broken, or of another day."""


class WarehouseUnavailableError(TransientError):
    """Postgres did not answer or dropped the connection."""


class PublishedFileMissingError(PermanentError):
    """A record says that a file was published, but the file is not there."""


class PartitionHeldError(PermanentError):
    """Partitions failed their audit and keep their last published state."""

    exit_code = 3
