"""Serves both APIs until it is interrupted: `python -m demo.apis`."""

import signal
import sys

from demo.apis.bank import BRANCHES, CLIENT_ID, Bank, transactions_of
from demo.apis.server import ApiServer
from demo.apis.weather import Weather


def main() -> None:
    """Write the URLs, one a line, and wait for an interruption."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ApiServer(Bank(transactions_of, BRANCHES)) as bank, ApiServer(Weather()) as weather:
        sys.stdout.write(f"bank {bank.url}/v1 (token {bank.url}/oauth/token, id {CLIENT_ID})\n")
        sys.stdout.write(f"weather {weather.url}/data/2.5\n")
        sys.stdout.flush()
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
