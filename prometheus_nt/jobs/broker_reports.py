"""Keep what a broker said when books were compared with its account."""

import logging

from persistence import broker_reports
from persistence.broker_reports import BrokerReport
from prometheus_nt.domain.errors import StoreError
from prometheus_nt.jobs.stores import Stores

log = logging.getLogger(__name__)


def keep_report(stores: Stores, report: BrokerReport) -> None:
    """Record a report for the desk; a store that does not answer loses it, and never the evening.

    The comparison itself halts trading where it must: this is only what people see of it.
    """
    try:
        with stores.runtime.database.writer() as connection:
            broker_reports.keep(connection, report)
    except StoreError as away:
        log.warning("account=%s what it holds is not recorded: %s", report.account_id, away)
