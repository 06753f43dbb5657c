"""Sales of a day after the demo's year: an earlier day's receipts with another date."""

import csv
from datetime import date
from pathlib import Path

# Added to basket numbers; larger than all of the year's, so that no receipt has two days.
_LATER_BASKETS = 10_000_000_000


def deliver_again(landing: Path, sold_on: date, day: date) -> Path:
    """Write the sales of `sold_on` to the landing folder again, as sales of `day`.

    Lines and times of day are the same; receipts have new numbers. The file is renamed when it is
    complete.

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
