"""An engine's outage is no bad data: it is told from errors of rows, by real engines."""

from collections.abc import Callable, Sequence
from datetime import date

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from headrace.engine.outage import outage_of
from headrace.engine.partition_batches import stage_partition_batches
from headrace.engine.session import EngineUnavailableError
from headrace.errors import StorageUnavailableError, TransientError
from tests import servers

DAYS = [date(2017, 1, n) for n in range(1, 5)]


def error_of(ask: Callable[[SparkSession], object], spark: SparkSession) -> PySparkException:
    with pytest.raises(PySparkException) as caught:
        ask(spark)
    return caught.value


@pytest.mark.parametrize(
    "query",
    ["select cast('x' as int)", "select 1 / 0", "select nothing", "select make_date(2020, 13, 1)"],
)
def test_an_error_of_a_query_or_its_rows_is_no_outage(query: str) -> None:
    error = error_of(lambda spark: spark.sql(query).collect(), servers.sail())
    assert outage_of(error) is None


def test_storage_that_refuses_is_an_outage() -> None:
    error = error_of(lambda s: s.range(3).write.parquet("/proc/nothing/there"), servers.sail())
    assert isinstance(outage_of(error), StorageUnavailableError)


def test_an_engine_that_has_gone_is_an_outage_and_fails_no_day_by_itself() -> None:
    from pysail.spark import SparkConnectServer  # noqa: PLC0415

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    _, port = server.listening_address
    spark = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").create()
    spark.client.set_retry_policies([])
    assert spark.range(3).count() == 3
    server.stop()
    asked: list[list[date]] = []

    def stage(days: Sequence[date]) -> int:
        asked.append([*days])
        return int(spark.range(3).count())

    with pytest.raises(TransientError) as caught:
        stage_partition_batches(None, [DAYS], stage)
    assert isinstance(caught.value, EngineUnavailableError)
    assert asked == [DAYS], "nothing was halved"


def test_a_slice_whose_rows_break_a_query_is_halved_until_the_day_is_found() -> None:
    spark = servers.sail()

    def stage(days: Sequence[date]) -> list[date]:
        chosen = [*days]
        spark.sql(f"select cast('{'x' if DAYS[2] in chosen else 1}' as int)").collect()
        return chosen

    staged, failed = stage_partition_batches(None, [DAYS], stage)
    assert sorted(day for some in staged for day in some) == [DAYS[0], DAYS[1], DAYS[3]]
    assert list(failed) == [DAYS[2]]
    assert "'x'" not in failed[DAYS[2]]
