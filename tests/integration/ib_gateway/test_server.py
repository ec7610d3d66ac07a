"""The sockets: handshakes, faults of the transport, pace, limits and control."""

import asyncio
import json
import struct
from contextlib import asynccontextmanager

import pytest

from adapters.ib_gateway.control import Control
from adapters.ib_gateway.faults import read_rule
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.requests import REQUESTS, encode
from adapters.ib_gateway.server import Limits, Pace, Server, serving
from adapters.ib_gateway.wire import Frames, WireError, fields_of, frame
from prometheus_nt.domain.errors import ConfigError, VenueError
from tests.integration.ib_gateway.driver import PLAIN_ORDER
from tests.integration.ib_gateway.market import new_gateway

pytestmark = pytest.mark.integration

PATIENCE = 10


class Wire:
    """A client of plain bytes."""

    def __init__(self, reader, writer) -> None:
        self.reader, self.writer = reader, writer
        self.frames, self.waiting = Frames(), []

    async def offer(self, versions: str = "v157..187") -> list[str]:
        self.writer.write(b"API\0" + frame(versions.encode()))
        return await self.fields()

    async def begin(self, client_id: int = 1) -> None:
        await self.offer()
        self.send("startApi", version=2, clientId=client_id)
        while (await self.fields())[:1] != ["9"]:
            pass

    def send(self, name: str, **values) -> None:
        blank = dict.fromkeys(REQUESTS[name].field_names(), "")
        self.writer.write(frame(encode(name, blank | values, 187)))

    def place(self, order_id: int, **values) -> None:
        self.send("placeOrder", **(PLAIN_ORDER | {"orderId": order_id} | values))

    async def fields(self) -> list[str]:
        """Return the fields of the next message; EOFError at the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            while not self.waiting:
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self.waiting += self.frames.feed(data)
        return fields_of(self.waiting.pop(0))

    async def rest(self) -> list[list[str]]:
        """Return every message until the end of the stream."""
        found = []
        try:
            while True:
                found.append(await self.fields())
        except (EOFError, ConnectionResetError):
            return found


@asynccontextmanager
async def connected(server: Server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def serve(scenario, *faults: str, **options) -> None:
    async def run() -> None:
        server = Server(new_gateway(*faults), **options)
        async with serving(server), connected(server) as wire:
            await scenario(server, wire)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("cap", "offer", "agreed"), [(187, "v157..178", "178"), (178, "v100..225", "178")]
)
def test_the_handshake_agrees_on_a_version(cap, offer, agreed):
    async def scenario(server, wire):
        assert (await wire.offer(offer))[0] == agreed

    serve(scenario, version_cap=cap)


def test_a_client_that_speaks_no_common_version_is_let_go():
    async def scenario(server, wire):
        with pytest.raises(EOFError):
            await wire.offer("v200..225")

    serve(scenario)


def test_a_version_cap_out_of_range_is_refused():
    with pytest.raises(VenueError, match="version cap 201"):
        Server(new_gateway(), version_cap=201)


def test_a_connection_that_ends_before_the_acknowledgement_leaves_the_order_alive():
    async def scenario(server, wire):
        await wire.begin()
        wire.place(1, tif="OPG")
        said = await wire.rest()

        assert all(fields[0] == "4" for fields in said)
        assert len(server.gateway.book.open_orders()) == 1
        assert server.gateway.sessions == {}

    serve(scenario, "close")


def test_a_reset_is_felt_as_one():
    async def scenario(server, wire):
        await wire.begin()
        wire.place(1, tif="OPG")
        with pytest.raises(ConnectionResetError):
            while await wire.fields():
                pass

    serve(scenario, "reset")


def test_half_a_frame_is_all_that_comes():
    async def scenario(server, wire):
        await wire.begin()
        wire.place(1, tif="OPG")
        await wire.rest()

        assert wire.frames._bytes

    serve(scenario, "half_frame")


def test_a_length_of_two_gigabytes_is_a_broken_stream():
    async def scenario(server, wire):
        await wire.begin()
        wire.place(1, tif="OPG")
        with pytest.raises(WireError):
            await wire.rest()

    serve(scenario, "huge_length")


@pytest.mark.parametrize("fault", ["bytewise", "jitter:seconds=0.01", "burst:seconds=0.05"])
def test_slow_streams_keep_the_order_of_messages(fault):
    async def scenario(server, wire):
        await wire.begin()
        server.gateway.faults.add(read_rule(fault))
        server.perform(server.gateway.drain())
        for number in range(1, 21):
            wire.place(number, symbol=("AAPL", "IBM", "KO")[number % 3], tif="OPG")
        shown = []
        while len(shown) < 20:
            fields = await wire.fields()
            if fields[0] == "5":
                shown.append(int(fields[1]))

        assert shown == list(range(1, 21))

    serve(scenario)


def test_a_deaf_gateway_neither_reads_nor_writes():
    async def scenario(server, wire):
        await wire.begin()
        wire.place(1, tif="OPG")
        wire.place(2, tif="OPG")
        while not server.gateway.book.orders:
            await asyncio.sleep(0.005)
        for _ in range(20):
            await asyncio.sleep(0.005)

        assert len(server.gateway.book.orders) == 1
        assert 1 in server.gateway.sessions

    serve(scenario, "deaf")


def test_a_restart_cuts_everybody_off_and_comes_back_on_the_same_port():
    async def scenario(server, wire):
        await wire.begin()
        wire.place(1, tif="GTC", orderType="LMT", lmtPrice=50.0)
        await wire.rest()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    async with connected(server) as again:
                        await again.begin()
                        break
                except (ConnectionRefusedError, EOFError):
                    await asyncio.sleep(0.01)

        assert len(server.gateway.book.open_orders()) == 1

    serve(scenario, "restart:seconds=0.1")


def test_fifty_messages_pass_the_rest_are_lost_and_the_third_loss_ends_the_connection():
    async def scenario(server, wire):
        await wire.begin()
        for _ in range(55):
            wire.send("reqCurrentTime", version=1)
        said = await wire.rest()

        assert [fields[0] for fields in said].count("49") == 50
        assert [fields[3] for fields in said if fields[0] == "4"][-3:] == ["100", "100", "100"]

    serve(scenario)


def test_a_gateway_that_paces_answers_everything_in_order():
    async def scenario(server, wire):
        await wire.begin()
        for number in range(60):
            wire.send("reqMarketRule", ruleId=1000 + number)
        errors = []
        while len(errors) < 60:
            fields = await wire.fields()
            if fields[0] == "4" and fields[3] == "321":
                errors.append(fields)

        assert len(errors) == 60

    serve(scenario, "silent_pacing")


def test_a_taken_client_id_is_told_326_and_let_go():
    async def scenario(server, wire):
        await wire.begin(4)
        async with connected(server) as other:
            await other.offer()
            other.send("startApi", version=2, clientId=4)
            said = await other.rest()
        wire.send("reqCurrentTime", version=1)

        assert [fields[3] for fields in said] == ["326"]
        while (await wire.fields())[0] != "49":
            pass

    serve(scenario)


def test_noise_ends_a_connection_and_not_the_server():
    async def scenario(server, wire):
        wire.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await wire.rest() == []
        async with connected(server) as other:
            other.writer.write(b"API\0" + struct.pack(">I", 2**31 - 1))
            assert await other.rest() == []
        async with connected(server) as third:
            await third.begin()

    serve(scenario)


@pytest.mark.parametrize(
    ("pace", "limits", "reason"),
    [
        (Pace(), Limits(run_seconds=0.05), "0.05 seconds are over"),
        (Pace(), Limits(idle_seconds=0.05), "no client for 0.05 seconds"),
        (Pace("sessions", 0.03), Limits(), "the data end here"),
    ],
)
def test_a_server_ends_by_itself(pace, limits, reason):
    server = Server(new_gateway(), pace=pace, limits=limits)

    assert asyncio.run(server.run()) == reason
    if pace.kind == "sessions":
        assert server.gateway.clock.upcoming() is None


def test_the_control_port_moves_the_replay_injects_faults_and_stops():
    async def run() -> None:
        server = Server(new_gateway())
        control = Control(server)
        async with serving(server):
            reader, writer = await asyncio.open_connection("127.0.0.1", await control.start())

            async def ask(line: str) -> dict:
                writer.write(f"{line}\n".encode())
                return json.loads(await reader.readline())

            assert (await ask("status"))["stage"] == "closed"
            moved = await ask("advance open 2")
            assert (moved["session"], moved["stage"]) == ("2024-01-05", "open")
            assert (await ask("fault reject:code=110"))["open_orders"] == 0
            assert server.gateway.faults.rules[0].name == "reject"
            assert "unknown fault" in (await ask("fault nope"))["error"]
            assert "unknown command" in (await ask("jump"))["error"]
            await ask("stop")
            assert await server.wait() == "stopped by command"
            writer.close()
            await control.close()

    asyncio.run(run())


def test_a_control_command_with_two_stages_is_refused():
    with pytest.raises(ConfigError, match="a stage and a count"):
        Control(Server(new_gateway())).command("advance open closed")


def test_the_replay_does_not_move_unless_told():
    async def scenario(server, wire):
        await wire.begin()
        assert server.gateway.clock.stage is Stage.CLOSED
        assert server.advance(Stage.CLOSED, 8)
        assert not server.advance()

    serve(scenario)
