"""Regions of coordinates: polygons of a GeoJSON file (RFC 7946), and the points in them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.config.entities.enrichments import Regions
from headrace.enrichment.reference_file import parsed
from headrace.errors import ConfigError

_FIX = "export the polygons as GeoJSON in degrees of WGS 84 (EPSG:4326)"
_FEWEST = 4  # Positions of a ring, the first one repeated as the last.
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """A feature: the edges of all its rings, those of holes too, and its properties.

    Attributes:
        edges: Longitude and latitude of the southern end, then of the northern one, whatever the
            direction of the ring. Neighbours have equal edges, so that no point is in both.
    """

    edges: _Floats
    properties: Mapping[str, object]


def load_regions(path: Path) -> list[Region]:
    """The regions of a file, in its order.

    Raises:
        ConfigError: There is no file, or it has no polygons in degrees.
    """
    return parsed(path, _parse)


def require_properties(enrichment: Regions, folder: Path) -> None:
    """Refuse a file in which a region lacks a property that becomes a column.

    Raises:
        ConfigError: Names the feature and the property.
    """
    path = folder / enrichment.file
    for number, region in enumerate(load_regions(path)):
        for name in enrichment.columns.values():
            if name not in region.properties:
                known = ", ".join(sorted(region.properties)) or "none"
                raise ConfigError(
                    f"{path}: features[{number}].properties: lacks '{name}'",
                    fix=f"name one of its properties: {known}",
                )


def find_regions(enrichment: Regions, keys: pa.Table, folder: Path) -> pa.Table:
    """The points that are in a region, with its properties; of several regions, the first one."""
    latitude, longitude = (_degrees(keys[name]) for name in ("latitude", "longitude"))
    regions = load_regions(folder / enrichment.file)
    found = np.full(len(latitude), -1)
    order = np.argsort(latitude)
    for number, region in enumerate(regions):
        inside = order[_inside(region.edges, latitude[order], longitude[order])]
        found[inside[found[inside] < 0]] = number
    rows = np.flatnonzero(found >= 0)
    table = keys.take(pa.array(rows, pa.int64()))
    for name, source in enrichment.columns.items():
        values = [_text(regions[number].properties.get(source)) for number in found[rows]]
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


def _inside(edges: _Floats, latitude: _Floats, longitude: _Floats) -> npt.NDArray[np.bool_]:
    """Whether each point is inside, by the number of edges to the east of it.

    A point on a border belongs to one of the neighbours: an edge has its southern end, not its
    northern one.

    Args:
        edges: Of one region.
        latitude: Of the points, ascending.
        longitude: Of the points.
    """
    is_inside = np.zeros(len(latitude), bool)
    first = np.searchsorted(latitude, edges[:, 1], "left")
    last = np.searchsorted(latitude, edges[:, 3], "left")
    for (x, y, to_x, to_y), start, end in zip(edges, first, last, strict=True):
        if start < end:
            crossing = x + (latitude[start:end] - y) * ((to_x - x) / (to_y - y))
            is_inside[start:end] ^= longitude[start:end] < crossing
    return is_inside


def _degrees(column: pa.ChunkedArray) -> _Floats:
    return np.asarray(column.cast(pa.float64()).to_numpy())


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value)


def _parse(path: Path) -> list[Region]:
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        raise ConfigError(f"{path}: is no JSON", fix=_FIX) from None
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list) or not features:
        raise ConfigError(f"{path}: is no FeatureCollection with features", fix=_FIX)
    return [_region(feature, f"{path}: features[{i}]") for i, feature in enumerate(features)]


def _region(feature: Any, place: str) -> Region:
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    geometry = geometry if isinstance(geometry, dict) else {}
    kind = geometry.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        raise ConfigError(f"{place}.geometry: is no Polygon or MultiPolygon", fix=_FIX)
    polygons = geometry.get("coordinates")
    polygons = [polygons] if kind == "Polygon" else polygons
    edges = [_edges(ring, place) for ring in _rings(polygons, place)]
    return Region(np.concatenate(edges), feature.get("properties") or {})


def _rings(polygons: Any, place: str) -> Iterator[_Floats]:
    try:
        rings = [
            np.array([position[:2] for position in ring], np.float64)
            for polygon in polygons
            for ring in polygon
        ]
    except (TypeError, ValueError):
        rings = []
    if not rings:
        raise ConfigError(f"{place}.geometry.coordinates: are no rings of positions", fix=_FIX)
    yield from rings


def _edges(ring: _Floats, place: str) -> _Floats:
    where = f"{place}.geometry.coordinates"
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < _FEWEST:  # noqa: PLR2004
        raise ConfigError(f"{where}: a ring has fewer than four positions", fix=_FIX)
    if (ring[0] != ring[-1]).any():
        raise ConfigError(f"{where}: a ring does not end where it begins", fix=_FIX)
    if not (np.abs(ring) <= (180, 90)).all():
        raise ConfigError(f"{where}: a position lies outside ±180, ±90 degrees", fix=_FIX)
    edges = np.hstack([ring[:-1], ring[1:]])
    edges = edges[edges[:, 1] != edges[:, 3]]
    northward = edges[:, 1] < edges[:, 3]
    oriented: _Floats = np.where(northward[:, None], edges, edges[:, [2, 3, 0, 1]])
    return oriented
