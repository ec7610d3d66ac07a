"""Every request that a client may send, as a table: number, name and fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.ib_gateway.wire import Layout, Values, WireError, integer

CONTRACT = "conId symbol secType lastTrade strike right multiplier exchange primaryExchange "
CONTRACT += "currency localSymbol tradingClass "

_LEGS = "?combo( legs*( legConId ratio legAction legExchange ) ) "

_PLACE_ORDER = f"""
orderId {CONTRACT} secIdType secId action totalQuantity orderType lmtPrice auxPrice tif ocaGroup
account openClose origin orderRef transmit parentId blockOrder sweepToFill displaySize triggerMethod
outsideRth hidden
?combo( legs*( legConId ratio legAction legExchange legOpenClose legSlot legLocation legExempt )
legPrices*( price ) smart*( tag value ) )
sharesAllocation discretionaryAmt goodAfterTime goodTillDate faGroup faMethod faPercentage
<177( faProfile ) modelCode shortSaleSlot designatedLocation exemptCode ocaType rule80A settlingFirm
allOrNone minQty percentOffset eTradeOnly firmQuoteOnly nbboCap auctionStrategy startingPrice
stockRefPrice delta stockRangeLower stockRangeUpper overridePercentage volatility volatilityType
deltaNeutralOrderType deltaNeutralAuxPrice
?deltaNeutralOrderType( deltaNeutralConId deltaNeutralFirm deltaNeutralAccount deltaNeutralIntent
deltaNeutralOpenClose deltaNeutralShort deltaNeutralSlot deltaNeutralLocation )
continuousUpdate referencePriceType trailStopPrice trailingPercent scaleInit scaleSubs
scaleIncrement ?scaled( scaleAdjust scaleInterval scaleProfit scaleReset scalePosition scaleFilled
scaleRandom ) scaleTable activeStart activeStop hedgeType ?hedgeType( hedgeParam ) optOutSmart
clearingAccount clearingIntent notHeld deltaNeutral
?deltaNeutral( neutralConId neutralDelta neutralPrice )
algoStrategy ?algoStrategy( algoParams*( tag value ) ) algoId whatIf miscOptions solicited
randomizeSize randomizePrice
?pegBench( referenceConId pegDecrease pegAmount referenceAmount referenceExchange )
conditions*( )
adjustedOrderType triggerPrice lmtPriceOffset adjustedStop adjustedStopLimit adjustedTrailing
adjustableUnit extOperator tierName tierValue cashQty mifidDecider mifidDecisionAlgo mifidTrader
mifidExecutionAlgo dontUseAutoPrice isOms discretionaryUpToLimit usePriceMgmtAlgo
>=158( duration ) >=160( postToAts ) >=162( autoCancelParent ) >=166( advancedErrorOverride )
>=169( manualOrderTime )
>=170( ?atIbkrAts( minTradeQty ) ?pegBest( minCompeteSize competeOffset )
?offsets( midOffsetAtWhole midOffsetAtHalf ) )
>=183( customerAccount ) >=184( professional ) >=187( externalUserId manualIndicator )
"""

REQUESTS: Mapping[str, Layout] = {
    "reqMktData": Layout(
        1,
        f"version reqId {CONTRACT} {_LEGS} deltaNeutral ?deltaNeutral( neutralConId neutralDelta "
        "neutralPrice ) genericTicks snapshot regulatory options",
    ),
    "cancelMktData": Layout(2, "version reqId"),
    "placeOrder": Layout(3, _PLACE_ORDER),
    "cancelOrder": Layout(
        4,
        "version orderId >=169( manualTime ) >=187( extOperator externalUserId manualIndicator )",
    ),
    "reqOpenOrders": Layout(5, "version"),
    "reqAccountUpdates": Layout(6, "version subscribe account"),
    "reqExecutions": Layout(7, "version reqId clientId account time symbol secType exchange side"),
    "reqIds": Layout(8, "version count"),
    "reqContractDetails": Layout(
        9, f"version reqId {CONTRACT} includeExpired secIdType secId >=176( issuerId )"
    ),
    "reqAutoOpenOrders": Layout(15, "version bind"),
    "reqAllOpenOrders": Layout(16, "version"),
    "reqManagedAccts": Layout(17, "version"),
    "reqHistoricalData": Layout(
        20,
        f"reqId {CONTRACT} includeExpired endDateTime barSize duration useRTH whatToShow "
        f"formatDate {_LEGS} keepUpToDate options",
    ),
    "cancelHistoricalData": Layout(25, "version reqId"),
    "reqCurrentTime": Layout(49, "version"),
    "reqRealTimeBars": Layout(50, f"version reqId {CONTRACT} barSize whatToShow useRTH options"),
    "cancelRealTimeBars": Layout(51, "version reqId"),
    "reqGlobalCancel": Layout(58, "version"),
    "reqMarketDataType": Layout(59, "version type"),
    "reqPositions": Layout(61, "version"),
    "reqAccountSummary": Layout(62, "version reqId group tags"),
    "cancelAccountSummary": Layout(63, "version reqId"),
    "cancelPositions": Layout(64, "version"),
    "startApi": Layout(71, "version clientId capabilities"),
    "reqPositionsMulti": Layout(74, "version reqId account modelCode"),
    "cancelPositionsMulti": Layout(75, "version reqId"),
    "reqAccountUpdatesMulti": Layout(76, "version reqId account modelCode ledgerAndNLV"),
    "cancelAccountUpdatesMulti": Layout(77, "version reqId"),
    "reqSoftDollarTiers": Layout(79, "reqId"),
    "reqFamilyCodes": Layout(80, ""),
    "reqMatchingSymbols": Layout(81, "reqId pattern"),
    "reqMktDepthExchanges": Layout(82, ""),
    "reqNewsProviders": Layout(85, ""),
    "reqHeadTimestamp": Layout(87, f"reqId {CONTRACT} includeExpired useRTH whatToShow formatDate"),
    "cancelHeadTimestamp": Layout(90, "reqId"),
    "reqMarketRule": Layout(91, "ruleId"),
    "reqPnL": Layout(92, "reqId account modelCode"),
    "cancelPnL": Layout(93, "reqId"),
    "reqPnLSingle": Layout(94, "reqId account modelCode conId"),
    "cancelPnLSingle": Layout(95, "reqId"),
    "reqTickByTick": Layout(97, f"reqId {CONTRACT} tickType count ignoreSize"),
    "cancelTickByTick": Layout(98, "reqId"),
    "reqCompletedOrders": Layout(99, "apiOnly"),
    "reqUserInfo": Layout(104, "reqId"),
}

"""Name of a request -> its layout."""

_ID_POSITIONS = {"placeOrder": 0, "reqMktData": 1, "reqHistoricalData": 0, "reqContractDetails": 1}
"""Where the id is in requests that may be unreadable: an order with conditions is, for one."""

_BY_NUMBER = {layout.number: name for name, layout in REQUESTS.items()}


@dataclass(frozen=True)
class Refusal:
    """How a real gateway refuses a request that is not simulated.

    position : index of the request's id among its fields after the number; None if it has none.
    """

    code: int
    text: str
    position: int | None


REFUSED: Mapping[int, Refusal] = {
    10: Refusal(
        10092, "Deep market data is not supported for this combination of security type/exchange", 1
    ),
    18: Refusal(
        321,
        "Error validating request:-'cc' : cause - FA data operations ignored for non FA customers.",
        None,
    ),
    22: Refusal(
        162, "Historical Market Data Service error message:API scanner is not available", 0
    ),
    52: Refusal(430, "The fundamentals data for the security specified is not available", 1),
    54: Refusal(200, "No security definition has been found for the request", 1),
    55: Refusal(200, "No security definition has been found for the request", 1),
    78: Refusal(200, "No security definition has been found for the request", 0),
    84: Refusal(10276, "News feed is not allowed", 0),
    86: Refusal(10276, "News feed is not allowed", 0),
    88: Refusal(162, "Historical Market Data Service error message:HMDS query returned no data", 0),
    96: Refusal(162, "Historical Market Data Service error message:HMDS query returned no data", 0),
    100: Refusal(10276, "News feed is not allowed", 0),
    102: Refusal(10276, "News feed is not allowed", 0),
}
"""Number of a request that exists but is not simulated -> the answer it gets.

