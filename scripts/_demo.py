"""The demonstration: four institutions agree on patients' records, step by step, on a cluster of real processes.

For every patient: an institution imports a FHIR bundle; another institution asks to read and is refused by the
ledger; the patient grants consent; the same request is allowed, the custodian opens what the decision names, and
every resource's bytes are compared with what went in; the patient revokes, and the next request is refused. In the
middle the primary is killed. The last patient's sensitive records take a consent of their own, and in an emergency
two persons break the glass, which another institution reviews. At the end the access log is counted, the last
patient has everything erased, the receipts of all decisions, and of the erasure, are verified with the genesis
file alone, and every file of every node is searched for the patients' names. The exit status is 0 only where all held.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

from consilium.client import consenting, reading, recording
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import access
from consilium.contracts.classes import GENERAL
from consilium.gateway.bundle import parse_bundle, read_bundle_file
from consilium.gateway.importing import Prepared, prepare
from consilium.ledger.errors import ConsiliumError
from consilium.ledger.genesis import genesis_from_json, genesis_to_json
from consilium.ledger.receipt import verify_receipt
from consilium.node.testing import LocalCluster

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts._demo_acts import access_log, account, forget, search  # noqa: E402
from scripts._demo_emergency import break_glass, consent_to_sensitive, staff  # noqa: E402
from scripts._demo_tally import DemoFailed, Patient, Tally  # noqa: E402

NODES = 4
PURPOSE = "TREAT"
CONSENT_MS = 24 * 3600 * 1000
GENERATED_PATIENTS = 4
FAILOVER_TIMEOUT_S = 60.0
UUID_TAIL = re.compile(r"_[0-9a-f]{8}-[0-9a-f-]{27}$")
CATCH_UP_TIMEOUT_S = 60.0


Say = Callable[[str], None]


class Demo:
    """The story, on one cluster."""

    def __init__(self, cluster: LocalCluster, say: Say, workers: ProcessPoolExecutor) -> None:
        self._cluster = cluster
        self._say = say
        self._workers = workers
        self.tally = Tally()
        self._decisions: list[tuple[int, bytes, bool]] = []
        self._verdicts: dict[bytes, list[bool]] = {}
        self._patients: list[Patient] = []

    async def run(self, bundles: Sequence[tuple[str, bytes]]) -> None:
        """The whole story, for every bundle."""
        middle = max(1, len(bundles) // 2)
        for index, (name, raw) in enumerate(bundles):
            if index == middle:
                await self._kill_primary()
            await self._patient(index, name, raw)
        if len(bundles) <= middle:
            await self._kill_primary()
        await self._emergency(self._patients[-1])
        await self._check_log()
        await self._account(self._patients[0])
        await self._forget(self._patients[-1])
        await self._verify_receipts()
        start_s = time.monotonic()
        folders = [node.path for node in self._cluster.nodes]
        self.tally.words_not_found = await asyncio.to_thread(
            search, [raw for _, raw in bundles], folders, self._say
        )
        self.tally.spent("search", start_s)

    async def _patient(self, index: int, name: str, raw: bytes) -> None:
        home, away = index % NODES, (index + 1) % NODES
        self._say(f"Patient {index + 1}: {name}")
        patient = await self._import(index, name, raw, home)
        reader = self._cluster.session(away, self._cluster.institution(away))
        owner = self._cluster.session(home, patient.wallet)
        self._say(f"  institution {away + 1} asks to read, for {PURPOSE}:")
        await self._ask(reader, patient, expected=False)
        start_s = time.monotonic()
        now_ms = int(time.time() * 1000)
        consent, _ = await consenting.grant(
            owner,
            self._cluster.institution(away).identity,
            [PURPOSE],
            not_before_ms=now_ms - 60_000,
            not_after_ms=now_ms + CONSENT_MS,
        )
        self.tally.spent("consent", start_s)
        self._say(
            f"  the patient grants consent {consent.hex()[:8]}… for {PURPOSE}, for one day; asked again:"
        )
        identical = await self._ask(reader, patient, expected=True)
        self.tally.resources_identical += identical
        self._say(f"  {identical} of {len(patient.records)} resources read, byte for byte as they went in")
        start_s = time.monotonic()
        await consenting.revoke(owner, consent)
        self.tally.spent("consent", start_s)
        self._say("  the patient revokes; asked once more:")
        await self._ask(reader, patient, expected=False)
        self._patients.append(patient)

    async def _import(self, index: int, name: str, raw: bytes, home: int) -> Patient:
        start_s = time.monotonic()
        prepared = await asyncio.get_running_loop().run_in_executor(self._workers, check_and_classify, raw)
        self.tally.spent("validate", start_s)
        start_s = time.monotonic()
        wallet = Wallet.create(name[:64], "patient")
        institution = self._cluster.session(home, self._cluster.institution(home))
        await recording.enrol(institution, "patient", wallet)
        kept: list[Wallet] = []
        owner = self._cluster.session(home, wallet)
        others = {self._cluster.institution(one).identity: self._cluster.clients[one] for one in beside(home)}
        wallet = await recording.open_compartments(
            owner, wallet, institution.identity, kept.append, others=others
        )
        self.tally.spent("enrol", start_s)
        start_s = time.monotonic()
        imported = await recording.import_records(
            institution,
            wallet.identity,
            prepared.payloads,
            class_map=await recording.class_map_from(owner, wallet),
            vaults=tuple(others.values()),
        )
        self.tally.spent("import", start_s)
        self.tally.patients += 1
        self.tally.resources_in += len(prepared.payloads)
        sensitive = sum(payload.classes != (GENERAL,) for payload in prepared.payloads)
        self.tally.resources_sensitive += sensitive
        self._say(
            f"  institution {home + 1} validated and classified {len(prepared.payloads)} resources "
            f"({sensitive} of them sensitive), sealed and anchored them "
            f"in {len(imported.transactions)} transaction(s), block {imported.height}"
        )
        originals = tuple(payload.raw for payload in prepared.payloads)
        hidden = zip(imported.records, prepared.payloads, strict=True)
        marked = tuple(record for record, payload in hidden if payload.classes != (GENERAL,))
        return Patient(name, wallet, home, imported.records, originals, marked)

    async def _emergency(self, patient: Patient) -> None:
        """What is sensitive takes a consent of its own; in an emergency two persons open it without one."""
        wanted = patient.sensitive or patient.records[:1]
        away = (patient.home + 1) % NODES
        self._say(f"Of {patient.name} {len(patient.sensitive)} resources are sensitive:")
        start_s = time.monotonic()

        async def ask(reader: Session, purpose: str, records: tuple[bytes, ...], expected: bool) -> int:
            return await self._ask(reader, patient, expected=expected, purpose=purpose, wanted=records)

        if patient.sensitive:
            owner = self._cluster.session(patient.home, patient.wallet)
            reader = self._cluster.session(away, self._cluster.institution(away))
            self.tally.sensitive_read = await consent_to_sensitive(owner, reader, wanted, ask, self._say)
        ward = await staff(self._cluster, away)
        whose = patient.wallet.identity
        read, told = await break_glass(self._cluster, whose, ward, wanted, ask, self._say)
        self.tally.glass_read, self.tally.glass_notices = read, told
        if read != len(wanted) or told < 2:
            raise DemoFailed(f"{read} of {len(wanted)} resources in the emergency, {told} notices")
        self.tally.spent("emergency", start_s)

    async def _ask(
        self,
        reader: Session,
        patient: Patient,
        *,
        expected: bool,
        purpose: str = PURPOSE,
        wanted: Sequence[bytes] = (),
    ) -> int:
        """Ask for records (default: all) in slices; when allowed, fetch and compare: how many were identical."""
        chosen = wanted or patient.records
        original = dict(zip(patient.records, patient.originals, strict=True))
        custodians = [self._cluster.clients[one] for one in (patient.home, *beside(patient.home))]
        identical = 0
        bases: dict[str, int] = {}
        limit = access.RECORDS_PER_REQUEST_MAX
        for start in range(0, len(chosen), limit):
            start_s = time.monotonic()
            part = chosen[start : start + limit]
            asked = await reading.request(reader, purpose, record_ids=part)
            self.tally.spent("decide", start_s)
            allowed = asked.allowed
            self._decisions.append((patient.home, asked.transaction, allowed))
            self._verdicts.setdefault(patient.wallet.identity, []).append(allowed)
            for verdict in asked.decision.verdicts:
                bases[verdict.basis] = bases.get(verdict.basis, 0) + 1
            if allowed:
                self.tally.decisions_allow += 1
            else:
                self.tally.decisions_deny += 1
            if allowed != expected:
                raise DemoFailed(
                    f"the ledger decided {'allow' if allowed else 'deny'}, the opposite was expected"
                )
            if allowed:
                start_s = time.monotonic()
                opened = await reading.fetch(reader, asked, *custodians)
                self.tally.spent("read", start_s)
                if sorted(one.record for one in opened) != sorted(part):
                    raise DemoFailed("the custodian opened other records than the decision names")
                identical += sum(one.payload == original[one.record] for one in opened)
        word = "ALLOW" if expected else "DENY"
        self._say(f"    the ledger decides {word}: {', '.join(sorted(bases))}")
        return identical

    async def _kill_primary(self) -> None:
        primary = (await self._cluster.clients[0].status())["primary"]
        ids = [(await client.status())["node_id"] for client in self._cluster.clients]
        victim = ids.index(primary)
        witness = (victim + 1) % NODES
        before = int((await self._cluster.clients[witness].status())["height"])
        self._say(f"Institution {victim + 1} is primary. Its node is killed (SIGKILL).")
        start_s = time.monotonic()
        await self._cluster.kill(victim)
        newcomer = Wallet.create("failover probe", "practitioner")
        witness_session = self._cluster.session(witness, self._cluster.institution(witness))
        await asyncio.wait_for(recording.enrol(witness_session, "practitioner", newcomer), FAILOVER_TIMEOUT_S)
        self.tally.failover_ms = round((time.monotonic() - start_s) * 1000)
        after = int((await self._cluster.clients[witness].status())["height"])
        if after <= before:
            raise DemoFailed("no block was decided after the primary was killed")
        self._say(f"  the other three go on: block {after} is committed after {self.tally.failover_ms} ms.")
        start_s = time.monotonic()
        await self._cluster.restart(victim)
        await self._cluster.wait_height(after, nodes=[victim], timeout_s=CATCH_UP_TIMEOUT_S)
        self.tally.spent("restart", start_s)
        self._say(f"  institution {victim + 1} is started again, and has caught up.")

    async def _check_log(self) -> None:
        """Every verdict, allow and deny, stands in the log of every node, in the order of the decisions."""
        start_s = time.monotonic()
        for node in range(NODES):
            height = max([int((await client.status())["height"]) for client in self._cluster.clients])
            await self._cluster.wait_height(height, nodes=[node], timeout_s=CATCH_UP_TIMEOUT_S)
            for patient, verdicts in self._verdicts.items():
                logged = await access_log(self._cluster.clients[node], patient)
                if logged != verdicts:
                    raise DemoFailed(
                        f"node {node + 1} logs {len(logged)} verdicts, {len(verdicts)} were given"
                    )
        lines = sum(len(verdicts) for verdicts in self._verdicts.values())
        self.tally.spent("log", start_s)
        self._say(f"The access log of every node shows all {lines} verdicts, allow and deny.")

    async def _account(self, patient: Patient) -> None:
        start_s = time.monotonic()
        self._say(f"{patient.name} asks whom the records went to:")
        owner = self._cluster.session(patient.home, patient.wallet)
        self.tally.accounting_lines = await account(owner, self._say)
        self.tally.spent("accounting", start_s)

    async def _forget(self, patient: Patient) -> None:
        start_s = time.monotonic()
        self._say(f"The last patient, {patient.name}, has everything erased:")
        proved = await forget(self._cluster.session(patient.home, patient.wallet), self._say)
        self.tally.erasure_attested = len(proved.attested)
        self.tally.spent("erasure", start_s)
        away = (patient.home + 1) % NODES
        self._say(f"  institution {away + 1} asks to read again:")
        await self._ask(self._cluster.session(away, self._cluster.institution(away)), patient, expected=False)

    async def _verify_receipts(self) -> None:
        start_s = time.monotonic()
        genesis = genesis_from_json(genesis_to_json(self._cluster.genesis))
        for node, transaction, allowed in self._decisions:
            receipt = await self._cluster.clients[node].verdict_receipt(transaction)
            proved = await asyncio.to_thread(verify_receipt, receipt, genesis)
            if proved.transaction_id != transaction or proved.leaf is None:
                raise DemoFailed("a receipt proves something else")
            decision = access.DECISIONS.decode(proved.leaf.results[0])
            if all(verdict.allow for verdict in decision.verdicts) != allowed:
                raise DemoFailed("a receipt proves another verdict than the one that was given")
            self.tally.receipts_verified += 1
        self.tally.blocks = max([int((await client.status())["height"]) for client in self._cluster.clients])
        self.tally.spent("receipts", start_s)
        self._say(
            f"{self.tally.receipts_verified} receipts verified offline, with the genesis file and nothing else."
        )


def check_and_classify(raw: bytes) -> Prepared:
    """A bundle's bytes to what is sealed. Heavy: for a process of its own."""
    return prepare(parse_bundle(raw))


