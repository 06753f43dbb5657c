"""Texts of the reference that are not in the code: introductions, titles, exit codes."""

CONFIGURATION = """\
The configuration is YAML in the folder `config/`. `headrace check` validates all files and reports
every problem at once, with file, path and remedy. An unknown key is an error, so a typo never
becomes a default.

Editors with the YAML language server complete and validate the files with the
[JSON Schemas](schemas/) in this folder. The first line of a file names its schema:

```yaml
# yaml-language-server: $schema=../docs/reference/schemas/settings.json
```

| file | path of the schema |
| --- | --- |
| `config/base.yaml` | `../docs/reference/schemas/settings.json` |
| the overlays, such as `config/production.yaml` | `../docs/reference/schemas/overlay.json` |
| `config/sources/*.yaml` | `../../docs/reference/schemas/source.json` |
| `config/star.yaml` | `../docs/reference/schemas/star.json` |
"""

VARIABLES = {
    "`HEADRACE_HOME`": "Folder of this installation's state; `.headrace` by default. Each home has "
    "its own Postgres, lake and Dagster.",
    "`HEADRACE_CONFIG`": "Folder of the configuration; `config` by default.",
    "`PIPELINE_ENV`": "`development` (the default), `staging` or `production`: the overlay that "
    "overrides keys of `base.yaml`.",
}

CONFIGURATION_FILES = {
    "base.yaml and its overlays": """\
`config/base.yaml` is read first; `development.yaml`, `staging.yaml` or `production.yaml` overrides
it key by key. Keys that are in neither have the default below.
""",
    "sources/*.yaml": """\
One file a source. Each entity in it becomes the tables `raw.<source>_<entity>`,
`processed.<source>_<entity>` and `quarantine.<source>_<entity>`; the first two are assets, with
the same names. A column's `type` is one of the [column types](#column-types).
""",
    "star.yaml": """\
The star schema: each dimension, the calendar and each fact become a table in the lake
(`curated.<name>`) and one in Postgres (`warehouse.<name>`).
""",
}

TITLES = {
    "Settings": "Settings",
    "PartitionSettings": "Partitions",
    "StorageSettings": "Storage",
    "LandingSettings": "Landing zone",
    "S3Settings": "S3",
    "Secret": "Secret",
    "EngineSettings": "Engine",
    "PostgresSettings": "Postgres",
    "ScheduleSettings": "Schedule",
    "MaintenanceSettings": "Maintenance",
    "ReconcileSettings": "Reconcile",
    "SensorSettings": "Sensor",
    "SourceConfig": "Source",
    "EntityConfig": "Entity",
    "Extract": "Extract",
    "FilesSource": "Source: files",
    "FileEntity": "Entity: files",
    "FileExtract": "Extract: files",
    "DatabaseSource": "Source: database",
    "TableEntity": "Entity: table",
    "FullExtract": "Extract: full",
    "FullSnapshotExtract": "Extract: full_snapshot",
    "WatermarkExtract": "Extract: watermark",
    "ChangeTableExtract": "Extract: change_table",
    "IncreasingIdExtract": "Extract: increasing_id",
    "RestSource": "Source: REST API",
    "RestEntity": "Entity: list of an API",
    "RestExtract": "Extract: list of an API",
    "RestFullExtract": "Extract: whole list",
    "RestWindowExtract": "Extract: window",
    "MongoSource": "Source: MongoDB",
    "CollectionEntity": "Entity: collection",
    "CollectionFullExtract": "Extract: whole collection",
    "CollectionSnapshotExtract": "Extract: snapshot of a collection",
    "CollectionWatermarkExtract": "Extract: collection by watermark",
    "CollectionIdExtract": "Extract: collection by _id",
    "NoPagination": "Pagination: none",
    "PagePagination": "Pagination: page",
    "OffsetPagination": "Pagination: offset",
    "CursorPagination": "Pagination: cursor",
    "NextUrlPagination": "Pagination: next_url",
    "LinkPagination": "Pagination: link",
    "ConnectionSettings": "Connection",
    "RestConnection": "Connection: REST API",
    "SftpConnection": "Connection: SFTP server",
    "SettledArrival": "Arrival: settled",
    "MarkerArrival": "Arrival: marker",
    "ManifestArrival": "Arrival: manifest",
    "DemoConnection": "Connection: the demo",
    "RestLimits": "Limits",
    "ApiKeyAuth": "Auth: api_key",
    "BearerAuth": "Auth: bearer",
    "BasicAuth": "Auth: basic",
    "OAuth2Auth": "Auth: oauth2",
    "CsvFormat": "Format: csv",
    "ParquetFormat": "Format: parquet",
    "JsonLinesFormat": "Format: json_lines",
    "JsonFormat": "Format: json",
    "ExcelFormat": "Format: excel",
    "FixedWidthFormat": "Format: fixed_width",
    "UnpackLimits": "Unpack",
    "ColumnConfig": "Column",
    "Lookup": "Lookup",
    "Enrichment": "Enrichment",
    "FileEnrichment": "Enrichment: file",
    "EcbRates": "Enrichment: ecb_rates",
    "Regions": "Enrichment: regions",
    "IpRanges": "Enrichment: ip_ranges",
    "CalculatedColumn": "Calculated column",
    "RowRule": "Rule",
    "QualityConfig": "Quality",
    "StarConfig": "Star",
    "DimensionConfig": "Dimension",
    "CalendarConfig": "Calendar",
    "BusinessCalendarConfig": "Business calendar",
    "DeletesConfig": "Deletes",
    "Outrigger": "Outrigger",
    "FactConfig": "Fact",
    "FactDimension": "Join of a fact to a dimension",
    "RowAccess": "Row access",
}

