"""The commands of care against real nodes, as a person types them: each act once, and some that are refused."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consilium.node.cli.main import app
from consilium.node.testing import LocalCluster
from tests.cluster.emergencies import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

WARD, OTHER, COURT = 0, 1, 2
"""The last two issue credentials, the last is an authority."""


class Desk:
    """Runs commands. What `run` returns is what the command printed as JSON."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder

    def node(self, index: int) -> str:
        return str(self.cluster.nodes[index].path)

    def file(self, name: str) -> str:
        return str(self.folder / name)

    async def run(self, *arguments: str, status: int = 0) -> Any:
        environment = {"CONSILIUM_PASSPHRASE": "a sentence of several words"}
        done = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"], env=environment)
        assert done.exit_code == status, f"{arguments}\n{done.output}"
        return json.loads(done.stdout)

    async def refused(self, code: str, *arguments: str, status: int = 1) -> None:
        assert (await self.run(*arguments, status=status))["error"]["code"] == code

    async def person(self, name: str, role: str, home: int) -> str:
        """A wallet `name.wallet`, enrolled by an institution. Returns its id."""
        made = await self.run("keys", "create", "--out", self.file(f"{name}.wallet"), "--role", role)
        where = ("--node", self.node(home), "--wallet", self.file(f"{name}.wallet"))
        await self.run("keys", "enrol", *where, "--role", role)
        return str(made["identity"])

    def by(self, name: str, home: int = WARD) -> tuple[str, ...]:
        return ("--node", self.node(home), "--wallet", self.file(f"{name}.wallet"))


async def test_break_glass_by_command(tmp_path: Path) -> None:
    async with LocalCluster(3, decided={"review_ms": 5_000}) as cluster:
        desk = Desk(cluster, tmp_path)
        run = desk.run
        ada = await desk.person("ada", "patient", WARD)
        lee, kim = [await desk.person(name, "practitioner", WARD) for name in ("lee", "kim")]
        # One comes to the issuer, the other signs at home.
        licence = await run(
            *("credentials", "issue", "--node", desk.node(COURT), "--subject", lee, "--until", "1y"),
            *("--holder-wallet", desk.file("lee.wallet")),
        )
        institution = (await cluster.clients[COURT].status())["institution"]
        await run(
            "credentials", "prove", *desk.by("kim"), "--issuer", institution, "--out", desk.file("kim.proof")
        )
        second = await run(
            *("credentials", "issue", "--node", desk.node(COURT), "--subject", kim, "--until", "1y"),
            *("--proof", desk.file("kim.proof")),
        )
        shown = await run("credentials", "show", second["credential"], "--node", desk.node(WARD))
        assert (shown["subject"], shown["issuer"], shown["revoked_ms"]) == (kim, institution, None)
        declare = (
            *("emergency", "declare", *desk.by("lee"), "--patient", ada, "--reason", "danger-to-life"),
            *("--licence", licence["credential"], "--second-licence", second["credential"], "--until", "1h"),
        )
        both = ("--second-wallet", desk.file("kim.wallet"))
        shift = desk.file("shift.wallet")
        begun = await run(
            *("sessions", "begin", "--node", desk.node(WARD), "--practitioner", lee, "--until", "8h"),
            *("--out", shift),
        )
        pretended = [*declare, *both, "--as", lee]
        pretended[pretended.index(desk.file("lee.wallet"))] = shift
        await desk.refused("credential.key_not_bound", *pretended)
        await run("sessions", "end", begun["key"], "--node", desk.node(WARD), "--practitioner", lee)
        await desk.refused("attestation.missing", *declare)
        broken = await run(*declare, *both)
        # The same, with the second person at another computer.
        draft = desk.file("glass.draft")
        await run(*declare, "--draft", draft)
        await desk.refused("attestation.missing", "attestation", "submit", draft, *desk.by("lee"))
        assert (await run("attestation", "show", draft))["signed_by"] is None
        assert (await run("attestation", "sign", draft, "--wallet", desk.file("kim.wallet")))[
            "signed_by"
        ] == kim
        await desk.refused("attestation.wrong_draft", "attestation", "submit", draft, *desk.by("kim"))
        await run("attestation", "submit", draft, *desk.by("lee"))
        notices = await run("emergency", "notices", "--node", desk.node(WARD), "--patient", ada)
        # On a slow machine a review is overdue by now, and told.
        assert [one["kind"] for one in notices].count("emergency.declared") == 2
        await run("emergency", "close", broken["emergency"], *desk.by("lee"))
        review = ("emergency", "review", broken["emergency"], "--outcome", "justified")
        await desk.refused("emergency.not_independent", *review, "--node", desk.node(WARD))
        await run(*review, "--node", desk.node(OTHER))

        async def overdue() -> bool:
            await cluster.commit(OTHER)
            done = await asyncio.to_thread(
                CliRunner().invoke, app, ["emergency", "alarms", "--node", desk.node(OTHER), "--json"]
            )
            assert done.exit_code in (0, 1)
            return bool(json.loads(done.stdout)["overdue"]) and done.exit_code == 1

        await until(overdue, "the command shows the overdue review, with status 1")
        found = await run("emergency", "alarms", "--node", desk.node(OTHER), status=1)
        ((owed,),) = [one["overdue"] for one in found["institutions"]]
        report = ("emergency", "report", owed["emergency"], *desk.by("ada"))
        done = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            [*report, "--json"],
            env={"CONSILIUM_PASSPHRASE": "a sentence of several words"},
        )
        # A node may have been faster.
        assert done.exit_code == 0 or "emergency.reported_already" in done.stdout
        await run("credentials", "revoke", second["credential"], "--node", desk.node(COURT))
        await desk.refused("credential.revoked", *declare, *both)