def beside(home: int) -> tuple[int, int]:
    """The institutions that keep a patient's sensitive compartments with the home institution: any two open them."""
    return (home + 1) % NODES, (home + 2) % NODES


def load(folder: Path | None, patients: int, seed: int) -> list[tuple[str, bytes]]:
    """The bundles: every .json file of a folder, or patients that are generated."""
    if folder is None:
        from consilium.gateway.synthetic import generate_population
        from consilium.gateway.synthetic_labelled import generate_labelled

        # the last one's records are sensitive in every way there is
        generated = [*generate_population(seed, patients - 1), generate_labelled(seed).raw]
        return [(f"generated {number + 1}", raw) for number, raw in enumerate(generated)]
    files = sorted(folder.glob("*.json"))
    if not files:
        raise DemoFailed(f"{folder} holds no .json file")
    return [(UUID_TAIL.sub("", path.stem).replace("_", " "), read_bundle_file(path)) for path in files]


async def demonstrate(arguments: argparse.Namespace, say: Say) -> Tally:
    """Found a cluster, tell the story, stop the cluster, whatever happens."""
    start_s = time.monotonic()
    bundles = load(arguments.data, arguments.patients, arguments.seed)
    async with AsyncExitStack() as stack:
        workers = stack.enter_context(ProcessPoolExecutor(max_workers=1))
        say(f"Four institutions found a network and start a node each ({len(bundles)} patients to come).")
        founding_s = time.monotonic()
        cluster = await stack.enter_async_context(LocalCluster(nodes=NODES))
        demo = Demo(cluster, say, workers)
        demo.tally.spent("start", founding_s)
        await demo.run(bundles)
        tally = demo.tally
    tally.seconds = round(time.monotonic() - start_s, 1)
    if tally.resources_identical != tally.resources_in:
        raise DemoFailed(
            f"{tally.resources_identical} of {tally.resources_in} resources came back as they went in"
        )
    return tally


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="a folder of FHIR R4 transaction bundles (default: generated)"
    )
    parser.add_argument(
        "--patients", type=int, default=GENERATED_PATIENTS, help="how many patients to generate"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the generated patients")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on standard output")
    return parser.parse_args()


def main() -> int:
    """Run, print the summary. Returns the exit status."""
    arguments = parse()
    output = sys.stderr if arguments.json else sys.stdout

    def say(line: str) -> None:
        print(line, file=output, flush=True)

    try:
        tally = asyncio.run(demonstrate(arguments, say))
    except (DemoFailed, ConsiliumError, OSError, TimeoutError) as error:
        print(f"error: {error or type(error).__name__}", file=sys.stderr)
        return 1
    steps = {name: round(seconds, 1) for name, seconds in tally.seconds_by_step.items()}
    say(
        f"Done: {tally.patients} patients, {tally.resources_identical} of {tally.resources_in} resources identical, "
        f"{tally.decisions_allow} allowed and {tally.decisions_deny} denied decisions, "
        f"{tally.receipts_verified} receipts, {tally.blocks} blocks, failover {tally.failover_ms} ms, "
        f"{tally.seconds} s ({', '.join(f'{name} {seconds} s' for name, seconds in steps.items())})."
    )
    if arguments.json:
        print(json.dumps(tally.summary(steps)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
