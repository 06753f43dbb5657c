"""Rows that are none of the entity's are accounted for, and judged by nobody."""

from datetime import date

from headrace.quality.partition_checks import row_balance
from headrace.quality.report import PartitionReport


def test_left_out_rows_are_part_of_the_balance() -> None:
    counts = {"rows_in": 10, "rows_out": 5, "quarantined": 1, "repeated": 1}
    assert row_balance(**counts, left_out=3).passed
    assert not row_balance(**counts, left_out=2).passed
    assert "3 left out" in row_balance(**counts, left_out=3).found


def test_left_out_rows_do_not_count_towards_quality() -> None:
    report = PartitionReport(date(2010, 12, 1), rows_in=10, rows_quarantined=1, rows_left_out=8)
    assert report.quality_score == 0.5
    nothing = PartitionReport(date(2010, 12, 1), rows_in=8, rows_left_out=8)
    assert nothing.quality_score == 1.0
