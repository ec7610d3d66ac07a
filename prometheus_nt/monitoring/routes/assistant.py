"""The assistant: a question in words, an answer with the rows that say so."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from prometheus_nt.monitoring.answers import Answer, Part
from prometheus_nt.monitoring.assistant import TOOLS, Reply, Tool, missing, read, tool_for
from prometheus_nt.monitoring.desk import OurDesk

router = APIRouter(prefix="/api/kronos", tags=["assistant"])

CONFIDENT = 0.95
"""Confidence of a trial from which a change is of low risk, unless it lost something."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=1_000, strip_whitespace=True)]


class ChatContext(BaseModel):
    """What a question is about where it does not say so itself."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    as_of: str | None = Field(None, max_length=10)
    as_of_date: str | None = Field(None, max_length=10)
    instrument_id: str | None = Field(None, max_length=50)
    region: str | None = Field(None, max_length=32)
    strategy_id: str | None = Field(None, max_length=64)
    run_id: str | None = Field(None, max_length=96)


class Asked(BaseModel):
    """A question."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: Text
    context: ChatContext = ChatContext()


class Source(Part):
    """Where an answer comes from: the tool, its parameters, and the rows that it found."""

    tool: str
    query: dict[str, Any]
    rows: list[dict[str, Any]]


class ChatProposal(Part):
    """A proposal that waits for a decision; `POST /api/intelligence/proposals/{id}/approve`."""

    proposal_id: str
    action_type: str
    description: str
    parameters: dict[str, Any]
    risk_level: Literal["LOW", "HIGH"]


class Chat(Answer):
    """An answer. asked : the tool that was asked; null where none fits, or it lacks something."""

    answer: str
    asked: str | None
    sources: list[Source]
    proposals: list[ChatProposal]


@router.post("/chat")
def chat(desk: OurDesk, asked: Asked) -> Chat:
    """Answer a question from the stores; one that is not understood lists what can be asked."""
    context = asked.context.model_dump(exclude_none=True)
    question = read(asked.question, context, datetime.now(UTC).date())
    tool = tool_for(question)
    if tool is None:
        return _not_asked("No tool answers this.")
    lacks = missing(tool, question)
    if lacks:
        return _not_asked(f"{tool.name} needs {', '.join(lacks)}; for example: {tool.example}.")
    return _answered(tool, tool.ask(desk.stores, question))


def _not_asked(why: str) -> Chat:
    examples = "; ".join(tool.example for tool in TOOLS)
    return Chat(
        answer=f"{why} What can be asked: {examples}.",
        asked=None,
        sources=[],
        proposals=[],
        unknown={"asked": why},
    )


def _answered(tool: Tool, reply: Reply) -> Chat:
    query = _plain(dict(reply.query))
    rows = [_plain(dict(row)) for row in reply.rows]
    return Chat(
        answer=reply.text,
        asked=tool.name,
        sources=[Source(tool=tool.name, query=query, rows=rows)],
        proposals=[_proposal(row) for row in reply.proposals],
    )


def _proposal(row: dict[str, Any]) -> ChatProposal:
    calm = (row["expected_risk_reduction"] or 0.0) >= 0.0
    sure = (row["confidence_score"] or 0.0) >= CONFIDENT
    return ChatProposal(
        proposal_id=row["proposal_id"],
        action_type=row["proposal_type"],
        description=row["rationale"] or row["target_component"],
        parameters=_plain({row["target_component"]: row["proposed_value"]["value"]}),
        risk_level="LOW" if calm and sure else "HIGH",
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(values, default=_text))
    return found


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
