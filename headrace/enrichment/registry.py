"""The kinds of enrichments: their values for keys, the identity of their files, their faults."""

import hashlib
from pathlib import Path

import pyarrow as pa

from headrace.config.enrichments import AnyEnrichment
from headrace.enrichment import ecb_rates
from headrace.errors import ConfigError


def find_values(enrichment: AnyEnrichment, keys: pa.Table, folder: Path) -> pa.Table:
    """The keys for which there is a value, and their values.

    Args:
        enrichment: Its kind and options.
        keys: Distinct keys without NULL, one column for each of `enrichment.reads`.
        folder: The configuration's folder.

    Returns:
        The columns of `keys`, then those of `enrichment.added`.

    Raises:
        ConfigError: A file is missing, or not as its kind needs.
    """
    return ecb_rates.find_rates(enrichment, keys, folder)


def content_id(enrichment: AnyEnrichment, folder: Path) -> str:
    """Changes whenever the values may change; `missing` without a file."""
    path = ecb_rates.rates_path(enrichment, folder)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return "missing"


def file_problem(enrichment: AnyEnrichment, folder: Path) -> str | None:
    """Why the values cannot be read: the key in the enrichment, and the message."""
    try:
        ecb_rates.load_rates(ecb_rates.rates_path(enrichment, folder))
    except ConfigError as error:
        return f"file: {error}: {error.fix}"
    return None
