"""Back both databases up, and put a backup back in its place."""

import logging
from pathlib import Path

from persistence.backup import Backup, back_up, restore
from prometheus_nt.settings import Settings

log = logging.getLogger(__name__)


def back_up_databases(settings: Settings, folder: Path | None) -> list[Backup]:
    """Copy both databases into a folder; one that holds both schemas is copied once.

    Parameters
    ----------
    folder : Path or None
        None is `backups` in the home folder.
    """
    into = folder or settings.home / "backups"
    urls = {"historical": settings.historical_url, "runtime": settings.runtime_url}
    if settings.historical_url == settings.runtime_url:
        urls = {"prometheus": settings.runtime_url}
    made = [back_up(url, name, into) for name, url in urls.items()]
    for one in made:
        log.info("database=%s file=%s bytes=%s backed up", one.name, one.path.name, one.bytes)
    return made


def restore_backup(settings: Settings, file: Path, *, force: bool) -> list[str]:
    """Put a backup in the place of the database whose schema it holds; return the schemas."""
    urls = {"historical": settings.historical_url, "runtime": settings.runtime_url}
    held = restore(file, urls, force=force)
    log.warning("databases=%s file=%s restored", ",".join(held), file.name)
    return held
