"""Hourly weather as OpenWeather's history API gives it: a key in the query, windows of seconds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from demo.apis.server import Answer, Request

KEY = "not-a-secret"
_HOUR = 3600
_FREEZING = 273.15
_MOST_HOURS = 24 * 31
_SKIES: Sequence[tuple[int, str]] = ((800, "Clear"), (803, "Clouds"), (500, "Rain"), (600, "Snow"))


@dataclass(frozen=True)
class Weather:
    """Answers as the API does; give it to an ApiServer.

    `GET /data/2.5/history/city?lat&lon&type=hour&start&end&appid`: `start` and `end` are seconds
    since 1970, `end` is included.

    Attributes:
        key: The key that requests must have; None: they need none.
    """

    key: str | None = KEY

    def __call__(self, request: Request) -> Answer:
        """The answer to a request."""
        if self.key is not None and request.query.get("appid") != self.key:
            return _error(401, "Invalid API key")
        if request.path != "/data/2.5/history/city" or request.query.get("type") != "hour":
            return _error(404, "Internal error")
        try:
            latitude, longitude = float(request.query["lat"]), float(request.query["lon"])
            start, end = int(request.query["start"]), int(request.query["end"])
        except (KeyError, ValueError):
            return _error(400, "wrong latitude, longitude, start or end")
        if not 0 <= end - start <= _MOST_HOURS * _HOUR:
            return _error(400, "wrong period")
        hours = range(-(-start // _HOUR) * _HOUR, end + 1, _HOUR)
        found = [weather_of(latitude, longitude, at) for at in hours]
        return Answer({"message": "", "cod": "200", "cnt": len(found), "list": found})


def weather_of(latitude: float, longitude: float, at: int) -> dict[str, Any]:
    """The weather at a place in an hour, the same whenever it is asked for."""
    day, hour = divmod(at / _HOUR, 24)
    season = -math.cos((day % 365.25) / 365.25 * 2 * math.pi)
    daily = -math.cos((hour + longitude / 15 - 3) / 24 * 2 * math.pi)
    kelvin = 283.15 + 10 * season + 5 * daily - (abs(latitude) - 45) / 2
    wave = math.sin(at / _HOUR / 37 + longitude) + math.sin(at / _HOUR / 11 + latitude)
    code, sky = _SKIES[0 if wave < 0 else 1 if wave < 1 else 2 if kelvin > _FREEZING else 3]
    found: dict[str, Any] = {
        "dt": at,
        "dt_iso": f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC",
        "main": {"temp": round(kelvin, 2), "pressure": 1013, "humidity": 60 + round(wave * 15)},
        "wind": {"speed": round(2 + abs(wave), 2), "deg": at // _HOUR * 7 % 360},
        "weather": [{"id": code, "main": sky, "description": sky.lower()}],
    }
    if sky in {"Rain", "Snow"}:
        found[sky.lower()] = {"1h": round(wave - 0.8, 2)}
    return found


def _error(code: int, message: str) -> Answer:
    return Answer({"cod": str(code), "message": message}, code)
