"""The one catalogue of expected errors: stable code, cause, what to do.

A code never changes its meaning and is never used again. `docs/errors.md` has a section for each, and a test fails
on a code without one. Keep each group sorted.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class CatalogueEntry(NamedTuple):
    """Why it happens and what the reader of the message can do."""

    cause: str
    remedy: str


def _entry(cause: str, remedy: str) -> CatalogueEntry:
    return CatalogueEntry(cause, remedy)


CATALOGUE: Final[dict[str, CatalogueEntry]] = {
    # agreement: blocks, batches, certificates, genesis
    "batch.malformed": _entry(
        "The batch is for another chain or version, or its author's signature does not verify.",
        "Report the author's node id to its institution: an honest node does not send this.",
    ),
    "batch.too_heavy": _entry(
        "The batch weighs more than BATCH_WEIGHT_MAX: executing it could keep every node from voting.",
        "Report the author's node id to its institution: an honest node does not seal this.",
    ),
    "block.malformed": _entry(
        "The block's parts do not match its header.",
        "Ask another node for the block; report the node that served this one.",
    ),
    "certificate.invalid": _entry(
        "The commit certificate is not exactly a quorum of valid seals for the block.",
        "Ask another node; report the node that served this one.",
    ),
    "genesis.malformed": _entry(
        "The genesis file is damaged, was changed, or is not a genesis file.",
        "Get the genesis file again from the network's founders, and compare the chain id with them.",
    ),
    "genesis.wrong_network": _entry(
        "The node belongs to another network than the one that was meant.",
        "Check the address; the chain id is in the genesis file (consilium network show).",
    ),
    # bundle: what an institution imports, refused whole before anything is sealed
    "bundle.another_patient": _entry(
        "A resource says that it is about a patient other than the bundle's.",
        "Import each patient's records in a bundle of their own.",
    ),
    "bundle.dangling_reference": _entry(
        "A reference leads to no entry of the bundle and to no contained resource.",
        "Add the entry with that fullUrl, or correct the reference that the message names.",
    ),
    "bundle.duplicate_key": _entry(
        "A JSON object has the same member name twice, so that two readers could read two different records.",
        "Remove one of the two members at the path that the message names.",
    ),
    "bundle.empty": _entry(
        "The file, or the bundle's list of entries, is empty.",
        "Check that the export finished, and import its result.",
    ),
    "bundle.invalid_resource": _entry(
        "A resource in the bundle is not valid FHIR R4.",
        "Correct the element that the message names, and import the whole bundle again.",
    ),
    "bundle.malformed": _entry(
        "The bundle around the resources breaks a rule of FHIR R4 transactions.",
        "Correct the entry that the message names: each needs a request (POST or PUT), a resource, its own fullUrl.",
    ),
    "bundle.no_patient": _entry(
        "The bundle has no Patient resource, so its records belong to nobody's compartment.",
        "Export the bundle with its patient.",
    ),
    "bundle.not_bundle": _entry(
        "The file is JSON, but not a FHIR Bundle.",
        "Import a FHIR R4 Bundle of type transaction.",
    ),
    "bundle.not_json": _entry(
        "The file is not JSON (RFC 8259).",
        "Check that it is a FHIR JSON file, complete and not compressed; XML is not read.",
    ),
    "bundle.not_transaction": _entry(
        "The bundle is not of type transaction.",
        "Export the records as a transaction bundle: it alone promises all or nothing.",
    ),
    "bundle.not_utf8": _entry(
        "The file is not encoded in UTF-8, as FHIR demands.",
        "Save or convert the file as UTF-8.",
    ),
    "bundle.oversized": _entry(
        "The file, a resource, or the number of entries or values exceeds its named limit.",
        "Split the patient's records into several bundles; the message names the limit.",
    ),
    "bundle.several_patients": _entry(
        "The bundle has more than one Patient resource.",
        "Import each patient's records in a bundle of their own.",
    ),
    "bundle.too_deep": _entry(
        "The JSON nests deeper than the named limit.",
        "No medical record nests so deep: check what wrote the file.",
    ),
    "bundle.unreadable": _entry(
        "The bundle's file does not exist, is no regular file, or may not be read.",
        "Check the path and the permissions of the file.",
    ),
    # codec: bytes that are no value of the expected type
    "codec.malformed": _entry(
        "The bytes are not a value of the expected type.",
        "Encode the value with the codec that the documentation names, and send it again.",
    ),
    "codec.not_canonical": _entry(
        "The bytes decode, but are not the canonical encoding of their value.",
        "Use minimal MessagePack encodings: the shortest form of each integer, string and array.",
    ),
    "codec.oversized": _entry(
        "The bytes are longer than the named limit of their type.",
        "Split the value into smaller ones; the message names the limit.",
    ),
    # custodian
    "custodian.bad_signature": _entry(
        "The request for release is not signed by the key that asked the ledger.",
        "Ask with the session that submitted the access request.",
    ),
    "custodian.disabled": _entry(
        "This node keeps no shares and releases nothing: it has no institution wallet.",
        "Ask the custodian that the compartment names, or give this node its wallet in [custodian].",
    ),
    "custodian.fork": _entry(
        "Nodes proved two different blocks of one height: more than a third of the validators lied.",
        "Release nothing. Keep both receipts: they are evidence; tell the institutions of the network.",
    ),
    "custodian.incomplete": _entry(
        "The custodians left out records that the decision opens: what they sent is not the whole.",
        "Ask the other custodians of the patient's compartments as well, and report the one that left them out.",
    ),
    "custodian.no_conditions": _entry(
        "The patient's conditions, on which the decision depends, are not kept here.",
        "Ask another custodian, or tell the patient's institution to deliver the conditions again.",
    ),
    "custodian.no_decision": _entry(
        "No certified decision stands under this transaction and operation.",
        "Submit an access request, and wait until it is certified.",
    ),
    "custodian.no_share": _entry(
        "This custodian has no share for the record's compartment.",
        "Deposit the share again from the wallet that made the compartment, or ask another custodian.",
    ),
    "custodian.not_ours": _entry(
        "The chain does not name this institution as custodian of that compartment's epoch.",
        "Deposit the share at the custodian that the chain names.",
    ),
    "custodian.nothing_allowed": _entry(
        "Every verdict of the decision is a denial.",
        "See the bases of the verdicts; ask the patient for consent.",
    ),
    "custodian.release_too_large": _entry(
        "The decision opens more than a reader takes into memory at a time.",
        "Ask for fewer records at a time, or take what is released page by page.",
    ),
    "custodian.stale": _entry(
        "The custodian's newest block is too old by its own clock to act on.",
        "Wait until the node follows the chain again; check its clock and its peers.",
    ),
    "custodian.too_few_nodes": _entry(
        "A custodian without a node asks several, and fewer than two showed a certified block.",
        "Check the addresses and the nodes; nothing is released on the word of one.",
    ),
    "custodian.unlisted": _entry(
        "A custodian without a node cannot know which records there are, or it would have to ask for too many proofs.",
        "Ask for the records by their ids, fewer at a time, or ask a custodian that runs a node.",
    ),
    "custodian.untold": _entry(
        "The custodian has so many releases to attest on the ledger that it may not release more.",
        "Ask again once the custodian's node reaches the network; ask another custodian meanwhile.",
    ),
    # mempool
    "mempool.author_full": _entry(
        "Too many undecided batches of this author are waiting.",
        "Nothing to do: the author's node sends them again once blocks are decided.",
    ),
    "mempool.full": _entry(
        "The node holds as many waiting transactions as it may.",
        "Send the transaction again after the time that the answer names, or to another node.",
    ),
    # receipts
    "quota.member_full": _entry(
        "The institution has added as much state as a member may in a day.",
        "Wait, for the quota runs off evenly, or have the members vote for a larger one.",
    ),
    "quota.patient_full": _entry(
        "The patient has added as much state as a patient may in thirty days.",
        "Wait, for the quota runs off evenly; what takes rights away is not refused.",
    ),
    "receipt.cannot_extend": _entry(
        "The receipt cannot be led to that height: its own header is not below it.",
        "Name a height above the receipt's header, and none below the header that you trust.",
    ),
    "receipt.invalid": _entry(
        "The receipt does not prove what it states: it was changed, or it was never genuine.",
        "Ask for the receipt again, from any node; do not rely on this file.",
    ),
    "receipt.not_certified": _entry(
        "The next block, which certifies this height's execution, is not committed yet.",
        "Ask again in a moment.",
    ),
    "receipt.too_many_changes": _entry(
        "More validator set changes lie between its start and its top than a receipt may carry.",
        "Ask for a receipt that starts from a later header that you trust.",
    ),
    "receipt.untrusted": _entry(
        "The receipt does not rest on a header that you trust, and cannot be checked from genesis alone.",
        "Name the trusted header that it was made for, or ask a node to make it again for the one that you trust.",
    ),
    "receipt.wrong_chain": _entry(
        "The receipt is of another network than the genesis file.",
        "Verify it with the genesis file of the network that issued it.",
    ),
    "receipt.wrong_version": _entry(
        "The receipt's format version is not known here.",
        "Verify it with a newer version of this program.",
    ),
    # transaction: refused before it enters the mempool, or at execution
    "transaction.bad_signature": _entry(
        "The signature does not match the transaction and its key.",
        "Sign the transaction with the private half of the key that it carries.",
    ),
    "transaction.duplicate": _entry(
        "A transaction with this id is already known.",
        "Nothing is lost: ask for the receipt of the transaction's id.",
    ),
    "transaction.expired": _entry(
        "The block time has reached the transaction's valid_until.",
        "Sign it again with a later valid_until.",
    ),
    "transaction.no_operations": _entry(
        "The transaction has no operations.",
        "Put at least one operation into it.",
    ),
    "transaction.postponed": _entry(
        "The block that named the transaction had no weight left for it.",
        "Nothing: the node that took it in puts it into a later block. Ask for its receipt, or submit it again.",
    ),
    "transaction.too_far_ahead": _entry(
        "valid_until lies further ahead of block time than VALIDITY_MAX_MS.",
        "Sign it again with an earlier valid_until, and check this computer's clock.",
    ),
    "transaction.too_heavy": _entry(
        "The transaction's operations weigh more than TRANSACTION_WEIGHT_MAX, by their sizes or by what state adds.",
        "Put fewer operations into one transaction, or name less in each.",
    ),
    "transaction.unknown": _entry(
        "No transaction with this id is in the chain.",
        "Check the id; if it was submitted just now, wait for it.",
    ),
    "transaction.unknown_operation": _entry(
        "No contract of this network knows the operation's name.",
        "Check the operation's name, and that the node runs the network's version.",
    ),
    "transaction.wrong_chain": _entry(
        "The transaction names another chain.",
        "Use this network's genesis file when you sign.",
    ),
    "transaction.wrong_version": _entry(
        "The transaction's version is not known here.",
        "Use a client of the same version as the network.",
    ),
    # evidence: proofs of a validator's fault
    "evidence.invalid": _entry(
        "The evidence does not show two contradicting signatures of one validator.",
        "Nothing needs doing: it convinces nobody. Whoever sent it is mistaken or malicious.",
    ),
    # governance: who validates
    "governance.already_member": _entry(
        "The institution that is to be admitted is a member of the network already.",
        "Nothing is left to do. Its node becomes a validator by `--add-validator`; `--change-roles` gives it other "
        "roles.",
    ),
    "governance.already_validator": _entry(
        "The key is a validator's or a candidate's already.",
        "Propose another key; see the network's validators with `consilium network show`.",
    ),
    "governance.bad_key": _entry(
        "The key is no point of the group of Ed25519 that an honest key pair can have.",
        "Make a new node key with `consilium node init`, and propose that one.",
    ),
    "governance.bad_signature": _entry(
        "The signature of the candidate does not verify.",
        "Let the candidate's own node sign: it does so by itself once it has caught up.",
    ),
    "governance.evidence_expired": _entry(
        "The evidence is about a height too long ago, or one that is not reached yet.",
        "Nothing: evidence counts for a limited number of heights.",
    ),
    "governance.evidence_known": _entry(
        "The fault is on the chain already, or so many faults of this validator are that more say nothing new.",
        "Nothing: propose the validator's removal if it stands.",
    ),
    "governance.full": _entry(
        "The network has as many validators and candidates as it can have.",
        "Remove one, or wait until a candidate joins or lapses.",
    ),
    "governance.key_at_fault": _entry(
        "Evidence on the chain shows that this key contradicted itself.",
        "Give the validator a new key, and propose that one.",
    ),
    "governance.last_validator": _entry(
        "The network would be left without a validator.",
        "Add another validator first.",
    ),
    "governance.no_validator": _entry(
        "The sender's institution runs no current validator.",
        "Ask an institution that runs one to propose, or to vote.",
    ),
    "governance.not_candidate": _entry(
        "The key is not waiting to become a validator of the sender's institution, or its time has lapsed.",
        "Have its addition proposed and approved first.",
    ),
    "governance.not_recent": _entry(
        "The block that the candidate signed is too old, or not decided yet.",
        "Let the candidate catch up, and sign a block of now.",
    ),
    "governance.not_validator": _entry(
        "The key is no validator's.",
        "Compare it with the network's validators.",
    ),
    "governance.other_block": _entry(
        "The candidate signed a block that is not this chain's.",
        "Start the candidate with this network's genesis file, and let it catch up.",
    ),
    "governance.proposal_closed": _entry(
        "The proposal was accepted, was rejected, or has lapsed.",
        "Propose again if it is still wanted.",
    ),
    "governance.proposal_taken": _entry(
        "A proposal has this id already.",
        "Draw a new random id.",
    ),
    "governance.proposal_unknown": _entry(
        "There is no proposal with this id.",
        "Compare the id with the event that told of the proposal.",
    ),
    "governance.returned_already": _entry(
        "The validator said so a moment ago.",
        "Nothing: it votes again by itself after a few heights.",
    ),
    "governance.too_many_proposals": _entry(
        "The institution has as many open proposals as it may have.",
        "Wait until one of them is decided or lapses.",
    ),
    "governance.would_lock": _entry(
        "Institutions in good standing would no longer have a quorum of the validators: nothing could be decided.",
        "Reinstate an institution, or add a validator of another one first.",
    ),
    # identity
    "identity.bad_point": _entry(
        "The author point is no point of the group.",
        "Use the public point of the institution's wallet.",
    ),
    "identity.bad_proof": _entry(
        "The new key did not sign the proof that its holder wants it registered here.",
        "Sign the enrolment digest (or the addition digest) with the new key, for this chain and this sponsor.",
    ),
    "identity.bad_roles": _entry(
        "The roles are not sorted, or one is there twice.",
        "List each role once, in alphabetical order.",
    ),
    "identity.key_not_authorised": _entry(
        "The key may not speak for the sender: it is unknown, revoked, or another identity's.",
        "Sign with a current key of the sender, or register the key first.",
    ),
    "identity.key_taken": _entry(
        "The key is or was the key of an identity.",
        "Make a new key: a key belongs to one identity for ever.",
    ),
    "identity.last_key": _entry(
        "An identity's only key cannot be revoked: nobody could speak for it again.",
        "Add another key first, then revoke this one.",
    ),
    "identity.not_an_institution": _entry(
        "Only an institution enrols others.",
        "Have an institution sign the enrolment.",
    ),
    "identity.not_own_key": _entry(
        "The key is no current key of the sender.",
        "List the sender's keys, and revoke one of those.",
    ),
    "identity.not_the_sponsor": _entry(
        "Only the institution that enrolled a practitioner or application suspends or reinstates it.",
        "Ask that institution.",
    ),
    "identity.role_missing": _entry(
        "The identity is no institution, or has not the role that this needs.",
        "Use an institution that the network gave the role.",
    ),
    "identity.session_key": _entry(
        "A session key speaks for a shift: it changes no keys, represents no patient and passes nothing on.",
        "Sign with one of the identity's own keys.",
    ),
    "identity.session_over": _entry(
        "The session of this key has ended.",
        "Log in at the institution again.",
    ),
    "identity.status_unchanged": _entry(
        "The identity has this status already.",
        "Nothing is left to do.",
    ),
    "identity.suspended": _entry(
        "The identity is suspended, or the institution that employs it is.",
        "Ask the institution that enrolled it.",
    ),
    "identity.too_many_keys": _entry(
        "The identity has as many keys as are allowed.",
        "Revoke one that is no longer used.",
    ),
    "identity.unknown": _entry(
        "No such identity is registered on this network.",
        "Register the identity first, and check the id.",
    ),
    # did: identifiers of keys
    "did.malformed": _entry(
        "The text is no did:key of an Ed25519 or X25519 public key, nor a did:consilium.",
        "Copy the identifier again, whole: it starts with did:key:z6Mk, did:key:z6LS or did:consilium.",
    ),
    "did.other_network": _entry(
        "The identifier belongs to another network.",
        "Ask a node of the network whose chain id stands in the identifier.",
    ),
    # sealing: envelopes, wrapped keys, shares and partials
    "sealing.bad_partial": _entry(
        "Custodians answered with partials that are not theirs, and too few sound ones are left.",
        "Ask further custodians, and report those that the message names: their answers prove themselves false.",
    ),
    "sealing.bad_point": _entry(
        "A public value is no point of the prime-order group of Ed25519.",
        "Fetch the compartment's key or the record from another node, and report the sender.",
    ),
    "sealing.bad_proof": _entry(
        "The wrapped key was not made for this record: its author's proof does not hold in this context.",
        "Check record, compartment, epoch and author; if they are right, the wrap was copied: report its author.",
    ),
    "sealing.bad_recipient": _entry(
        "The recipient's X25519 key shares no secret with anybody.",
        "Ask the recipient for its encryption key again.",
    ),
    "sealing.bad_share": _entry(
        "The share is not the one that the compartment's public commitments promise to this custodian.",
        "Ask whoever made the compartment for the share again; until then this custodian cannot help to open it.",
    ),
    "sealing.bad_signature": _entry(
        "The author's signature is not over this header in this context.",
        "Fetch the envelope from another custodian; if it stays so, report the record's author.",
    ),
    "sealing.damaged": _entry(
        "The envelope is truncated or changed, or the key is another's.",
        "Fetch the envelope from another custodian, and check that it is the one that the chain anchors.",
    ),
    "sealing.too_few_partials": _entry(
        "Fewer custodians have answered than are needed to open the record.",
        "Wait for further custodians, or ask those that have not answered.",
    ),
    "sealing.too_large": _entry(
        "The payload or envelope is larger than the named limit.",
        "Seal it as a stream, or split the document.",
    ),
    "sealing.wrong_anchor": _entry(
        "The envelope is not the one that the chain anchors for this record.",
        "Fetch the envelope from another custodian, and report who sent this one.",
    ),
    "sealing.wrong_compartment": _entry(
        "The key or share belongs to another compartment, epoch or network than the record.",
        "Look the record's compartment and epoch up on the chain, and use their key.",
    ),
    "sealing.wrong_key": _entry(
        "What was sealed is not for this key, or was damaged on its way.",
        "Use the wallet whose encryption key the sender was given, or ask for it again.",
    ),
    "sealing.wrong_request": _entry(
        "The custodian's answer belongs to another request.",
        "Ask again with the id of the request that was decided.",
    ),
    "sealing.wrong_version": _entry(
        "The format's version is not known here.",
        "Use a program of the same version as the one that sealed it.",
    ),
    # wallet: the file that keeps keys
    "wallet.bad_words": _entry(
        "The recovery words are not 24 words of the list of BIP-39, or their checksum does not match.",
        "Compare them with the paper, one by one: a wrong word, or two that are swapped, is all it takes.",
    ),
    "wallet.damaged": _entry(
        "The file is no wallet, or its bytes were changed.",
        "Restore the wallet from its backup; nothing in this file was used.",
    ),
    "wallet.exists": _entry(
        "There is already a file where the new wallet would be written.",
        "Choose another path, or move the old wallet away: it is never overwritten.",
    ),
    "wallet.full": _entry(
        "The wallet holds as many compartment secrets as it may.",
        "Hand secrets over to custodians and remove them, or use a second wallet.",
    ),
    "wallet.missing": _entry(
        "The wallet's file cannot be read.",
        "Check the path, and that this user may read the file.",
    ),
    "wallet.too_costly": _entry(
        "The file asks for more memory or passes to derive its key than this program allows.",
        "Do not open it: no program of this project writes such a file.",
    ),
    "wallet.too_large": _entry(
        "The file is larger than any wallet.",
        "Check the path: this is not a wallet.",
    ),
    "wallet.unwritable": _entry(
        "The wallet could not be written; an older file, if there was one, is untouched.",
        "Check the folder, its permissions and the free space, and try again.",
    ),
    "wallet.weak_passphrase": _entry(
        "The passphrase is too short, or too long.",
        "Use at least eight characters; a sentence of several words is best.",
    ),
    "wallet.wrong_passphrase": _entry(
        "The passphrase does not open this wallet.",
        "Type it again; without it nobody can open the wallet.",
    ),
    "wallet.wrong_version": _entry(
        "The wallet was written by a newer program.",
        "Update this program, then open the wallet again.",
    ),
    # store, promise, vault, chain: what is kept
    "backup.damaged": _entry(
        "The backup was changed since the node wrote it, or was cut.",
        "Use another copy of it; nothing was written.",
    ),
    "backup.malformed": _entry(
        "The file is no backup, or not a whole one.",
        "Check the file's name and size, or copy it again; nothing was written.",
    ),
    "backup.newer_version": _entry(
        "The backup was written by a newer program.",
        "Restore it with the version that wrote it, or a later one.",
    ),
    "backup.wrong_chain": _entry(
        "The backup is of a node of another network.",
        "Use a backup of this network's node, or the folder of that network's node.",
    ),
    "backup.wrong_node": _entry(
        "The backup is of another node.",
        "Restore it in the folder that has that node's key; a new node synchronises instead.",
    ),
    "chain.before_snapshot": _entry(
        "This node began with a snapshot, and what is asked for lies before it.",
        "Ask a node that has followed the chain from genesis, or from an earlier snapshot.",
    ),
    "chain.height_pruned": _entry(
        "What belongs to this height is no longer kept here.",
        "Ask for a later height, ask a node that keeps more, or use a receipt that was issued in time.",
    ),
    "chain.unknown_height": _entry(
        "The chain here has no such height yet.",
        "Wait until the node has reached the height, or ask another node.",
    ),
    "promise.corrupt": _entry(
        "The file that holds what this validator promised is damaged before its end.",
        "Do not vote with this key: keep a copy of the file, and let the node join anew as after a lost disk.",
    ),
    "promise.missing": _entry(
        "The file that holds what this validator promised is not there.",
        "Check the folder; if the file is lost, let the node join anew as after a lost disk.",
    ),
    "promise.oversized": _entry(
        "A promise is longer than the limit of its kind.",
        "Report it: a proposal within the network's limits always fits.",
    ),
    "snapshot.invalid": _entry(
        "A piece of a snapshot is not what the certified header says.",
        "Nothing: it was not used, and is asked of another node. Report the node that sent it.",
    ),
    "snapshot.unknown": _entry(
        "The node has no snapshot of that height, or no longer.",
        "Ask which snapshots it has, or ask another node.",
    ),
    "snapshot.untrusted": _entry(
        "The snapshot that the peers offer does not contain the header that the operator trusts.",
        "Compare `[sync] trusted_header` with another institution; wait if the header is newer than the snapshot.",
    ),
    "snapshot.wrong_chain": _entry(
        "The snapshot belongs to another chain.",
        "Check the genesis file; report the node that sent it.",
    ),
    "snapshot.wrong_version": _entry(
        "The snapshot was made by a program of another version.",
        "Update this program, or ask a node of the same version.",
    ),
    "store.corrupt": _entry(
        "The store's files are damaged.",
        "Stop the node, check the disk, run `consilium node resync DIR`, then start: it synchronises from its peers.",
    ),
    "store.exists": _entry(
        "A store was to be created in a folder that is not empty.",
        "Choose an empty folder, or open the store that is there.",
    ),
    "store.locked": _entry(
        "Another process has the store open.",
        "Stop the other process; one store belongs to one running node.",
    ),
    "store.missing": _entry(
        "There is no store in the folder that the configuration names.",
        "Check the folder; a new node's stores are made by `consilium node join`, never by starting.",
    ),
    "store.newer_format": _entry(
        "The store was written by a newer program.",
        "Update this program to the version that wrote the store, or a later one.",
    ),
    "store.older_format": _entry(
        "The store was written by an older program, or its migration was interrupted.",
        "Stop the node and run `consilium node migrate DIR`; where that refuses too, `consilium node resync DIR`.",
    ),
    "store.wrong_chain": _entry(
        "The store belongs to another chain.",
        "Check the genesis file and the folder in the configuration.",
    ),
    "vault.no_client": _entry(
        "The node is to keep envelopes in an object store, and the client for it is not installed.",
        "Install the extra: pip install 'consilium[s3]'.",
    ),
    "vault.unavailable": _entry(
        "The object store that keeps the envelopes does not answer, or not as it should.",
        "Check its address, credentials and health; the same request works once it answers again.",
    ),
    "vault.unknown": _entry(
        "The vault holds no envelope under this digest.",
        "Check the digest, or ask another custodian of the record.",
    ),
    "vault.damaged": _entry(
        "The bytes of an envelope do not have the digest that they are kept by.",
        "Check the disk; a running node fetches a whole copy from other custodians. Or put the envelope again.",
    ),
    "vault.behind": _entry(
        "The node does not know yet whether what it keeps was erased: it has not followed the chain to its tip.",
        "Wait until a quorum of the other validators is reached and the node has caught up, then ask again.",
    ),
    "vault.deleted": _entry(
        "An envelope with this digest was erased here, and does not come back.",
        "Nothing: erasure is final. Remove the envelope from wherever it came from.",
    ),
    "vault.oversized": _entry(
        "The envelope is longer than ENVELOPE_BYTES_MAX.",
        "Split the payload into several records.",
    ),
    # access: what was asked and decided, and what custodians do then
    "access.bad_application": _entry(
        "The application that the request names is unknown, suspended, or not one of the reader's institution.",
        "Name an application that the reader's institution enrolled, or none.",
    ),
    "access.consent_ended": _entry(
        "The consent that decided has been revoked, or has expired, since the decision.",
        "Ask again: the new request is decided on what holds now.",
    ),
    "access.epoch_ended": _entry(
        "The compartment has begun another epoch since the decision.",
        "Ask again: the new request is decided on the current epoch.",
    ),
    "access.not_a_reader": _entry(
        "Only institutions and practitioners ask to read.",
        "Send the request as an institution, or as a practitioner that one employs.",
    ),
    "access.not_allowed": _entry(
        "The committed decision does not allow this, or the ledger would no longer allow it.",
        "Look at the verdict's basis; ask the patient for consent, then ask again.",
    ),
    "access.nothing_named": _entry(
        "The request names neither records nor compartments, or both.",
        "Name either records or compartments.",
    ),
    "access.too_many_compartments": _entry(
        "The records of the request lie in more compartments than one decision has room for.",
        "Split the request: COMPARTMENTS_PER_REQUEST_MAX is in docs/contracts.md.",
    ),
    "access.too_many_conditions": _entry(
        "What the request names depends on more sealed conditions than one verdict has room for.",
        "Ask with fewer records at once; else the patient revokes consents: OBLIGATIONS_MAX is in docs/contracts.md.",
    ),
    "access.too_many_consents": _entry(
        "So many consents could apply to what the request names that weighing them would hold up every node.",
        "Split the request, or the transaction: CONSENTS_WEIGHED_MAX is in docs/contracts.md.",
    ),
    "access.window_closed": _entry(
        "The time in which custodians release what the decision allows is over.",
        "Ask again, and fetch within RELEASE_WINDOW_MS of the decision.",
    ),
    # accounting: who a patient's records were disclosed to
    "accounting.bad_signature": _entry(
        "The signature over the consultation is not of the key that asked.",
        "Sign with the key that signed disclosure.consult.",
    ),
    "accounting.broken": _entry(
        "Lines of the accounting are missing, changed or exchanged: they do not lead to the head that the chain holds.",
        "Do not rely on it. Ask another node, and report the one that served this.",
    ),
    "accounting.denied": _entry(
        "The accounting is for the patient, who represents the patient, or an auditor with a credential.",
        "Ask as one of them; that you asked stands in the accounting.",
    ),
    "accounting.unknown": _entry(
        "There is no certified consultation with this transaction and operation on this node.",
        "Submit disclosure.consult, wait until the next block, and ask with its transaction's id.",
    ),
    # disclosure: what custodians attest to have released
    "disclosure.no_decision": _entry(
        "There is no decision, or no such verdict in it, that the release could have obeyed.",
        "Attest what was released on a committed decision only.",
    ),
    "disclosure.not_allowed": _entry(
        "The verdict is a denial: nothing can have been released on it.",
        "Attest what was released on an allow only.",
    ),
    "disclosure.not_the_custodian": _entry(
        "The sender is no custodian of the compartment in that epoch.",
        "Attest one's own releases only.",
    ),
    "disclosure.outside_window": _entry(
        "The time of the release is before the decision, or after its window.",
        "Check this node's clock: nothing is released outside the window.",
    ),
    "disclosure.too_many": _entry(
        "More records were released than the verdict names.",
        "Report it to who keeps the custodian's node: it counts wrongly.",
    ),
    # consent
    "consent.already_revoked": _entry(
        "The consent was revoked before.",
        "Nothing is left to do.",
    ),
    "consent.bad_depths": _entry(
        "The provisions are not one root at depth 0, followed by exceptions with rising depths.",
        "Give the root first, and each exception after what it is an exception to.",
    ),
    "consent.bad_period": _entry(
        "The consent would end before it begins, or has ended already.",
        "Give not_before < not_after, with not_after in the future of block time.",
    ),
    "consent.beyond_bounds": _entry(
        "A manager, delegate or guardian consents beyond what it may alone: care, the general class, a limited time.",
        "Let the patient sign, or another institution countersign.",
    ),
    "consent.beyond_lease": _entry(
        "The consent would outlive the lease of the representative who grants it.",
        "Let it end with the lease at the latest.",
    ),
    "consent.conditions_incomplete": _entry(
        "A provision has a condition and the consent names no sealed document, or the reverse.",
        "Seal the conditions of all conditional provisions in one document, and name its digest.",
    ),
    "consent.foreign_compartment": _entry(
        "The consent names a compartment that is not the sender's.",
        "Name the patient's own compartments, or none to mean all of them.",
    ),
    "consent.id_taken": _entry(
        "A consent with this id exists.",
        "Draw another random id, and sign again.",
    ),
    "consent.not_representable": _entry(
        "A FHIR Consent says something that the ledger cannot hold, at the element that the message names.",
        "Have the patient sign a Consent without that element, or map the name to the ledger where it is only unknown.",
    ),
    "consent.not_the_patient": _entry(
        "Only the patient grants a consent, and only the same patient revokes it.",
        "Sign as the patient whom the consent is about.",
    ),
    "consent.purpose_missing": _entry(
        "A permit names no purpose.",
        "Name at least one purpose: only a denial may be about all of them.",
    ),
    "consent.too_many": _entry(
        "The patient has as many current consents to this grantee as are allowed.",
        "Revoke one that is no longer needed, or put several purposes into one consent.",
    ),
    "consent.too_many_actors": _entry(
        "The consent names more actors than one consent may.",
        "Grant several consents, or form a team and name that.",
    ),
    "consent.unknown": _entry(
        "No consent has this id.",
        "Check the id; if it was granted a moment ago, wait for its receipt.",
    ),
    "consent.unknown_grantee": _entry(
        "The grantee is no institution and no practitioner of this network.",
        "Check the grantee's id.",
    ),
    "consent.unknown_purpose": _entry(
        "The purpose is no code of HL7's PurposeOfUse.",
        "Use a code such as TREAT, HPAYMT or HRESCH; docs/contracts.md names the list.",
    ),
    "consent.unknown_source": _entry(
        "The source is no record of this patient.",
        "Import and anchor the original first, and name its record.",
    ),
    # cli, cluster, founding: commands, clusters of one machine, how networks begin
    "cli.bad_value": _entry(
        "An argument of a command is not of the form that it must have: an id that is not 32 hexadecimal "
        "digits, a time that is neither a date with a zone nor a duration.",
        "Correct the argument that the message names. --help of every command has an example.",
    ),
    "cli.core_dumps": _entry(
        "The system does not let this process rule out core dumps, which would hold its keys.",
        "Allow setrlimit(RLIMIT_CORE) and prctl(PR_SET_DUMPABLE): a sandbox around the program forbids them.",
    ),
    "cli.internal": _entry(
        "The command met an error that its authors did not expect: a bug.",
        "Report the message and the traceback above it, with the command that was given. Read them first: "
        "nothing personal should be in them.",
    ),
    "cli.no_passphrase": _entry(
        "A wallet must be opened, and there is neither a terminal to ask at nor a passphrase in a file or "
        "in the environment.",
        "Give --passphrase-file FILE (mode 0600), or set CONSILIUM_PASSPHRASE. A passphrase is never an "
        "argument: other users see arguments.",
    ),
    "cli.no_words": _entry(
        "Nobody sits at the terminal who could be asked for the recovery words.",
        "Put them into a file of mode 0600, and give it with --words-file.",
    ),
    "cli.unknown_code": _entry(
        "No error has this code.",
        "Check the spelling. consilium error without a code lists them all.",
    ),
    "cli.unreadable": _entry(
        "A file that the command was given does not exist, or cannot be read.",
        "Check the path, and that this user may read the file.",
    ),
    "cli.unwritable": _entry(
        "The command cannot write its result where it was told to.",
        "Check the folder, its permissions and the free space. A file that is there already is not "
        "overwritten.",
    ),
    "cluster.missing": _entry(
        "The folder holds no cluster, or only parts of one: it has genesis.json and the folders node-0, "
        "node-1, ….",
        "Check the path. consilium cluster create DIR makes a cluster.",
    ),
    "cluster.node_died": _entry(
        "A node's process ended while it was being started; the others that were started with it were "
        "stopped again.",
        "Read the end of its log, which the message shows. node.log in the node's folder has all of it.",
    ),
    "cluster.not_ready": _entry(
        "A node's process runs, but did not become healthy in the time that was given.",
        "Read the end of its log, which the message shows. A node is healthy once it follows the chain, "
        "for which a quorum of nodes must run. Give a longer --timeout where the machine is slow.",
    ),
    "cluster.port_taken": _entry(
        "Another program uses a port of a node that is to be started. Other nodes of the cluster run, and "
        "know this port.",
        "Stop the whole cluster and start it again: stopped as a whole, it moves to free ports.",
    ),
    "founding.already_joined": _entry(
        "The node's folder has the genesis of another network.",
        "Check the genesis file. For another network, make another folder: keys are never shared between "
        "networks.",
    ),
    "founding.bad_address": _entry(
        "The address at which other nodes would reach this one is no address, or has port 0, which nobody "
        "can dial.",
        "Give host:port, or [IPv6]:port, with the port that the node listens on.",
    ),
    "founding.bad_card": _entry(
        "The file is no founding card, or was changed after its institution signed it.",
        "Ask the institution for its card again. consilium node init prints it and keeps it as card.json "
        "in the node's folder.",
    ),
    "founding.bad_cards": _entry(
        "The cards cannot found a network together: there are none or too many of them, or two share a "
        "key or an address.",
        "Give the card of each founder once, one to sixty of them. The message says which two collide.",
    ),
    "founding.bad_terms": _entry(
        "The founders' terms cannot be: an unknown setting or one out of bounds, or a role for who is no founder.",
        "The message says which. docs/contracts.md lists the settings with their meaning.",
    ),
    "founding.folder_taken": _entry(
        "The folder cannot be made, or is not empty.",
        "Give a new folder, or an empty one that this user may write to. Nothing is ever overwritten.",
    ),
    "founding.not_a_founder": _entry(
        "The genesis document does not name this node as a validator.",
        "Found the network with this node's card among the others; or join with --newcomer, and have governance "
        "add the key; or make the folder with --observer: it then follows and does not vote.",
    ),
    # contract: what runs operations
    "contract.fault": _entry(
        "The contract made a mistake on this operation; every node met it alike, and changed nothing.",
        "Report the operation to the project: this is an error in the program.",
    ),
    "contract.founding_only": _entry(
        "The operation belongs into the genesis document only, or does not belong there.",
        "Institutions are founded by genesis; everybody else is enrolled by one of them afterwards.",
    ),
    # records and compartments
    "records.already_open": _entry(
        "The patient has its compartments already.",
        "Use the compartments that the ledger has for this patient.",
    ),
    "records.bad_classes": _entry(
        "The further compartments of the record are not other compartments of the same patient in ascending order.",
        "Name each compartment of the record's further classes once, sorted by id.",
    ),
    "records.bad_sharing": _entry(
        "The sharing asks for more custodians than there are, or names one twice.",
        "Give between one and as many commitments as custodians, and each custodian once.",
    ),
    "records.bundle_too_large": _entry(
        "The import has no records, or more than one bundle may have.",
        "Split the bundle; the message names the limit.",
    ),
    "records.bundle_mismatch": _entry(
        "The bundle was begun for another patient, or with another count.",
        "Anchor the rest of a bundle with the same patient and count, or draw a new bundle id.",
    ),
    "records.class_map_missing": _entry(
        "A record is of a sensitive class, and the patient's class map is not at hand.",
        "Ask the patient for the class map: only the patient's wallet can make it.",
    ),
    "records.class_map_wrong": _entry(
        "The class map does not open the commitments that the chain has for the patient's compartments.",
        "Ask the patient for the map again; seal nothing with this one.",
    ),
    "records.classes_incomplete": _entry(
        "The compartments are not as many as the network has classes, or not exactly one of them is general.",
        "Open one compartment of every class at once, as docs/contracts.md says.",
    ),
    "records.epoch_ended": _entry(
        "The record is sealed to an epoch that is not the compartment's current one.",
        "Seal the record to the current epoch's key, and anchor it again.",
    ),
    "records.id_taken": _entry(
        "A record or compartment with this id exists.",
        "Draw another random id, and sign again.",
    ),
    "records.imported_before": _entry(
        "This institution imported the same file before: its records are on the ledger.",
        "Nothing is left to do. To have every record a second time nevertheless, say --again.",
    ),
    "records.journal_unusable": _entry(
        "The institution's journal of imports, beside its node's keys, cannot be read or written.",
        "Check the file, its permissions and the free space. Without it, nobody knows what was imported.",
    ),
    "records.key_unchanged": _entry(
        "The new epoch has the public key of the epoch that it ends.",
        "Make a new compartment key for the new epoch.",
    ),
    "records.last_epoch": _entry(
        "The compartment has had as many epochs as can be counted.",
        "Report this: no compartment should come so far.",
    ),
    "records.not_a_patient": _entry(
        "The identity is no patient.",
        "Name the patient's identity.",
    ),
    "records.not_yours": _entry(
        "Only the patient, or the institution that manages it, may do this.",
        "Sign as the patient, or ask its manager.",
    ),
    "records.order_says_something": _entry(
        "The compartments do not stand in the order of their ids, or an id comes twice.",
        "Sort the compartments by id: any other order would say which is of which class.",
    ),
    "records.other_custodian": _entry(
        "The patient's compartments are kept by another institution, and this one runs no validator's node from which "
        "the custodian could fetch the envelopes.",
        "Import at a node of the custodian that the message names, or of an institution with a validator.",
    ),
    "records.patients_own_key": _entry(
        "The patient made this compartment's key, and whoever makes a key can read what is sealed to it.",
        "Ask the patient to begin the epoch.",
    ),
    "records.position_taken": _entry(
        "The bundle has a record at this position already, or no such position.",
        "Give each record of a bundle its own position, below the count.",
    ),
    "records.too_few_custodians": _entry(
        "Fewer custodians would open a sensitive class than the network demands.",
        "Share the compartment among more custodians, with a threshold of at least what the network demands.",
    ),
    "records.too_many_epochs": _entry(
        "Others than the patient began as many epochs of this compartment within 30 days as they may.",
        "Wait, or ask the patient to begin the epoch.",
    ),
    "records.too_many_keepers": _entry(
        "So many institutions keep records of this epoch that the next one could not be named when it is erased.",
        "Begin a new epoch of the compartment, then record again.",
    ),
    "records.unknown_class": _entry(
        "The patient's class map has no compartment of the class.",
        "Use a class of the network, as consilium.contracts.classes lists them.",
    ),
    "records.unknown_compartment": _entry(
        "No compartment has this id, or the patient has none yet.",
        "`consilium keys show --json` names those of a patient's wallet, the access log those that were asked for.",
    ),
    # config: what a node is told before it starts
    "config.insecure_file": _entry(
        "A secret file can be read by others than its owner.",
        "Run chmod 600 on it, and make a new secret if others may have read it.",
    ),
    "config.invalid_value": _entry(
        "A key of the configuration has a value outside of its bounds, or of another type.",
        "Change the value as the message says: it names the file, the key and what was expected.",
    ),
    "config.malformed": _entry(
        "The file is not what its name promises: not UTF-8, not TOML, or too long.",
        "Correct the line that the message names, or write the file anew with node init.",
    ),
    "config.malformed_secret": _entry(
        "A secret file does not hold a secret of the expected form.",
        "Restore the file from its backup; the message says what form was expected.",
    ),
    "config.missing": _entry(
        "A file that the node needs is not there.",
        "Check the path, which counts from the configuration file's folder; node init makes the files.",
    ),
    "config.unknown_key": _entry(
        "The configuration, or the environment, has a key that nobody knows.",
        "Check the spelling: the message lists the keys that are known there.",
    ),
    "config.unreadable": _entry(
        "The system does not let this process read the file.",
        "Give the file to the user that the node runs as.",
    ),
    # rpc: the node's JSON-RPC face, and its client
    "rpc.answer_too_large": _entry(
        "The answer is larger than one message may be.",
        "Ask for less at a time: fewer requests in a batch, fewer events, a lower limit.",
    ),
    "rpc.busy": _entry(
        "The node runs as many calls as it may at a time.",
        "Wait for retry_after_ms, then send the request again.",
    ),
    "rpc.forbidden_host": _entry(
        "The request names a host or a web origin that is not on the node's list.",
        "Add the name to rpc.hosts, or the origin to rpc.cors_origins, in the node's configuration.",
    ),
    "rpc.internal": _entry(
        "The node has a bug, or the machine under it failed.",
        "Look into the node's log for the reference that the message gives, and report it.",
    ),
    "rpc.invalid_params": _entry(
        "The parameters do not fit the method.",
        "Change the parameter that the message names; rpc.discover lists each method's parameters.",
    ),
    "rpc.invalid_request": _entry(
        "The JSON is no JSON-RPC 2.0 request, or goes beyond a limit of its form.",
        "Send jsonrpc, method, params and id as the specification describes them.",
    ),
    "rpc.parse_error": _entry(
        "The bytes are not JSON: strict, UTF-8, no member twice.",
        "Encode the request with a JSON library; the message says where reading stopped.",
    ),
    "rpc.remote_error": _entry(
        "The other end answered with something that this client does not understand.",
        "Check that the address is a node's RPC address, and that client and node have the same version.",
    ),
    "rpc.request_too_large": _entry(
        "The body or message is larger than the node accepts.",
        "Send the transactions or envelopes in several requests.",
    ),
    "rpc.shutting_down": _entry(
        "The node is being stopped.",
        "Connect again, or to another node, and go on after the last cursor.",
    ),
    "rpc.slow_subscriber": _entry(
        "The subscriber did not read its events fast enough, and was dropped.",
        "Subscribe again after the last cursor: nothing is lost. Read faster, or ask for fewer kinds.",
    ),
    "rpc.timeout": _entry(
        "The answer did not come within the time that was given.",
        "Ask again: for a transaction, its receipt tells whether it was committed after all.",
    ),
    "rpc.too_many_subscriptions": _entry(
        "The connection has as many subscriptions as it may.",
        "End one with events.unsubscribe, or open another connection.",
    ),
    "rpc.unauthorised": _entry(
        "The method is for the node's own institution, and needs the node's bearer token.",
        "Send the token from the node's token file: Authorization: Bearer <token>.",
    ),
    "rpc.unknown_method": _entry(
        "The node has no method of this name.",
        "Check the name: rpc.discover lists the methods.",
    ),
    "rpc.unreachable": _entry(
        "No node answers at the given addresses.",
        "Check the addresses and that the node runs: its data folder's ports.json has its ports.",
    ),
    "rpc.unsupported_media": _entry(
        "The request's content type is not application/json, or its body is compressed.",
        "Send Content-Type: application/json and no Content-Encoding.",
    ),
    "rpc.websocket_needed": _entry(
        "The method sends events, and needs a WebSocket.",
        "Open ws://<node>/rpc and call the method there.",
    ),
    # settings
    "settings.already_founded": _entry(
        "The genesis document states the network's settings twice.",
        "Keep one settings.found operation in the genesis document.",
    ),
    "settings.bad_policy": _entry(
        "The network's policy names a purpose that always needs consent.",
        "Take research and marketing, and whatever contains them, out of policy_purposes.",
    ),
    # erasure: what is forgotten, and who attests it; retention: what a law keeps
    "erasure.attested_already": _entry(
        "The institution has attested to this erasure before.",
        "Nothing: once is enough.",
    ),
    "erasure.bad_certificate": _entry(
        "The file is no erasure certificate, was damaged, or its receipts do not belong together.",
        "Get the certificate again; `consilium erasure certificate` makes it anew from any node.",
    ),
    "erasure.bad_scope": _entry(
        "The request names both records and a compartment, one thing twice, or an epoch that has not begun.",
        "Name records, or a compartment through one of its epochs, or nothing for the whole patient.",
    ),
    "erasure.contestable": _entry(
        "The patient may still contest this erasure.",
        "Carry it out when the time that its verdict states is over.",
    ),
    "erasure.erased": _entry(
        "What is named was erased: it is not opened, recorded to, or erased once more.",
        "Nothing brings it back. Where a compartment was erased, begin a new epoch to record again.",
    ),
    "erasure.id_taken": _entry(
        "An erasure has this id already.",
        "Draw a new random id.",
    ),
    "erasure.mapping_needed": _entry(
        "The institution still needs to know whose the pseudonym is: the patient is not erased, or a hold keeps some.",
        "Have the whole patient erased, or wait until the hold ends and ask again; then destroy the mapping.",
    ),
    "erasure.not_a_holder": _entry(
        "The sender is none of the holders that the erasure names, or it was not carried out.",
        "Only who is named attests; see `consilium erasure status`.",
    ),
    "erasure.not_pending": _entry(
        "The erasure waits for nothing: it was carried out, refused or contested.",
        "See `consilium erasure status`; ask anew where it was refused and the reason has ended.",
    ),
    "erasure.not_yours": _entry(
        "The sender may not order, contest or carry out this erasure.",
        "The patient orders it, a guardian for the general class, an author for what it authored.",
    ),
    "erasure.too_large": _entry(
        "The patient's compartments have more epochs than one erasure looks at, or those of one transaction do.",
        "Erase the compartments one by one, each in a transaction of its own.",
    ),
    "erasure.too_many": _entry(
        "The compartment or patient has as many tombstones that differ as are kept.",
        "Wait until the holds of spared authors end, then erase all at once.",
    ),
    "erasure.too_many_holders": _entry(
        "More institutions would have to attest than one erasure names.",
        "Erase by compartment and epoch, or record by record.",
    ),
    "erasure.unknown": _entry(
        "There is no erasure with this id.",
        "Check the id; the list of a patient's erasures has it.",
    ),
    "erasure.unknown_record": _entry(
        "There is no such record of this patient.",
        "Check the record's id, and whose it is.",
    ),
    "retention.bad_period": _entry(
        "A hold ends in the future, and at most 30 years ahead.",
        "State an end within that time.",
    ),
    "retention.id_taken": _entry(
        "A hold has this id already.",
        "Draw a new random id.",
    ),
    "retention.lifted_already": _entry(
        "The hold was lifted before.",
        "Nothing.",
    ),
    "retention.not_yours": _entry(
        "Only who placed a hold lifts it.",
        "Ask its holder.",
    ),
    "retention.too_many_holds": _entry(
        "As many holds as there may be stand on this patient's records, or are the sender's own.",
        "Lift one, or wait until one ends.",
    ),
    "retention.unknown_hold": _entry(
        "There is no hold with this id.",
        "Check the id.",
    ),
    # summary
    "summary.bad_entry": _entry(
        "An entry of a log of openings is not signed by the institution that it names.",
        "Report the entries as the institution's node wrote them.",
    ),
    "summary.bad_key": _entry(
        "An emergency key takes at least two persons, of different holders, with points of the group.",
        "Make it for two or more employed practitioners.",
    ),
    "summary.bad_log": _entry(
        "The local log of openings is damaged: an entry does not follow from the one before, or is cut.",
        "Keep the file for the review, restore it from a copy, and find out who changed it.",
    ),
    "summary.bad_times": _entry(
        "A report's times are not in order: opened, quorum seen again, reported.",
        "Check the clock of the node that wrote the entry.",
    ),
    "summary.id_taken": _entry(
        "An emergency key has this id already.",
        "Draw a new random id.",
    ),
    "summary.not_a_holder": _entry(
        "Only two different holders of the emergency key open a summary, each with the key of a valid licence.",
        "Ask holders: the institution's emergency key names them.",
    ),
    "summary.not_employed": _entry(
        "An emergency key is held by practitioners whom the institution employs.",
        "Name the institution's own staff.",
    ),
    "summary.not_yours": _entry(
        "This node or sender has no part in the summary or opening.",
        "Ask the institution that the summary is sealed to.",
    ),
    "summary.opted_out": _entry(
        "The patient wants no emergency summary kept or opened.",
        "Nothing: it is the patient's choice.",
    ),
    "summary.out_of_order": _entry(
        "The entry is not the next of its log.",
        "Report the entries in their order; those that were reported need nothing more.",
    ),
    "summary.quorum_present": _entry(
        "Blocks are being decided: summaries are opened only while no quorum answers.",
        "Declare an emergency (break-glass): the ledger decides at once.",
    ),
    "summary.switched_off": _entry(
        "The network does not use emergency summaries.",
        "Governance can switch them on.",
    ),
    "summary.too_many": _entry(
        "The local log has as many unreported openings as it can hold.",
        "Let the node reach the quorum: it reports them by itself.",
    ),
    "summary.unknown": _entry(
        "There is no emergency summary of this patient at this institution.",
        "Compare the ids; the patient may have withdrawn it.",
    ),
    "summary.unknown_key": _entry(
        "No institution uses this emergency key now.",
        "Seal to the institution's current key.",
    ),
    # classification
    "classification.bad_table": _entry(
        "A table of classification is not JSON of the right shape and version, or names an unknown class.",
        "Correct the document that the message names; docs/classification.md tells its shape.",
    ),
    # attestation
    "attestation.bad_signature": _entry(
        "The second signature does not verify for this operation by this sender.",
        "Let the other person sign again, over exactly the body that is submitted.",
    ),
    "attestation.missing": _entry(
        "The operation needs somebody else's signature, and has none.",
        "Ask a witness, a second person or another institution to sign, as docs/contracts.md says for the operation.",
    ),
    "attestation.not_independent": _entry(
        "Who signed second is one of those who are involved already, or is not of the kind that may.",
        "Ask somebody of another institution; for break-glass, another practitioner.",
    ),
    "attestation.wrong_draft": _entry(
        "The file is no draft of an act that takes a second signature, or it was made by another sender or network.",
        "Use the file as the command wrote it, with the sender's own wallet.",
    ),
    # credential
    "credential.bad_holder": _entry(
        "The key that a credential would be bound to is no lasting key of its subject, or did not sign for it.",
        "Let the subject sign with the key in its own hand, and name that key.",
    ),
    "credential.bad_subject": _entry(
        "Credentials are issued to institutions and practitioners only.",
        "Check the subject's id.",
    ),
    "credential.expired": _entry(
        "The credential has expired, or would be issued for a time that is over.",
        "Ask its issuer for a new one; whoever issues it names an end that is to come.",
    ),
    "credential.id_taken": _entry(
        "A credential has this id already.",
        "Draw a new random id.",
    ),
    "credential.issuer_not_accredited": _entry(
        "The issuer does not stand any more, or may not issue credentials.",
        "Ask an accredited institution for a credential.",
    ),
    "credential.issuer_not_independent": _entry(
        "The licence is from an institution that employs one of the two persons.",
        "Use a licence from an issuer that employs neither.",
    ),
    "credential.key_not_bound": _entry(
        "The licence is not bound to the key that signed.",
        "Sign with the person's own key, the one that the licence names: a session key is the employer's word.",
    ),
    "credential.not_the_issuer": _entry(
        "Only who issued a credential takes it back.",
        "Ask the issuer.",
    ),
    "credential.own_employee": _entry(
        "The issuer is the subject's own institution.",
        "Ask another accredited institution: an employer's word protects nobody.",
    ),
    "credential.revoked": _entry(
        "The issuer took the credential back.",
        "Ask the issuer why; it issues a new one where there is reason to.",
    ),
    "credential.unknown": _entry(
        "There is no such credential of this subject and kind.",
        "Compare the credential's id with what its issuer sent.",
    ),
    # delegation
    "delegation.longer": _entry(
        "The consent that is passed on would begin before, or end after, what it comes from.",
        "Keep its period within that of the consent.",
    ),
    "delegation.not_the_grantee": _entry(
        "Only an actor of the consent itself passes it on.",
        "Let the institution or practitioner that the consent names do it.",
    ),
    "delegation.not_transferable": _entry(
        "The consent does not let itself be passed on, denies, or has exceptions.",
        "Ask the patient for a consent that is transferable, with one permit.",
    ),
    "delegation.parent_ended": _entry(
        "The consent that would be passed on has ended or was revoked.",
        "Ask the patient.",
    ),
    "delegation.too_deep": _entry(
        "The consent was passed on already, and is not passed on again.",
        "Ask the patient, or the one whom the patient named.",
    ),
    "delegation.wider": _entry(
        "The consent that is passed on would permit more purposes or compartments than what it comes from.",
        "Name a part of the consent's purposes and compartments.",
    ),
    # emergency
    "emergency.bad_period": _entry(
        "An emergency would be over already, or last longer than the network lets it.",
        "Choose an end within the network's glass_ms_max.",
    ),
    "emergency.id_taken": _entry(
        "An emergency has this id already.",
        "Draw a new random id.",
    ),
    "emergency.not_a_clinician": _entry(
        "Only a practitioner with an employer breaks the glass.",
        "Sign as the clinician, with a key or session of that person.",
    ),
    "emergency.not_independent": _entry(
        "The reviewer is involved: the clinician's institution, the second person's, or no institution.",
        "Let another institution review.",
    ),
    "emergency.not_overdue": _entry(
        "The review is done, or its time is not over.",
        "Wait until the review is due.",
    ),
    "emergency.not_yours": _entry(
        "Only the clinician or the employer closes an emergency.",
        "Ask one of them.",
    ),
    "emergency.over": _entry(
        "The emergency has ended already.",
        "Nothing needs doing.",
    ),
    "emergency.reported_already": _entry(
        "It was said already that this review is overdue.",
        "Nothing: it is counted.",
    ),
    "emergency.reviewed_already": _entry(
        "The emergency was reviewed already.",
        "Read the outcome in the event or in state.",
    ),
    "emergency.too_many": _entry(
        "The clinician has as many running emergencies about this patient as can be.",
        "Close one, or use one that runs.",
    ),
    "emergency.unknown": _entry(
        "There is no emergency with this id.",
        "Compare the id with the event that told of it.",
    ),
    # mandate
    "mandate.id_taken": _entry(
        "A mandate has this id already.",
        "Draw a new random id.",
    ),
    "mandate.not_yours": _entry(
        "Only who issued a mandate withdraws it.",
        "Ask the issuer.",
    ),
    "mandate.too_many": _entry(
        "There are as many mandates about this patient for this reader as can be.",
        "Withdraw one that is not needed any more.",
    ),
    "mandate.unknown": _entry(
        "There is no mandate with this id.",
        "Compare the id with the event that told of it.",
    ),
    "mandate.withdrawn_already": _entry(
        "The mandate was withdrawn already.",
        "Nothing needs doing.",
    ),
    # recovery
    "recovery.approved_already": _entry(
        "This guardian approved already.",
        "Wait for the other guardians, or for the waiting time.",
    ),
    "recovery.not_a_guardian": _entry(
        "Only a guardian whose lease runs takes part in a recovery.",
        "Ask one of the patient's guardians.",
    ),
    "recovery.not_ready": _entry(
        "Too few guardians approve yet, or the waiting time is not over.",
        "Wait: the event that told of the approval says until when.",
    ),
    "recovery.pending": _entry(
        "This guardian's own proposal was approved by others, and stays until it is completed, vetoed or lapses.",
        "Complete it, wait until it lapses, or let another guardian propose the other key.",
    ),
    "recovery.too_few_approvals": _entry(
        "Guardians who approved are guardians no more, and too few are left.",
        "Let the present guardians approve.",
    ),
    "recovery.unknown": _entry(
        "There is no recovery with this key: it was never proposed, was vetoed or replaced, or has lapsed.",
        "Compare the key with the newest event about the patient's recovery.",
    ),
    # representation
    "representation.bad_period": _entry(
        "The lease would be over already, or run too long.",
        "Choose an end from now to five years ahead.",
    ),
    "representation.bad_representative": _entry(
        "The patient itself, its manager and applications represent nobody.",
        "Appoint another person or institution.",
    ),
    "representation.not_a_quarter_day": _entry(
        "A guardian's lease ends at midnight (UTC) of 1 January, April, July or October.",
        "Choose the next quarter day, and enforce the exact end off the chain.",
    ),
    "representation.not_appointed": _entry(
        "Nobody appointed this representative, or it was dismissed.",
        "Read the patient's account.",
    ),
    "representation.not_the_patient": _entry(
        "Only the patient, or for a guardian the manager with a countersignature, does this.",
        "Ask the patient.",
    ),
    "representation.out_of_date": _entry(
        "Somebody was appointed or dismissed since this was signed.",
        "Read the account's count again, and sign with that.",
    ),
    "representation.too_many": _entry(
        "The patient has as many representatives as can be.",
        "Dismiss one first.",
    ),
    # session
    "session.bad_period": _entry(
        "A session would be over already, or last more than twelve hours.",
        "Choose an end within twelve hours.",
    ),
    "session.too_many": _entry(
        "The practitioner has as many sessions as can be at a time.",
        "End one.",
    ),
    "session.unknown": _entry(
        "The key is no running session of this practitioner.",
        "Nothing needs doing: it has ended.",
    ),
    # takeover
    "takeover.classes_incomplete": _entry(
        "A take-over hides the class of every compartment anew, each by a commitment of its own, or of none.",
        "Make a commitment for each of the patient's compartments, in the order of their ids, or send none.",
    ),
    "takeover.epochs_incomplete": _entry(
        "A take-over begins an epoch of every compartment, in the order of their ids.",
        "Make a new key for each of the patient's compartments.",
    ),
    # teams
    "teams.id_taken": _entry(
        "A team or identity has this id already.",
        "Draw a new random id.",
    ),
    "teams.member_already": _entry(
        "The practitioner is a member already.",
        "Nothing needs doing.",
    ),
    "teams.no_member": _entry(
        "The practitioner is neither a member nor invited.",
        "Nothing needs doing.",
    ),
    "teams.not_a_practitioner": _entry(
        "Only practitioners are members of teams.",
        "Name a practitioner.",
    ),
    "teams.not_employed": _entry(
        "A role is of one institution's own staff.",
        "Form a care team for people of several institutions.",
    ),
    "teams.not_invited": _entry(
        "No institution admitted this practitioner to the team.",
        "Ask the institution that formed the team.",
    ),
    "teams.not_yours": _entry(
        "Only the institution that formed a team does this.",
        "Ask that institution.",
    ),
    "teams.too_many": _entry(
        "The practitioner is a member of as many teams as can be.",
        "Leave one first.",
    ),
    "teams.unknown": _entry(
        "There is no team with this id.",
        "Compare the id with what the institution gave.",
    ),
    # treatment
    "treatment.bad_period": _entry(
        "A relationship would be over already, or run longer than thirty days.",
        "Attest it again when it goes on.",
    ),
    "treatment.ended_already": _entry(
        "The relationship was ended already.",
        "Nothing needs doing.",
    ),
    "treatment.id_taken": _entry(
        "A relationship has this id already.",
        "Draw a new random id.",
    ),
    "treatment.not_employed": _entry(
        "A practitioner who is named does not work for the institution.",
        "Name own staff, or nobody to mean all of it.",
    ),
    "treatment.not_yours": _entry(
        "Only the institution and the patient end a relationship.",
        "Ask one of them.",
    ),
    "treatment.too_many": _entry(
        "The institution has as many relationships with this patient as can be.",
        "End one that is over.",
    ),
    "treatment.unknown": _entry(
        "There is no relationship with this id.",
        "Compare the id with the event that told of it.",
    ),
}
