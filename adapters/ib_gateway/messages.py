"""Every message that the simulator sends, as a table: name, number and fields."""

from collections.abc import Mapping
from typing import Any

from adapters.ib_gateway.wire import UNSET_DOUBLE, Layout, names

CONTRACT = "conId symbol secType lastTrade strike right multiplier exchange currency localSymbol "
CONTRACT += "tradingClass "

NO_EXPIRY: Mapping[str, Any] = {"lastTrade": "", "strike": 0.0, "right": "", "multiplier": ""}

_OFFSETS = ">=170( minTradeQty minCompeteSize competeOffset midOffsetAtWhole midOffsetAtHalf )"

_OPEN_ORDER = f"""
orderId {CONTRACT} action totalQuantity orderType lmtPrice auxPrice tif ocaGroup account openClose
origin orderRef clientId permId outsideRth hidden discretionaryAmt goodAfterTime sharesAllocation
faGroup faMethod faPercentage <177( faProfile ) modelCode goodTillDate rule80A percentOffset
settlingFirm shortSaleSlot designatedLocation exemptCode auctionStrategy startingPrice stockRefPrice
delta stockRangeLower stockRangeUpper displaySize blockOrder sweepToFill allOrNone minQty ocaType
eTradeOnly firmQuoteOnly nbboCap parentId triggerMethod volatility volatilityType
deltaNeutralOrderType deltaNeutralAuxPrice
?deltaNeutralOrderType( deltaNeutralConId deltaNeutralFirm deltaNeutralAccount deltaNeutralIntent
deltaNeutralOpenClose deltaNeutralShort deltaNeutralSlot deltaNeutralLocation )
continuousUpdate referencePriceType trailStopPrice trailingPercent basisPoints basisPointsType
comboDescription legs*( legConId ) legPrices*( price ) smart*( tag value )
scaleInit scaleSubs scaleIncrement hedgeType optOutSmart clearingAccount clearingIntent notHeld
deltaNeutral algoStrategy ?algoStrategy( algoParams*( tag value ) ) solicited whatIf status
initMarginBefore maintMarginBefore equityBefore initMarginChange maintMarginChange equityChange
initMarginAfter maintMarginAfter equityAfter commission minCommission maxCommission
commissionCurrency warningText randomizeSize randomizePrice conditions*( condition )
adjustedOrderType triggerPrice trailStop lmtPriceOffset adjustedStop adjustedStopLimit
adjustedTrailing adjustableUnit tierName tierValue tierDisplay cashQty dontUseAutoPrice isOms
discretionaryUpToLimit usePriceMgmtAlgo >=158( duration ) >=160( postToAts )
>=162( autoCancelParent ) {_OFFSETS} >=183( customerAccount ) >=184( professional )
>=185( bondAccruedInterest )
"""

_COMPLETED_ORDER = f"""
{CONTRACT} action totalQuantity orderType lmtPrice auxPrice tif ocaGroup account openClose origin
orderRef permId outsideRth hidden discretionaryAmt goodAfterTime faGroup faMethod faPercentage
<177( faProfile ) modelCode goodTillDate rule80A percentOffset settlingFirm shortSaleSlot
designatedLocation exemptCode startingPrice stockRefPrice delta stockRangeLower stockRangeUpper
displaySize sweepToFill allOrNone minQty ocaType triggerMethod volatility volatilityType
deltaNeutralOrderType deltaNeutralAuxPrice
?deltaNeutralOrderType( deltaNeutralConId deltaNeutralShort deltaNeutralSlot deltaNeutralLocation )
continuousUpdate referencePriceType trailStopPrice trailingPercent comboDescription
legs*( legConId ) legPrices*( price ) smart*( tag value ) scaleInit scaleSubs scaleIncrement
hedgeType clearingAccount clearingIntent notHeld deltaNeutral
algoStrategy ?algoStrategy( algoParams*( tag value ) ) solicited status randomizeSize randomizePrice
conditions*( condition ) trailStop lmtPriceOffset cashQty dontUseAutoPrice isOms autoCancelDate
filledQuantity refFuturesConId autoCancelParent shareholder imbalanceOnly routeMarketable
parentPermId completedTime completedStatus {_OFFSETS} >=183( customerAccount )
>=184( professional )
"""

