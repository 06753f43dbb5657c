from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

# The frames are tiny and the plans are large: to compile each costs Spark more than all the rest.
_INTERPRETED = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}


@pytest.fixture
def spark_jvm(spark_jvm: SparkSession) -> Iterator[SparkSession]:
    """Spark that interprets its plans; engine/ has the functions compiled."""
    for name, value in _INTERPRETED.items():
        spark_jvm.conf.set(name, value)
    yield spark_jvm
    for name in _INTERPRETED:
        spark_jvm.conf.unset(name)
