"""The test vectors are what the package does, and so do the readers of the pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from examples.servers import EXAMPLES
from realtime_ticket import InvalidTicket, TicketService, revocations, tickets
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.watches import LATE_TOLERANCE, TOLERANCE
from tests import matrix
from tests.docs.pages import DOCS, FENCES, ROOT, VECTORS, write_files
from tests.docs.programs import issue, needs_perl, run_node, run_perl
from tests.matrix import ROWS


@pytest.mark.parametrize("vector", VECTORS["tickets"], ids=lambda each: each["name"])
def test_vectors_are_what_the_package_does(vector: dict[str, Any]) -> None:
    value, audience, prefix = vector["value"], vector["audience"], vector["prefix"]
    assert tickets.value_format(prefix).fullmatch(value)
    key = tickets.storage_key(
        value, audience, prefix=prefix, hashed=vector["hash_keys"]
    )
    assert key == vector["key"]
    created, data = tickets.create(
        vector["claims"],
        value=value,
        audience=audience,
        issued_at=vector["iat"],
        expires_at=vector["exp"],
    )
    assert data == vector["data"]
    ticket = tickets.decode(data, value=value, audience=audience)
    assert ticket == created
    assert ticket.claims == vector["claims"]
    assert (ticket.issued_at, ticket.expires_at) == (vector["iat"], vector["exp"])


def test_a_big_id_is_stored_as_the_vector_says() -> None:
    vector = next(v for v in VECTORS["tickets"] if "would round" in v["name"])
    claims = vector["claims"] | {"id": int(vector["claims"]["id"])}
    _, data = tickets.create(
        claims,
        value=vector["value"],
        audience="",
        issued_at=vector["iat"],
        expires_at=vector["exp"],
    )
    assert data == vector["data"]


@pytest.mark.parametrize("value", VECTORS["malformed"], ids=repr)
def test_malformed_vectors_are_refused(value: Any) -> None:
    service = TicketService(RedisBackend(unix_socket_path="/nonexistent/socket"))
    with pytest.raises(InvalidTicket) as caught:
        service.consume(value)
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=lambda each: each["name"])
def test_accepted_vectors_are_accepted(vector: dict[str, Any]) -> None:
    ticket = tickets.decode(vector["data"], value="", audience=vector["audience"])
    assert (ticket.user_id, ticket.username) == (vector["id"], vector["username"])
    assert type(ticket.user_id) is type(vector["id"])


@pytest.mark.parametrize("data", VECTORS["refused"], ids=lambda data: data[:60])
def test_refused_vectors_are_refused(data: str) -> None:
    with pytest.raises(InvalidTicket) as caught:
        tickets.decode(data, value="", audience="")
    assert caught.value.reason == "mismatch"


JOURNAL = json.loads((DOCS / "journal-vectors.json").read_text("utf-8"))


@pytest.mark.parametrize("vector", JOURNAL["entries"], ids=lambda each: each["name"])
def test_disconnects_are_what_the_package_does(vector: dict[str, Any]) -> None:
    place = vector["prefix"], vector["second"], vector["slot"]
    assert revocations.journal_key(*place) == vector["key"]
    entry = revocations.decode(vector["text"])
    assert entry is not None
    for ticket in vector["tickets"]:
        session, issued_at = ticket["sid"], ticket["iat"]
        is_named = revocations.user_key(ticket["id"]) in entry.users
        found = {
            "ends": entry.concerns(session),
            "ends_late": entry.refuses(session, issued_at, tolerance=LATE_TOLERANCE),
            "refused": entry.refuses(session, issued_at, tolerance=TOLERANCE),
        }
        assert {name: is_named and is_so for name, is_so in found.items()} == {
            name: ticket[name] for name in found
        }, ticket


@pytest.mark.parametrize("text", JOURNAL["refused"])
def test_what_is_no_disconnect_is_refused(text: str) -> None:
    assert revocations.decode(text) is None


def test_the_example_in_node_agrees_with_the_disconnects(tmp_path: Path) -> None:
    """Mutants: ids are compared as they are; a session ends for a time only."""
    matrix.require(ROWS["node-ws-redis"])
    script = tmp_path / "script.mjs"
    script.write_text(
        f"""
        import {{ strict as assert }} from "node:assert";
        import {{ readFileSync }} from "node:fs";
        import {{ concerns, decode }} from "{EXAMPLES}/node-ws/disconnects.mjs";
        const vectors = JSON.parse(readFileSync("{DOCS}/journal-vectors.json"));
        for (const {{ text, tickets }} of vectors.entries) {{
          const entry = decode(text);
          for (const {{ id, sid, iat, ...expected }} of tickets) {{
            const ends = concerns(entry, id, sid, -Infinity, 0);
            const ends_late = concerns(entry, id, sid, iat, 10);
            const refused = concerns(entry, id, sid, iat, 2);
            assert.deepEqual({{ ends, ends_late, refused }}, expected);
          }}
        }}
        for (const text of vectors.refused) assert.equal(decode(text), null, text);
        console.log("ok");
        """
    )
    assert run_node(script) == "ok\n"


@pytest.fixture
def modules(tmp_path: Path) -> None:
    """The example's packages, for a script in ``tmp_path``."""
    matrix.require(ROWS["node-ws-redis"])
    (tmp_path / "node_modules").symlink_to(ROOT / matrix.NODE)


@pytest.mark.usefixtures("modules")
def test_the_consumer_in_node_agrees_with_the_vectors(tmp_path: Path) -> None:
    reader = write_files("write-a-consumer.md", tmp_path)["consumer.mjs"]
    vectors = DOCS / "wire-format-vectors.json"
    printed = run_node(DOCS / "check-vectors.mjs", vectors, reader)
    count = sum(len(VECTORS[name]) for name in VECTORS if name != "version")
    assert printed == f"{count} vectors agree.\n"
    assert printed in {fence.text for fence in FENCES["write-a-consumer.md"]}


def test_the_example_in_node_agrees_with_the_vectors(tmp_path: Path) -> None:
    """It lets in whom the data names, and refuses what is no ticket's with 401.

    Mutant: the claims are whatever JSON.parse() returns.
    """
    script = tmp_path / "script.mjs"
    script.write_text(
        f"""
        import {{ readFileSync }} from "node:fs";
        import {{ judge }} from "{EXAMPLES}/node-ws/handshake.mjs";
        import {{ open }} from "{EXAMPLES}/node-ws/ticket.mjs";
        const vectors = JSON.parse(readFileSync("{DOCS}/wire-format-vectors.json"));
        const [{{ value }}] = vectors.tickets;
        const url = `/ws?ticket=${{value}}`;
        const request = {{ method: "GET", headers: {{}}, url }};
        const data = [...vectors.accepted, ...vectors.tickets];
        const opened = data.map((each) => {{
          const ticket = open(each.data, each.audience);
          return [ticket?.id, ticket?.username];
        }});
        const judged = [];
        // It ends connections with their login, and so it reads the login's name.
        const plain = vectors.tickets[0].data.slice(0, -1);
        const sids = ["5", "null", "[]"].map((sid) => `${{plain}},"sid":${{sid}}}}`);
        for (const each of [null, ...sids, ...vectors.refused]) {{
          judged.push(await judge(request, async () => each));
        }}
        console.log(JSON.stringify([opened, judged]));
        """
    )
    opened, judged = json.loads(run_node(script))
    expected = [[each["id"], each["username"]] for each in VECTORS["accepted"]]
    for each in VECTORS["tickets"]:
        expected.append([each["claims"]["id"], each["claims"]["username"]])
    assert opened == expected
    assert judged == [{"status": 401}] * (4 + len(VECTORS["refused"]))


@pytest.mark.usefixtures("modules")
def test_the_consumer_in_node_reads_redis(tmp_path: Path) -> None:
    """A good ticket, once; with a script; and what an outage looks like."""
    storage = matrix.Redis(tmp_path)
    try:
        path = write_files("write-a-consumer.md", tmp_path)["server.mjs"]
        text = path.read_text()
        assert text.count("redis://localhost:6379/0") == 1
        path.write_text(text.replace("redis://localhost:6379/0", storage.url))
        service = TicketService(RedisBackend(url=storage.url))
        value, other = issue(service, "chat"), issue(service)
        service.close()
        script = tmp_path / "script.mjs"
        script.write_text(
            f"""
            import {{ connect }} from "./consumer.mjs";
            import {{ judge }} from "./server.mjs";
            import {{ take }} from "./take.mjs";
            console.log((await judge("{value}")).claims.username);
            console.log((await judge("{value}")).status);
            console.log((await judge("{other}")).status);
            const client = await connect("{storage.url}");
            console.log(JSON.parse(await take(client, "{other}")).id);
            console.log(await take(client, "{other}"));
            process.kill({storage.process.pid}, "SIGKILL");
            console.log((await judge("{value}")).status);
            process.exit();
            """
        )
        printed = run_node(script)
    finally:
        storage.kill()
    assert printed.split() == ["ana", "401", "401", "7", "null", "503"]


@needs_perl
def test_the_consumer_in_perl_agrees_with_the_vectors(tmp_path: Path) -> None:
    reader = write_files("write-a-consumer.md", tmp_path)["Ticket.pm"]
    vectors = DOCS / "wire-format-vectors.json"
    printed = run_perl(DOCS / "check-vectors.pl", vectors, reader)
    assert printed in {fence.text for fence in FENCES["write-a-consumer.md"]}


@needs_perl
def test_the_server_in_perl_tells_an_outage_from_a_bad_ticket(tmp_path: Path) -> None:
    """With a stand-in for the module Redis, which is not among Perl's own."""
    write_files("write-a-consumer.md", tmp_path)
    vector = next(v for v in VECTORS["tickets"] if v["name"] == "audience")
    (tmp_path / "Redis.pm").write_text(
        f"""
        package Redis;
        our $down = 0;
        sub new {{ return bless {{ '{vector["key"]}' => '{vector["data"]}' }} }}
        sub getdel {{ die 'down' if $down; return delete $_[0]{{$_[1]}} }}
        1;
        """
    )
    script = tmp_path / "script.pl"
    script.write_text(
        f"""
        no warnings 'once';
        require '{tmp_path}/server.pl';
        print judge('{vector["value"]}')->{{claims}}{{username}}, ' ';
        print judge('{vector["value"]}')->{{status}}, ' ';
        $Redis::down = 1;
        print judge('{vector["value"]}')->{{status}};
        """
    )
    assert run_perl(f"-I{tmp_path}", script) == "ana 401 503"