TYPES = {
    "string": "Text, trimmed; empty text is NULL.",
    "boolean": "true or false.",
    "int": "Whole number of 32 bits.",
    "bigint": "Whole number of 64 bits.",
    "double": "Binary fraction of 64 bits; not for money.",
    "date": "A day.",
    "timestamp": "Wall-clock time without a zone, to the microsecond.",
    "timestamptz": "An instant, kept in UTC, to the microsecond.",
    "list<string>": "A list of texts; a column of files cannot have it.",
    "decimal(p,s)": "Number of p digits, s of them after the point, at most 38; for money.",
}

COMMANDS = """\
`make setup` installs the command as `.venv/bin/headrace`. Data goes to stdout, everything else to
stderr; `--json` prints one JSON document. `NO_COLOR` is respected.
[Environment variables](configuration.md#environment-variables) name the folders of state and
configuration.
"""

EXIT_CODES = {
    0: "Everything was published.",
    1: "Unexpected error.",
    2: "The command line, the configuration or the query is invalid.",
    3: "Finished, with days held or failed: each is listed, and keeps its last published state.",
}

LEDGER = """\
The outcome of every partition of every asset, in the warehouse's database. `headrace status`
summarizes it; it can also be queried:

```
headrace sql "select asset, partition, error from platform.partition_ledger where error is not null"
```

A row is written after the publication, or in its transaction if that is in Postgres. It is no proof
that the published data still exists, so readers check that first. Why:
[the gate](../explanation/gate.md).
"""

LEDGER_COLUMNS = {
    "platform.partition_ledger": {
        "partition": "First day of the period, UTC; 1900-01-01 for `partition: none`; null for an "
        "asset without partitions.",
        "status": "Outcome of the last attempt: `published`; `held`: a check failed; `failed`: it "
        "could not be staged; `skipped`: an input was not published, and neither was this "
        "partition before; `running`: a run builds it for the first time. `published` with "
        "`rows_out` 0 is an empty partition.",
        "attempted_inputs": "By input, the content version that the last attempt read; null: "
        "unknown.",
        "running_run_id": "A run that has begun the partition; if the run died, it is stale.",
        "snapshot_id": "The lake's snapshot that publishes it; of the warehouse, the snapshot it "
        "was loaded from; null for marts.",
        "attempted_at": "Time at which the last attempt was recorded.",
        "published_rows": "Rows that readers see; null before the first publication.",
        "published_run_id": "The run of the last publication.",
        "published_at": "Time at which the last publication was recorded.",
        "published_code_version": "Code version of the last publication.",
        "data_version": "Content version of the last publication: equal for equal content.",
        "inputs": "By input, the content version that the last publication was built from.",
    },
    "platform.partition_attempt": {
        "partition": "First day of the period, UTC; 1900-01-01 for `partition: none`; null for an "
        "asset without partitions.",
        "status": "`published`, `held`, `failed`, `skipped`; `superseded`: another run attempted "
        "it with newer inputs; `interrupted`: the run died.",
        "ended_at": "Time at which it was recorded.",
    },
    "platform.table_input": {
        "asset": "The asset, such as `curated/fact_sales`.",
        "input": "An asset that it reads as a whole table, such as `curated/dim_product`.",
        "data_version": "Hash of the content versions of that asset's partitions, when it was read.",
    },
    "platform.loaded_snapshot": {
        "relation": "The table, as namespace.name.",
        "snapshot_id": "The lake's snapshot that the table was loaded from.",
        "run_id": "The run that loaded it.",
        "loaded_at": "Time of the load.",
    },
}

CHECKS = """\
All checks are run on staged data, before it is visible to readers. A check of a row quarantines
the row; a check of a partition holds the partition: its last published state stays, and other
partitions are published. Both kinds are entries of one registry, `headrace/quality/registry.py`,
from which this page and Dagster's asset checks are generated.
"""

ROW_CHECKS = """\
## Rows

A quarantined row lists every reason that applies ([how to read it](../how-to/read-quarantine.md)).
"""

PARTITION_CHECKS = """\
## Partitions

Dagster shows one asset check result per partition, with what was expected and what was found.
"""

CHECKS_END = """\
### Marts

dbt's tests are asset checks of their models, under dbt's names. They run on the new rows before
these are visible; a failure holds the partitions that were built. A test reads the whole window of
a run, so its result has no partition. The generic tests are in `dbt/tests/generic/`; the models
declare them in `dbt/models/marts/_marts.yml`.

## Columns and types

Before a table is published, the first rows of its largest staged file are validated against a
pandera schema generated from the configuration: columns, their order and types, NULLs, keys. A
difference is a mistake in configuration or code, not in a row, so it fails the step. The UI shows
the schema with the asset.
"""
