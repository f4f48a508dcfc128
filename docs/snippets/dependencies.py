"""One database session for each call."""

from collections.abc import AsyncIterator
from typing import Annotated

from aiorest_ws import Application, Depends, Request, SimpleRouter

router = SimpleRouter()


class Session:
    """As your database library makes them."""

    async def count(self) -> int:
        return 3

    async def commit(self) -> None:
        """Keep what the call has changed."""

    async def rollback(self) -> None:
        """Undo it."""


async def get_session(request: Request) -> AsyncIterator[Session]:
    session = Session()
    try:
        yield session
    except BaseException:
        await session.rollback()
        raise
    await session.commit()


@router.get("/orders/count")
async def count(
    request: Request, session: Annotated[Session, Depends(get_session)]
) -> int:
    return await session.count()


app = Application(router=router)
