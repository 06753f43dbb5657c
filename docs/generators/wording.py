"""Words of the reference that the code does not say: introductions, titles, exit codes."""

CONFIGURATION = """\
Everything a user configures is YAML in the folder `config/`. `headrace check` reads all of it and
reports every problem at once, with file, path and remedy. A key that does not exist is an error: a
typo never becomes a default.

Editors that know the YAML language server complete and check the files as you type, with the
[JSON Schemas](schemas/) beside this page. The first line of a file names its schema:

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
    "`HEADRACE_HOME`": "Folder of this installation's state; `.headrace` by default. Two homes "
    "never meet: each has its own Postgres, lake and Dagster.",
    "`HEADRACE_CONFIG`": "Folder of the configuration; `config` by default.",
    "`PIPELINE_ENV`": "`development` (the default), `staging` or `production`: which overlay is "
    "laid over `base.yaml`.",
}

CONFIGURATION_FILES = {
    "base.yaml and its overlays": """\
`config/base.yaml` is read first; `development.yaml`, `staging.yaml` or `production.yaml` is laid
over it key by key. What both leave out has the default below.
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
    "SensorSettings": "Sensor",
    "SourceConfig": "Source",
    "EntityConfig": "Entity",
    "FileExtract": "Extract: files",
    "CsvFormat": "Format: csv",
    "ParquetFormat": "Format: parquet",
    "ColumnConfig": "Column",
    "RowRule": "Rule",
    "QualityConfig": "Quality",
    "StarConfig": "Star",
    "DimensionConfig": "Dimension",
    "CalendarConfig": "Calendar",
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
stderr; `--json` prints one JSON document and nothing else. `NO_COLOR` is respected. Where state and
configuration lie is said by [environment variables](configuration.md#environment-variables).
"""

EXIT_CODES = {
    0: "Everything was published.",
    1: "Something unexpected.",
    2: "The command line, the configuration or the query is wrong.",
    3: "Finished, with days held or failed: each is named, and keeps its last published state.",
}

LEDGER = """\
What became of every day of every asset, in the warehouse's database. `headrace status` sums it up;
query it as any table:

```
headrace sql "select asset, partition, error from platform.partition_ledger where error is not null"
```

A row is a claim, not the thing: it is written after the publication (in the same transaction where
that is in Postgres), and whoever reads it looks whether the published thing is there. Why:
[the gate](../explanation/gate.md).
"""

LEDGER_COLUMNS = {
    "platform.partition_ledger": {
        "partition": "First day of the period, UTC; 1900-01-01 for `partition: none`; null for an "
        "asset without partitions.",
        "status": "Of the last attempt: `published`; `held`: a check failed; `failed`: it could "
        "not even be staged; `skipped`: an input was not published, and it never was; `running`: a "
        "run is at it for the first time. Published with `rows_out` 0 is a day known to be empty.",
        "attempted_inputs": "By input, the data version that the last attempt read; null: unknown.",
        "running_run_id": "The run that began with it and has not ended; if it died, it is stale.",
        "snapshot_id": "The lake's snapshot that publishes what readers see; null where there is "
        "none.",
        "attempted_at": "When the last attempt was written down.",
        "published_rows": "Rows that readers see; null if none were ever published.",
        "published_run_id": "The run that published what readers see.",
        "published_at": "When that was written down.",
        "published_code_version": "Of the code that built what readers see.",
        "data_version": "Stands for the content that readers see: equal content, equal version.",
        "inputs": "By input, the data version that what readers see was built from.",
    },
    "platform.partition_attempt": {
        "partition": "First day of the period, UTC; 1900-01-01 for `partition: none`; null for an "
        "asset without partitions.",
        "status": "`published`, `held`, `failed`, `skipped`; `superseded`: a newer run published "
        "it meanwhile, from newer inputs; `interrupted`: the run died.",
        "ended_at": "When it was written down.",
    },
    "platform.table_input": {
        "asset": "The asset, such as `curated/fact_sales`.",
        "input": "The asset that it follows as a whole, such as `curated/dim_product`.",
        "data_version": "Stands for the content of that asset's partitions that it has followed.",
    },
    "platform.loaded_snapshot": {
        "relation": "The table, as namespace.name.",
        "snapshot_id": "The lake's snapshot that the table was made equal to.",
        "run_id": "The run that did so.",
        "loaded_at": "When.",
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
