import asyncio
import sys

from weather import UnknownCity, Weather

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/"


async def main():
    async with Weather(URL, api_key="tutorial") as weather:
        print("Quito:", await weather.celsius("Quito"))
        try:
            await weather.celsius("Atlantis")
        except UnknownCity as error:
            print("no such city:", error)
        await weather.report("Oslo", 8)
        print("reported")


asyncio.run(main())