_CONTRACT_DATA = """
<164( '8' ) reqId symbol secType lastTrade >=182( lastTradeDate ) strike right exchange currency
localSymbol marketName tradingClass conId minTick <164( '100' ) multiplier orderTypes validExchanges
priceMagnifier underConId longName primaryExchange contractMonth industry category subcategory
timeZoneId tradingHours liquidHours evRule evMultiplier secIds*( tag value ) aggGroup underSymbol
underSecType marketRuleIds realExpiration stockType >=163( <164( sizeIncrement ) )
>=164( minSize sizeIncrement suggestedSize ) >=186( reasons*( reasonId reason ) )
"""

ORDER_DEFAULTS: Mapping[str, Any] = {
    **NO_EXPIRY,
    **dict.fromkeys(
        names(
            "ocaGroup openClose orderRef goodAfterTime sharesAllocation faGroup faMethod "
            "faPercentage faProfile modelCode goodTillDate rule80A settlingFirm designatedLocation "
            "deltaNeutralFirm deltaNeutralAccount deltaNeutralIntent deltaNeutralLocation "
            "comboDescription hedgeType clearingAccount algoStrategy commissionCurrency "
            "warningText tierName tierValue tierDisplay customerAccount bondAccruedInterest "
            "autoCancelDate shareholder completedTime completedStatus"
        ),
        "",
    ),
    **dict.fromkeys(
        names(
            "origin outsideRth hidden discretionaryAmt shortSaleSlot auctionStrategy blockOrder "
            "sweepToFill allOrNone eTradeOnly firmQuoteOnly parentId triggerMethod volatilityType "
            "deltaNeutralConId deltaNeutralShort deltaNeutralSlot continuousUpdate "
            "referencePriceType optOutSmart notHeld deltaNeutral solicited whatIf randomizeSize "
            "randomizePrice cashQty dontUseAutoPrice isOms discretionaryUpToLimit "
            "usePriceMgmtAlgo autoCancelParent refFuturesConId imbalanceOnly routeMarketable "
            "parentPermId professional adjustableUnit"
        ),
        0,
    ),
    **dict.fromkeys(
        names(
            "percentOffset startingPrice stockRefPrice delta stockRangeLower stockRangeUpper "
            "nbboCap volatility deltaNeutralAuxPrice trailStopPrice trailingPercent basisPoints "
            "basisPointsType minQty scaleInit scaleSubs scaleIncrement duration postToAts "
            "minTradeQty minCompeteSize competeOffset midOffsetAtWhole midOffsetAtHalf lmtPrice "
            "auxPrice displaySize"
        ),
        None,
    ),
    **dict.fromkeys(
        names(
            "initMarginBefore maintMarginBefore equityBefore initMarginChange maintMarginChange "
            "equityChange initMarginAfter maintMarginAfter equityAfter commission minCommission "
            "maxCommission triggerPrice trailStop lmtPriceOffset adjustedStop adjustedStopLimit "
            "adjustedTrailing"
        ),
        UNSET_DOUBLE,
    ),
    "right": "?",
    "exemptCode": -1,
    "ocaType": 3,
    "clearingIntent": "IB",
    "adjustedOrderType": "None",
    # A real gateway sends this word for every order, and the eight fields it announces.
    "deltaNeutralOrderType": "None",
    "deltaNeutralOpenClose": "?",
}
"""What a plain stock order shows in the fields that it does not use."""

_CONTRACT_DEFAULTS: Mapping[str, Any] = {
    **NO_EXPIRY,
    **dict.fromkeys(
        names(
            "lastTradeDate contractMonth industry category subcategory evRule underSymbol "
            "underSecType realExpiration"
        ),
        "",
    ),
    "evMultiplier": 0,
    "aggGroup": 1,
    "priceMagnifier": 1,
    "underConId": 0,
}

