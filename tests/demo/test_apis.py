import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from demo.apis.weather import KEY


def test_both_apis_run_until_they_are_interrupted() -> None:
    command = [sys.executable, "-m", "demo.apis"]
    folder = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        bank, weather = process.stdout.readline().split(), process.stdout.readline().split()
        query = f"lat=1&lon=2&type=hour&start=0&end=7200&appid={KEY}"
        with urllib.request.urlopen(f"{weather[1]}/history/city?{query}") as answer:  # noqa: S310
            found = json.load(answer)
        process.terminate()
        assert process.wait(10) == 0
    assert (bank[0], weather[0]) == ("bank", "weather")
    assert [hour["dt"] for hour in found["list"]] == [0, 3600, 7200]
