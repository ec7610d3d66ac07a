"""The desk's own files: one page, its modules, and the chart library of the installed package."""

from pathlib import Path

import plotly
from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

STATIC = Path(__file__).parent.parent / "static"
CHARTS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def static_files() -> StaticFiles:
    """Return what serves the page's modules and style."""
    return StaticFiles(directory=STATIC)


@router.get("/")
def desk_page() -> FileResponse:
    """Return the page; everything on it is read from the interface."""
    return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})


@router.get("/api/docs")
@router.get("/api/redoc")
def interface_page() -> FileResponse:
    """Return the page that lists the interface; it reads our own OpenAPI document alone."""
    return FileResponse(STATIC / "docs.html", headers={"cache-control": "no-cache"})


@router.get("/static/vendor/plotly.min.js")
def charts() -> FileResponse:
    """Return the chart library, as the installed package has it."""
    return FileResponse(CHARTS, headers={"cache-control": "max-age=86400"})
