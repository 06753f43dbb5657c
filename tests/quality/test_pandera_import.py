import subprocess
import sys

import pytest

PROGRAM = """
import sys
{before}
from headrace.quality.pandera_import import pandera
import pandas
pandera.DataFrameSchema({{"a": pandera.Column("int64")}}).validate(pandas.DataFrame({{"a": [1]}}))
print(*(name for name in ("hypothesis", "pyspark.pandas") if name in sys.modules))
import hypothesis, pyspark.pandas
"""


@pytest.mark.parametrize(("before", "found"), [("", ""), ("import hypothesis", "hypothesis")])
def test_pandera_validates_without_importing_what_it_does_not_use(before: str, found: str) -> None:
    program = PROGRAM.format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, found), done.stderr
