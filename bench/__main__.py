"""`python -m bench NAME [options]`: run one of the measurements."""

import importlib
import sys

MEASUREMENTS = {
    "server": "aiorest_ws against other WebSocket servers",
    "rest": "networkpype's REST calls against bare aiohttp",
    "websocket": "networkpype's WebSocket against bare aiohttp",
    "throttler": "networkpype's throttler",
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in MEASUREMENTS:
        print("usage: python -m bench NAME [options]; NAME is one of")
        for each, what in MEASUREMENTS.items():
            print(f"  {each:10} {what}")
        sys.exit(0 if name in {"-h", "--help"} else 2)
    del sys.argv[1]
    importlib.import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main()