10 depth, 18 advisor data, 22 scanner, 52 fundamentals, 54 and 55 option calculations, 78 option
chains, 84 and 86 news, 88 histogram, 96 historical ticks, 100 and 102 corporate events.
"""

SILENT = frozenset({11, 12, 13, 14, 23, 53, 56, 57, 89, 101, 103})
"""Cancels and settings of what is never granted, to which a gateway does not answer."""


@dataclass(frozen=True)
class Request:
    """A request of a client: its name and its fields, as text."""

    name: str
    values: Values

    @property
    def req_id(self) -> int:
        """The id that an error about it must carry; -1 if it has none."""
        found = self.values.get("reqId", self.values.get("orderId", "-1"))
        return integer(str(found), -1)


class Unsupported(WireError):
    """A request that a gateway refuses, with the error it would send."""

    def __init__(self, req_id: int, code: int, text: str) -> None:
        super().__init__(f"request {req_id}: {code} {text}")
        self.req_id, self.code, self.text = req_id, code, text


def decode(fields: Sequence[str], version: int) -> Request | None:
    """Return the request that a message is; None if it asks for nothing.

    Raises
    ------
    Unsupported
        If the request is not simulated, with what a gateway answers.
    WireError
        If it cannot be read.
    """
    number = integer(fields[0], -1)
    rest = fields[1:]
    if number in SILENT:
        return None
    if number in REFUSED:
        refusal = REFUSED[number]
        raise Unsupported(_id_at(rest, refusal.position), refusal.code, refusal.text)
    name = _BY_NUMBER.get(number)
    if name is None:
        raise Unsupported(-1, 505, "Fatal Error: Unknown message id.")
    try:
        return Request(name, REQUESTS[name].decode(rest, version))
    except WireError as unreadable:
        req_id = _id_at(rest, _ID_POSITIONS.get(name))
        text = f"Server error when reading an API client request. {unreadable}"
        raise Unsupported(req_id, 320, text) from unreadable


def encode(name: str, values: Values, version: int) -> bytes:
    """Return the payload of a request, as a client of `version` sends it."""
    return REQUESTS[name].encode(values, version)


def _id_at(fields: Sequence[str], position: int | None) -> int:
    if position is None or len(fields) <= position:
        return -1
    return integer(fields[position], -1)