async def test_who_speaks_for_a_patient_by_command(tmp_path: Path) -> None:
    async with LocalCluster(3, decided={"recovery_wait_ms": 1}) as cluster:
        desk = Desk(cluster, tmp_path)
        run, node = desk.run, desk.node(WARD)
        await desk.person("ada", "patient", WARD)
        ada = (await run("keys", "show", desk.file("ada.wallet")))["identity"]
        bob, eve = [await desk.person(name, "patient", WARD) for name in ("bob", "eve")]
        appoint = ("representation", "appoint", *desk.by("ada"), "--capacity", "guardian", "--until")
        await desk.refused("representation.not_a_quarter_day", *appoint, "30d", bob)
        # The end of a year is the beginning of a quarter.
        new_year = f"{datetime.now(UTC).year + 1}-12-31"
        for guardian in (bob, eve):
            await run(*appoint, new_year, guardian)
        shown = await run("representation", "show", "--node", node, "--patient", ada)
        assert [one["identity"] for one in shown["representatives"]] == [bob, eve]
        # Ada lost her phone. Her guardians give her another key; the first try she vetoes.
        for name, vetoed in (("thief", True), ("fresh", False)):
            await run("keys", "create", "--out", desk.file(f"{name}.wallet"), "--role", "patient")
            offer = desk.file(f"{name}.offer")
            whose = ("--patient", ada)
            await run("recovery", "offer", *desk.by(name), *whose, "--out", offer)
            key = (await run("recovery", "propose", offer, *desk.by("bob")))["key"]
            await run("recovery", "approve", key, *desk.by("eve"), *whose)
            (open_,) = await run("recovery", "list", "--node", node, *whose)
            assert (open_["key"], open_["approved_by"]) == (key, [bob, eve])
            if vetoed:
                await run("recovery", "veto", key, *desk.by("ada"))
                continue
            await run("recovery", "complete", key, *desk.by("bob"), *whose)
        prefer = ("preferences", "set", "--emergency-deny")
        await desk.refused("identity.key_not_authorised", *prefer, *desk.by("ada"))
        assert (await run(*prefer, *desk.by("fresh"), "--as", ada))["emergency_deny"] is True
        assert (await run("preferences", "show", "--node", node, "--patient", ada))["opt_out"] is False
        await run("representation", "dismiss", eve, *desk.by("fresh"), "--as", ada)
        # A second key, and the first one's end.
        await run("keys", "create", "--out", desk.file("phone.wallet"), "--role", "patient")
        mine = (*desk.by("fresh"), "--as", ada)
        await run("keys", "add", *mine, "--new-wallet", desk.file("phone.wallet"))
        first = (await run("keys", "show", desk.file("fresh.wallet")))["key"]
        await run("keys", "revoke", first, *desk.by("phone"), "--as", ada)
        await desk.refused("identity.key_not_authorised", *prefer, *mine)


async def test_the_rest_of_care_by_command(tmp_path: Path) -> None:
    async with LocalCluster(3) as cluster:
        desk = Desk(cluster, tmp_path)
        run, node = desk.run, desk.node(WARD)
        institutions = [(await client.status())["institution"] for client in cluster.clients]
        (desk.folder / "ada.json").write_bytes(_bundle())
        await run("keys", "create", "--out", desk.file("ada.wallet"), "--role", "patient")
        (done,) = await run(
            *("records", "import", desk.file("ada.json"), "--node", node),
            *("--patient-wallet", desk.file("ada.wallet"), "--custodian", str(cluster.folder)),
        )
        ada = done["patient"]
        lee = await desk.person("lee", "practitioner", WARD)
        guest = await desk.person("guest", "practitioner", OTHER)
        # Teams.
        team = (await run("teams", "form", "--node", node, "--kind", "care-team"))["team"]
        for member in (lee, guest):
            await run("teams", "admit", team, "--node", node, "--member", member)
        await run("teams", "join", team, *desk.by("guest", OTHER))
        assert await run("teams", "list", "--node", node, "--member", guest) == [team]
        await run("teams", "remove", team, *desk.by("guest", OTHER), "--member", guest)
        # A relationship, with the patient as witness.
        attest = ("treatment", "attest", "--node", node, "--patient", ada, "--until", "7d")
        await desk.refused("attestation.missing", *attest)
        treated = await run(*attest, "--second-wallet", desk.file("ada.wallet"))
        await run("treatment", "end", treated["relationship"], *desk.by("ada"))
        # A mandate, countersigned elsewhere.
        draft = desk.file("mandate.draft")
        order = ("--patient", ada, "--reader", institutions[WARD], "--purpose", "HLEGAL", "--until", "7d")
        ordered = await run("mandates", "issue", "--node", desk.node(COURT), *order, "--draft", draft)
        wallet = str(cluster.nodes[OTHER].path / "institution.wallet")
        secret = ("--passphrase-file", str(cluster.nodes[OTHER].path / "passphrase"))
        await run("attestation", "sign", draft, "--wallet", wallet, *secret)
        await run("attestation", "submit", draft, "--node", desk.node(COURT))
        await run("mandates", "withdraw", ordered["mandate"], "--node", desk.node(COURT))
        # A consent that is passed on, and dies with what it comes from.
        grant = ("consent", "grant", *desk.by("ada"), "--grantee", institutions[WARD], "--until", "30d")
        parent = (await run(*grant, "--transferable"))["consent"]
        child = (await run("delegation", "pass", parent, "--node", node, "--actor", guest, "--until", "7d"))[
            "consent"
        ]
        await desk.refused(
            "delegation.too_deep",
            *("delegation", "pass", child, *desk.by("guest", OTHER), "--actor", lee, "--until", "1d"),
        )
        await run("consent", "revoke", parent, *desk.by("ada"))
        await cluster.commit(WARD)

        async def both_ended() -> bool:
            lines = await run("consent", "list", "--node", node, "--patient", ada)
            return {one["consent"]: one["standing"] for one in lines} == {parent: "revoked", child: "revoked"}

        await until(both_ended, "the child is listed, and has ended with its parent")
        # Staff.
        await run("staff", "suspend", lee, "--node", node)
        await desk.refused("identity.status_unchanged", "staff", "suspend", lee, "--node", node)
        await run("staff", "reinstate", lee, "--node", node)
        # A new epoch, and the account made the patient's own.
        classes = await run("keys", "classes", *desk.by("ada"))
        await run("keys", "renew", done["compartment"], *desk.by("ada"), "--custodian", str(cluster.folder))
        await run(
            *("representation", "takeover", *desk.by("ada"), "--out", desk.file("own.wallet")),
            *("--custodian", str(cluster.folder)),
        )
        account = await run("representation", "show", "--node", node, "--patient", ada)
        assert (account["manager"], account["generation"]) == (None, 1)
        own = (*desk.by("own"), "--as", ada)
        await run("preferences", "set", *own, "--opt-out")
        # The new wallet knows which compartment is of which class, as the old one did; so do its words, with the chain.
        words = await run("keys", "words", desk.file("own.wallet"))
        (desk.folder / "words.txt").write_text(words["words"], "utf-8")
        again = ("--node", desk.node(OTHER), "--words-file", desk.file("words.txt"))
        (desk.folder / "words.txt").chmod(0o600)
        await run("keys", "restore", *again, "--out", desk.file("again.wallet"))
        assert len({one["class"] for one in classes}) == 9
        for name in ("own", "again"):
            assert await run("keys", "classes", *desk.by(name)) == classes
        await desk.refused("records.class_map_wrong", "keys", "classes", *desk.by("ada"))
        grant = ("consent", "grant", *own, "--grantee", institutions[OTHER], "--until", "30d")
        for knowing in ((), ("--class-wallet", desk.file("again.wallet"))):
            classed = await run(*grant, "--class", "hiv", *knowing)
            assert (classed["patient"], classed["classes"]) == (ada, ["hiv"])
        await run("consent", "revoke", classed["consent"], *own)
        served = await run("keys", "deliver", *own, "--custodian", str(cluster.folder))
        assert served["patient"] == ada