MESSAGES: Mapping[str, Layout] = {
    "tickPrice": Layout(1, "'6' reqId tickType price size attributes"),
    "tickSize": Layout(2, "'6' reqId tickType size"),
    "orderStatus": Layout(
        3,
        "orderId status filled remaining avgPrice permId parentId lastPrice clientId whyHeld "
        "mktCapPrice",
        {"parentId": 0, "whyHeld": "", "mktCapPrice": 0.0},
    ),
    "error": Layout(
        4, "'2' reqId code errorText >=166( advancedJson )", {"reqId": -1, "advancedJson": ""}
    ),
    "openOrder": Layout(5, _OPEN_ORDER, ORDER_DEFAULTS),
    "accountValue": Layout(6, "'2' key value currency account"),
    "portfolio": Layout(
        7,
        f"'8' {CONTRACT} position marketPrice marketValue averageCost unrealized realized account",
        NO_EXPIRY,
    ),
    "accountTime": Layout(8, "'1' time"),
    "nextValidId": Layout(9, "'1' orderId"),
    "contractData": Layout(10, _CONTRACT_DATA, _CONTRACT_DEFAULTS),
    "execution": Layout(
        11,
        f"reqId orderId {CONTRACT} execId time account execExchange side shares price permId "
        "clientId liquidation cumQty avgPrice orderRef evRule evMultiplier modelCode "
        "lastLiquidity >=178( pendingRevision )",
        {
            **NO_EXPIRY,
            "reqId": -1,
            "liquidation": 0,
            "evRule": "",
            "evMultiplier": "",
            "modelCode": "",
            "pendingRevision": 0,
        },
    ),
    "managedAccounts": Layout(15, "'1' accounts"),
    "historicalData": Layout(
        17, "reqId start end bars*( date open high low close volume wap count )"
    ),
    "tickString": Layout(46, "'6' reqId tickType text"),
    "currentTime": Layout(49, "'1' epoch"),
    "realTimeBar": Layout(50, "'3' reqId epoch open high low close volume wap count"),
    "contractDataEnd": Layout(52, "'1' reqId"),
    "openOrderEnd": Layout(53, "'1'"),
    "accountDownloadEnd": Layout(54, "'1' account"),
    "executionEnd": Layout(55, "'1' reqId"),
    "tickSnapshotEnd": Layout(57, "'1' reqId"),
    "marketDataType": Layout(58, "'1' reqId type"),
    "commissionReport": Layout(
        59,
        "'1' execId commission currency realized yield yieldDate",
        {"yield": UNSET_DOUBLE, "yieldDate": ""},
    ),
    "position": Layout(61, f"'3' account {CONTRACT} position averageCost", NO_EXPIRY),
    "positionEnd": Layout(62, "'1'"),
    "accountSummary": Layout(63, "'1' reqId account tag value currency"),
    "accountSummaryEnd": Layout(64, "'1' reqId"),
    "positionMulti": Layout(
        71, f"'1' reqId account {CONTRACT} position averageCost modelCode", NO_EXPIRY
    ),
    "positionMultiEnd": Layout(72, "'1' reqId"),
    "accountUpdateMulti": Layout(73, "'1' reqId account modelCode key value currency"),
    "accountUpdateMultiEnd": Layout(74, "'1' reqId"),
    "softDollarTiers": Layout(77, "reqId tiers*( name value display )"),
    "familyCodes": Layout(78, "codes*( account code )"),
    "symbolSamples": Layout(
        79,
        "reqId samples*( conId symbol secType primaryExchange currency derivatives*( secType ) "
        ">=176( description issuerId ) )",
    ),
    "depthExchanges": Layout(80, "exchanges*( exchange )"),
    "tickReqParams": Layout(81, "reqId minTick bboExchange permissions"),
    "newsProviders": Layout(85, "providers*( code name )"),
    "headTimestamp": Layout(88, "reqId timestamp"),
    "historicalDataUpdate": Layout(90, "reqId count date open close high low wap volume"),
    "marketRule": Layout(93, "ruleId increments*( lowEdge increment )"),
    "pnl": Layout(94, "reqId daily unrealized realized"),
    "pnlSingle": Layout(95, "reqId position daily unrealized realized value"),
    "tickByTick": Layout(
        99,
        "reqId tickType epoch ?last( price size mask exchange conditions ) "
        "?bidAsk( bid ask bidSize askSize mask ) ?midpoint( middle )",
        {"last": 0, "bidAsk": 0, "midpoint": 0},
    ),
    "completedOrder": Layout(101, _COMPLETED_ORDER, ORDER_DEFAULTS),
    "completedOrdersEnd": Layout(102, ""),
    "historicalSchedule": Layout(106, "reqId start end timeZone sessions*( start end refDate )"),
    "userInfo": Layout(107, "reqId whiteBrandingId"),
}
"""Name of a message -> its layout."""


def encode(name: str, values: Mapping[str, Any], version: int) -> bytes:
    """Return the payload of message `name` for a connection of `version`."""
    return MESSAGES[name].encode(values, version)
