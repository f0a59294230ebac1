"""Two CSV exports of a small shop, with columns that adbeam does not know: python examples/own_log/write_log.py FOLDER

`orders.csv` has a row an event (shown, tap, order), `shelf.csv` a row an ad. Visitors return to a shelf of their own,
so there is something to learn.
"""

import csv
import datetime
import random
import sys
from collections.abc import Sequence
from pathlib import Path

START = datetime.datetime(2025, 3, 1, tzinfo=datetime.UTC)
SHELVES = ("shoes", "jackets", "hats", "tents")
ADS, VISITORS, VISITS = 80, 60, 1500


def main(folder: Path) -> None:
    """Write both files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    shelf = [[f"A{n}", f"{SHELVES[n % 4]} no {n}", SHELVES[n % 4], f"maker {n % 7}", 10 + n] for n in range(ADS)]
    rows = []
    for visit in range(VISITS):
        visitor = draw.randrange(VISITORS)
        moment = START + datetime.timedelta(days=30) * visit / VISITS
        shown, tapped, ordered = (draw.randrange(ADS // 4) * 4 + visitor % 4 for _ in range(3))
        for second, (item, what) in enumerate(((shown, "shown"), (tapped, "tap"), (ordered, "order"))):
            paid = 10 + item if what == "order" else ""
            at = (moment + datetime.timedelta(seconds=second)).isoformat()
            rows.append([f"v{visitor}", at, f"A{item}", what, paid, f"visit-{visit}", "home"])
    write(folder / "shelf.csv", ["ad", "name", "group", "maker", "typical_price"], shelf)
    write(folder / "orders.csv", ["who", "when", "ad", "what", "paid", "visit", "surface"], rows)
    print(f"wrote {len(rows)} events of {ADS} ads into {folder}")


def write(path: Path, header: list[str], rows: Sequence[Sequence[object]]) -> None:
    """A CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/log"))
