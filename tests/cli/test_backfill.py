"""`headrace backfill`: the days that a command may name."""

import shutil
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from headrace.cli.backfill import run_backfill
from headrace.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "demo/files/config"


# Fourteen hours east and twelve hours west of Greenwich: one of the local days is not the UTC day.
@pytest.mark.parametrize("zone", ["Etc/GMT-14", "Etc/GMT+12"])
def test_partitions_without_an_end_exist_until_the_utc_day_in_every_time_zone(
    tmp_path: Path, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    settings = folder / "development.yaml"
    settings.write_text(settings.read_text().replace("  end: 2018-01-02\n", ""))
    monkeypatch.setenv("HEADRACE_CONFIG", str(folder))
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        with pytest.raises(ConfigError, match=rf"until {datetime.now(UTC).date()} \(exclusive\)"):
            run_backfill(date.max, date.max, select="group:raw", quiet=True)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
