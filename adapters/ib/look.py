"""A look at the broker's account beside a node that trades it: nothing can be sent from here."""

from collections.abc import Mapping

from adapters.ib.broker import Look, cash_of, shares_of
from adapters.ib.config import LinkParams
from adapters.ib.link import Link
from adapters.ib.provider import IbInstrumentProvider, MakeEquity
from adapters.ib.source import link_thread
from prometheus_nt.domain.instruments import BrokerContract

BESIDE = 5000
"""Added to the client id of the node, whose connection stays its own."""


def look_beside(
    params: LinkParams, wanted: Mapping[str, BrokerContract], equity: MakeEquity
) -> Look:
    """Return everybody's open orders, the positions and the cash of an account.

    Parameters
    ----------
    params : LinkParams
        Of the node that trades the account.
    wanted : mapping of store id to how the store names it to the broker
        Positions in them are called by their store id.
    equity : function that makes the node's instrument of a store id and a currency

    Raises
    ------
    LinkDown, NoAnswer
        If there is no gateway, or it does not answer.
    ConfigError
        If the gateway does not manage the account, or does not know an instrument.
    """
    beside = params.model_copy(update={"client_id": params.client_id + BESIDE})
    with link_thread(beside) as thread:
        provider = IbInstrumentProvider(thread.link, wanted, equity)
        return thread.run(_look(thread.link, provider, wanted))


async def _look(
    link: Link, provider: IbInstrumentProvider, wanted: Mapping[str, BrokerContract]
) -> Look:
    await provider.resolve(sorted(wanted))
    opened = await link.open_orders(of_everybody=True)
    positions = await link.positions()
    return Look(
        shares=shares_of(positions, provider),
        cash=await cash_of(link),
        open_refs=frozenset(row.order.orderRef for row in opened),
    )
