"""The stream of server-sent events: what moves, as it moves."""

from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Request
from fastapi.responses import StreamingResponse

from prometheus_nt.monitoring.stream import EVENTS, Hub, TooManyListeners, valid_id

router = APIRouter(prefix="/api", tags=["stream"])

ALL = ",".join(EVENTS)

Topics = Annotated[
    str, Query(max_length=100, description=f"Of {', '.join(EVENTS)}, separated by commas.")
]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=100)]


@router.get("/stream", response_class=StreamingResponse)
async def stream(
    request: Request, topics: Topics = ALL, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Tell what moves from now on, or from after an event that was heard before."""
    asked = [topic.strip() for topic in topics.split(",") if topic.strip()]
    unknown = sorted(set(asked) - set(EVENTS))
    if unknown or not asked:
        raise HTTPException(422, f"topics: unknown {unknown}; known: {', '.join(EVENTS)}")
    if last_event_id is not None and not valid_id(last_event_id):
        raise HTTPException(422, f"Last-Event-ID: {last_event_id!r} is no id of this stream")
    hub: Hub = request.app.state.hub
    try:
        hub.require_place()
    except TooManyListeners as full:
        raise HTTPException(503, str(full)) from None
    return StreamingResponse(
        hub.listen(asked, last_event_id),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )
