"""One more day of sales than the demo has: an earlier day's receipts with another date."""

import csv
from datetime import date
from pathlib import Path

# Above all numbers of the year, so that no receipt has two days.
_LATER_BASKETS = 10_000_000_000


def deliver_again(landing: Path, sold_on: date, day: date) -> Path:
    """Put the sales of `sold_on` into the landing folder once more, as those of `day`.

    The same lines at the same times of day, on receipts with new numbers. The file is complete
    when it appears under its name.

    Returns:
        The new file.
    """
    path = landing / _name(day)
    unfinished = path.with_name(f".{path.name}.unfinished")
    with (landing / _name(sold_on)).open(newline="") as given, unfinished.open("w") as taken:
        lines = csv.DictReader(given)
        writer = csv.DictWriter(taken, lines.fieldnames or (), lineterminator="\n")
        writer.writeheader()
        for line in lines:
            at = line["transaction_timestamp"].removeprefix(str(sold_on))
            basket = int(line["basket_id"]) + _LATER_BASKETS
            writer.writerow({**line, "basket_id": basket, "transaction_timestamp": f"{day}{at}"})
    return unfinished.replace(path)


def _name(day: date) -> str:
    return f"transactions/transactions-{day}.csv"
