"""Files that lack a declared column, or have it by another name."""

import unicodedata
from typing import Any

import pytest
from pydantic import ValidationError

from tests.raw.building import (
    DAY,
    FILE,
    FIRST,
    GOOD,
    NEXT,
    NEXT_FILE,
    Raw,
    csv_text,
    entity,
    errors,
    undated,
)

CHANNEL = {"name": "channel", "type": "string"}
NEWER = csv_text(["3,c,30,web"], "id,name,amount,channel")


def with_columns(*columns: dict[str, Any], **changes: Any) -> Any:
    plain = [column.model_dump(by_alias=True, exclude_unset=True) for column in entity().columns]
    return entity(columns=[*plain, *columns], **changes)


def test_a_column_that_came_later_is_null_in_the_files_before(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    raw.capture(DAY)
    raw.entity = with_columns(CHANNEL | {"since": NEXT})
    raw.deliver(NEXT_FILE, NEWER)
    window = raw.capture(DAY, NEXT)
    assert not window.failed
    assert raw.values("channel") == [None, None]
    assert raw.values("name") == ["a", "b"]
    assert raw.values("channel", NEXT) == ["web"]
    assert not raw.capture(DAY, NEXT).staged[DAY].files


def test_a_day_that_must_have_a_column_fails_without_it_and_names_the_remedy(raw: Raw) -> None:
    raw.entity = with_columns(CHANNEL | {"since": DAY})
    raw.deliver(FILE, GOOD)
    raw.deliver("orders/orders-2016-12-31.csv", GOOD)
    found = errors(raw.capture(FIRST, DAY))
    assert [*found] == [DAY]
    assert "column 'channel' is missing" in found[DAY]
    assert "since: …" in found[DAY]


@pytest.mark.parametrize(
    ("declared", "failed"),
    [({"until": NEXT}, [DAY]), ({"until": DAY}, []), ({"optional": True}, [])],
)
def test_a_column_may_go_or_never_be_sure(raw: Raw, declared: Any, failed: list[Any]) -> None:
    raw.entity = with_columns(CHANNEL | declared)
    raw.deliver(FILE, GOOD)
    raw.deliver(NEXT_FILE, GOOD)
    assert [*raw.capture(DAY, NEXT).failed] == failed


def test_a_column_that_the_source_renamed_is_read_by_both_names(raw: Raw) -> None:
    raw.entity = with_columns({"name": "total", "type": "int", "from": ["sum", "grand total"]})
    raw.deliver(FILE, csv_text(["1,a,10,7"], "id,name,amount,sum"))
    raw.deliver(NEXT_FILE, csv_text(["8,2,b,20"], "grand total,id,name,amount"))
    assert not raw.capture(DAY, NEXT).failed
    assert raw.values("total") == ["7"]
    assert [raw.values(c, NEXT) for c in ("total", "id", "amount")] == [["8"], ["2"], ["20"]]


def test_a_file_with_both_names_or_none_of_them_fails_with_the_names(raw: Raw) -> None:
    raw.entity = with_columns({"name": "total", "type": "int", "from": ["sum", "grand total"]})
    raw.deliver(FILE, csv_text(["1,a,10,7,7"], "id,name,amount,sum,grand total"))
    raw.deliver(NEXT_FILE, GOOD)
    found = errors(raw.capture(DAY, NEXT))
    assert "has sum and grand total, both of which are 'total'" in found[DAY]
    assert "none of sum, grand total, the names of 'total'" in found[NEXT]


def test_a_column_that_is_not_declared_is_refused_beside_one_that_is_absent(raw: Raw) -> None:
    raw.entity = with_columns(CHANNEL | {"optional": True})
    raw.deliver(FILE, csv_text(["1,a,10,x"], "id,name,amount,chanel"))
    assert "column 'chanel' is not declared" in errors(raw.capture())[DAY]


def test_names_are_compared_as_they_look(raw: Raw) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "Größe"), "Gro\u0308ße"
    raw.entity = with_columns({"name": "size", "type": "string", "from": [decomposed, "size"]})
    raw.deliver(FILE, csv_text(["1,a,10,L"], f"id,name,amount,{composed}"))
    raw.entity = with_columns({"name": "size", "type": "string", "from": ["size", composed]})
    raw.deliver(NEXT_FILE, csv_text(["1,a,10,M"], f"id,name,amount,{decomposed}"))
    assert not raw.capture(DAY, NEXT).failed
    assert (raw.values("size"), raw.values("size", NEXT)) == (["L"], ["M"])


def test_a_row_that_is_set_aside_keeps_its_texts_where_a_column_is_absent(raw: Raw) -> None:
    columns = [column.model_dump(by_alias=True, exclude_unset=True) for column in undated().columns]
    channel = CHANNEL | {"optional": True}
    extract = {"path": "orders/*.csv", "partition_by": "sold_at"}
    raw.entity = entity(columns=[*columns, channel], extract=extract)
    raw.deliver("orders/all.csv", csv_text(["1,1/1/2017 8:00", "2,never", "3,\0"], "id,sold_at"))
    raw.capture(DAY, FIRST)
    lost = {row["_corrupt_record"] for row in raw.rows(FIRST)}
    assert lost == {"2,never", "3,\0"}


def test_a_key_of_which_files_may_lack_a_part_needs_a_default() -> None:
    channel = CHANNEL | {"optional": True}
    with pytest.raises(ValidationError, match="would have no key"):
        with_columns(channel, key=["id", "channel"])
    with_columns(channel | {"default": "shop"}, key=["id", "channel"])
