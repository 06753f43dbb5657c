"""The kinds of enrichments: their values for keys, the identity of their files, their faults."""

import hashlib
from pathlib import Path

import pyarrow as pa

from headrace.config.entities.enrichments import AnyEnrichment, EcbRates, IpRanges, Regions
from headrace.enrichment import ecb_rates, ip_ranges, regions
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
    match enrichment:
        case Regions():
            return regions.find_regions(enrichment, keys, folder)
        case IpRanges():
            return ip_ranges.find_ranges(enrichment, keys, folder)
    return ecb_rates.find_rates(enrichment, keys, folder)


def content_id(enrichment: AnyEnrichment, folder: Path) -> str:
    """Changes whenever the values may change; `missing` without a file."""
    if isinstance(enrichment, EcbRates):
        path = ecb_rates.rates_path(enrichment, folder)
    else:
        path = folder / enrichment.file
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return "missing"


def file_problem(enrichment: AnyEnrichment, folder: Path) -> str | None:
    """Why the values cannot be read: the key in the enrichment, and the message."""
    try:
        match enrichment:
            case Regions():
                regions.require_properties(enrichment, folder)
            case IpRanges():
                ip_ranges.require_columns(enrichment, folder)
            case EcbRates():
                ecb_rates.load_rates(ecb_rates.rates_path(enrichment, folder))
    except ConfigError as error:
        return f"file: {error}: {error.fix}"
    return None