async def test_a_summary_by_command_with_two_of_three_nodes_gone(tmp_path: Path) -> None:
    async with LocalCluster(3) as cluster:
        desk = Desk(cluster, tmp_path)
        run, node = desk.run, desk.node(WARD)
        ada = await desk.person("ada", "patient", WARD)
        ward = (await cluster.clients[WARD].status())["institution"]
        people = {}
        for name in ("lee", "kim"):
            who = await desk.person(name, "practitioner", WARD)
            issued = await run(
                *("credentials", "issue", "--node", desk.node(COURT), "--subject", who, "--until", "1y"),
                *("--holder-wallet", desk.file(f"{name}.wallet")),
            )
            people[name] = (who, issued["credential"])
        holders = [part for who, _ in people.values() for part in ("--holder", who)]
        made = await run("summaries", "key", "--node", node, *holders, "--out", desk.file("shares"))
        shares = {
            name: desk.file(f"shares/{made['key'][:8]}-{who}.share") for name, (who, _) in people.items()
        }
        text = b'{"resourceType":"Bundle","type":"document"}'
        (desk.folder / "ips.json").write_bytes(text)
        place = (
            "summaries",
            "place",
            desk.file("ips.json"),
            *desk.by("ada"),
            "--institution",
            ward,
            "--at",
            node,
        )
        await run(*place)
        await run("summaries", "withdraw", *desk.by("ada"), "--patient", ada, "--institution", ward)
        await run(*place)
        await cluster.commit(WARD)
        opening = (
            *("summaries", "open", *desk.by("lee"), "--patient", ada, "--reason", "cannot-be-asked"),
            *("--share", shares["lee"], "--licence", people["lee"][1], "--out", desk.file("ada.summary")),
            *("--second-wallet", desk.file("kim.wallet"), "--second-share", shares["kim"]),
            *("--second-licence", people["kim"][1]),
        )
        await desk.refused("summary.quorum_present", *opening)
        for gone in (OTHER, COURT):
            await cluster.kill(gone)
        environment = {"CONSILIUM_PASSPHRASE": "a sentence of several words"}

        async def opened() -> bool:
            done = await asyncio.to_thread(CliRunner().invoke, app, [*opening, "--json"], env=environment)
            assert done.exit_code == 0 or "summary.quorum_present" in done.stdout, done.output
            return done.exit_code == 0

        await until(opened, "no quorum answers")
        assert (desk.folder / "ada.summary").read_bytes() == text
        await asyncio.gather(*(cluster.restart(gone) for gone in (OTHER, COURT)))
        copy = ("summaries", "report", desk.file("ada.summary.opening"), *desk.by("kim", OTHER))

        async def reported() -> bool:
            await cluster.commit(OTHER)
            done = await asyncio.to_thread(CliRunner().invoke, app, [*copy, "--json"], env=environment)
            # The institution's own node is as a rule faster.
            return done.exit_code == 0 or "summary.out_of_order" in done.stdout

        await until(reported, "the opening is on the chain")


def _bundle() -> bytes:
    from consilium.gateway.synthetic import generate_bundle

    return generate_bundle(11)
