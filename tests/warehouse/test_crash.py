"""Loads that are killed or cut off leave the old state, and the next load cleans up."""

import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from headrace.errors import PermanentError, WarehouseUnavailableError
from headrace.warehouse.sessions import Session, connection_factory
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import FACT, arrow, day, load, published, rows_of, sales, staging_tables
from tests.warehouse.test_visibility import polling

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parents[2]

# Loads two months that do not exist and one that does, and says where it is.
LOADER = """
import sys, time
from headrace.warehouse.warehouse import Warehouse
from headrace.warehouse.sessions import connection_factory
from tests.warehouse.sales import FACT, arrow, day, sales

url, point = sys.argv[1:]

def here(name):
    if name == point:
        print(name, flush=True)
        time.sleep(60)

def slices():
    for number in (0, 40, 70):
        on = day(number)
        def batches(on=on, number=number):
            for batch in arrow(FACT, sales(on, 500, "2.00")).to_batches(max_chunksize=50):
                yield batch
                if number == 40:
                    here("copying")
        import pyarrow as pa
        yield [on], pa.RecordBatchReader.from_batches(FACT.schema.arrow(), batches())

warehouse = Warehouse(connection_factory(url))
load = warehouse.stage(FACT, [day(0), day(40), day(70)], slices())
here("staged")
warehouse.publish([load], before_commit=lambda session, changes: here("publishing"))
"""


@pytest.mark.parametrize("point", ["copying", "staged", "publishing"])
def test_a_killed_load_leaves_the_old_state_and_the_next_one_cleans_up(
    url: str, warehouse: Warehouse, session: Session, point: str
) -> None:
    before = {day(0): sales(day(0), 3)}
    load(warehouse, before)
    counts = "select count(*), sum(amount) from warehouse.fact_sales"
    with polling(url, counts) as seen:
        with subprocess.Popen(
            [sys.executable, "-c", LOADER, url, point], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as loader:
            assert loader.stdout is not None
            assert loader.stdout.readline().strip() == point
            # The transaction of a COPY has not committed its staging table yet.
            assert is_copying(session) if point == "copying" else staging_tables(session)
            loader.kill()
        assert published(session) == rows_of(before)
        wait_until_alone(session)
        after = {day(0): sales(day(0), 1, "3.00"), day(40): sales(day(40), 1)}
        load(warehouse, after)
    assert seen <= {(3, Decimal("3.00")), (2, Decimal("4.00"))}
    assert published(session) == rows_of(after)
    assert staging_tables(session) == []


def test_a_load_does_not_clean_up_after_the_living(warehouse: Warehouse, session: Session) -> None:
    days = {day(0): sales(day(0), 3)}
    rows = arrow(FACT, days[day(0)])
    waiting = warehouse.stage(FACT, days, [(days, rows.to_reader())])
    load(warehouse, {day(1): sales(day(1), 1)})
    warehouse.publish([waiting])
    assert published(session) == rows_of(days | {day(1): sales(day(1), 1)})


def test_what_cannot_be_cleaned_up_does_not_keep_others_from_loading(
    url: str, warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, {})
    session.execute(
        'create table staging."0123456789ab_0000_held" (); create table staging.of_somebody ();'
        'create table staging."ba9876543210_0000_free" ()'
    )
    with psycopg.connect(url) as other:
        other.execute('lock table staging."0123456789ab_0000_held"')
        load(warehouse, {day(0): sales(day(0), 1)})
    assert sorted(staging_tables(session)) == ["0123456789ab_0000_held", "of_somebody"]
    load(warehouse, {day(0): sales(day(0), 2)})
    assert staging_tables(session) == ["of_somebody"]


def test_a_lost_connection_is_transient_and_changes_nothing(
    url: str, warehouse: Warehouse, session: Session
) -> None:
    before = {day(0): sales(day(0), 3)}
    load(warehouse, before)

    def cut_off() -> Iterator[pa.RecordBatch]:
        batch = arrow(FACT, sales(day(0), 100)).to_batches()[0]
        yield batch
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name = 'headrace'"
                " and query like 'copy %'"
            )
        while True:  # until the sender notices
            yield batch

    reader = pa.RecordBatchReader.from_batches(FACT.schema.arrow(), cut_off())
    with pytest.raises(WarehouseUnavailableError, match=r"staging warehouse\.fact_sales"):
        warehouse.stage(FACT, [day(0)], [([day(0)], reader)])
    assert published(session) == rows_of(before)
    assert staging_tables(session) == []
    load(warehouse, {day(0): []})
    assert published(session) == []


def test_an_error_of_the_source_is_raised_as_it_is(warehouse: Warehouse, session: Session) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield arrow(FACT, sales(day(0), 100)).to_batches()[0]
        raise LookupError("the file is gone")

    good = arrow(FACT, sales(day(40), 10))
    reader = pa.RecordBatchReader.from_batches(FACT.schema.arrow(), broken())
    with pytest.raises(LookupError, match="the file is gone"):
        warehouse.stage(
            FACT, [day(0), day(40)], [([day(0)], reader), ([day(40)], good.to_reader())]
        )
    assert staging_tables(session) == []


def test_a_server_that_is_not_there_is_transient() -> None:
    nowhere = Warehouse(connection_factory("postgresql://postgres@/none?host=/nonexistent"))
    with pytest.raises(WarehouseUnavailableError, match="cannot connect"):
        nowhere.stage(FACT, [day(0)], [])


def test_a_disk_that_fills_up_during_copy_changes_nothing_and_says_what_to_do(
    warehouse: Warehouse, session: Session
) -> None:
    before = {day(0): sales(day(0), 3)}
    load(warehouse, before)
    # No small disk can be had everywhere: the server says of the 500th row what it would say then.
    session.execute(
        """
        create function no_space() returns trigger language plpgsql as $$
        begin
            if new.product_key = 500 then
                raise 'could not extend file: No space left on device' using errcode = '53100';
            end if;
            return new;
        end $$;
        create function fill_up() returns event_trigger language plpgsql as $$
        declare made record;
        begin
            for made in select * from pg_event_trigger_ddl_commands() where schema_name = 'staging'
            loop
                execute format('create trigger full_disk before insert on %s for each row'
                    ' execute function no_space()', made.object_identity);
            end loop;
        end $$;
        create event trigger full_disk on ddl_command_end when tag in ('CREATE TABLE')
            execute function fill_up()
        """
    )
    after = {day(0): sales(day(0), 600)}
    with pytest.raises(PermanentError, match=r"staging warehouse\.fact_sales.*No space") as failed:
        load(warehouse, after)
    assert "free disk space" in failed.value.fix
    assert published(session) == rows_of(before)
    assert staging_tables(session) == []
    session.execute("drop event trigger full_disk")
    load(warehouse, after)
    assert published(session) == rows_of(after)


def is_copying(session: Session) -> bool:
    """Whether a load is in the middle of a COPY into a staging table."""
    return bool(
        session.execute(
            "select from pg_stat_activity where datname = current_database()"
            " and application_name = 'headrace' and state = 'active' and query like 'copy %'"
        ).rowcount
    )


def wait_until_alone(session: Session) -> None:
    """Until the server noticed that the killed client is gone."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        rows = session.execute(
            "select 1 from pg_stat_activity where datname = current_database()"
            " and application_name = 'headrace'"
        ).fetchall()
        if not rows:
            return
        time.sleep(0.05)
    raise TimeoutError
