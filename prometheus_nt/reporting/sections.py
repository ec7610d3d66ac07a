"""A page of cards: a banner, what the numbers rest on, then one section after another."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from prometheus_nt.domain.record import SessionArray
from prometheus_nt.reporting.charts import Chart, Figure, Unavailable
from prometheus_nt.reporting.page import render_page
from prometheus_nt.reporting.tables import Table


@dataclass(frozen=True)
class Section:
    """One card of the page: its charts and tables, in order."""

    anchor: str
    title: str
    caption: str
    parts: tuple[Chart | Table, ...]
    half_width: bool = False


def render_sections(
    *,
    title: str,
    banner: str,
    notes: Sequence[str],
    sections: Sequence[Section],
    sessions: SessionArray,
) -> str:
    """Return one self-contained HTML page; it fetches nothing.

    Parameters
    ----------
    title : str
        Plain text.
    banner : str
        HTML of the page's head.
    notes : sequence of str
        What a reader must know before believing a number; plain text.
    sessions : (T,) array
        The axis that the figures share.
    """
    figures = [part for section in sections for part in section.parts if isinstance(part, Figure)]
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    rests_on = f"<aside><h2>What these numbers rest on</h2><ul>{items}</ul></aside>"
    body = (
        f'{banner}<div class="wide">{_navigation(sections)}<main>{rests_on}'
        f"{''.join(map(_card, sections))}</main><footer>{escape(title)}</footer></div>"
    )
    days = sessions.astype("datetime64[D]").astype(str).tolist()
    return render_page(title, body, days, figures)


def _navigation(sections: Sequence[Section]) -> str:
    links = "".join(f'<a href="#{part.anchor}">{part.title}</a>' for part in sections)
    return f'<nav aria-label="Sections">{links}</nav>'


def _card(section: Section) -> str:
    kind = ' class="half"' if section.half_width else ""
    return (
        f'<section id="{section.anchor}"{kind} aria-labelledby="title-{section.anchor}">'
        f"{''.join(map(_switch, section.parts))}"
        f'<h2 id="title-{section.anchor}">{section.title}</h2>'
        f'<p class="caption">{section.caption}</p>{"".join(map(_part, section.parts))}</section>'
    )


def _part(part: Chart | Table) -> str:
    match part:
        case Figure(name=name, label=label):
            return f'<div class="chart" id="chart-{name}" role="img" aria-label="{label}"></div>'
        case Unavailable(reason=reason):
            return f'<p class="missing">Not available: {reason}.</p>'
        case _:
            return part


def _switch(part: Chart | Table) -> str:
    if not isinstance(part, Figure) or not part.can_be_logarithmic:
        return ""
    return (
        f'<div class="switch"><button type="button" data-figure="{part.name}" '
        'aria-pressed="false">Log scale</button></div>'
    )
