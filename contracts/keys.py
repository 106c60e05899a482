"""Every prefix of a state key, with its sentence: two contracts can never write under one key.

A key is a prefix of one byte and parts of fixed width, so no key is the beginning of another of its family. The types
of the values stand where the slots are declared, in the contract that owns them.
"""

from __future__ import annotations

from typing import Final

BUNDLE: Final = b"b"  # author:16 bundle:16 -> records.Bundle, how much of a bundle is anchored
COMPARTMENT: Final = b"c"  # compartment:16 -> records.Compartment, whose it is and its current epoch
DECISION: Final = b"d"  # transaction:32 operation:u16be -> access.Decision, what was decided on a request
EPOCH: Final = b"e"  # compartment:16 epoch:u16be -> records.Epoch, public key and custodians of one epoch
CONSENT: Final = b"g"  # consent:16 -> consent.Consent, for ever: what was granted, and when it was revoked
IDENTITY: Final = b"i"  # identity:16 -> identity.Identity, who it is, its keys, whether it is active
KEY: Final = b"k"  # key:32 -> identity.KeyEntry, whose signing key it is or was
PATIENT: Final = b"p"  # patient:16 -> records.PatientCompartments, the ids of a patient's compartments
GRANTS: Final = b"q"  # patient:16 grantee:16 -> consent.Grants, ids of the consents that may still matter
CANDIDATES: Final = b"n"  # -> ballot.Candidates, keys that may join the validators once they are ready
FAULTS: Final = b"w"  # validator:32 -> ballot.Faults, how many faults of a key are proved
OPEN_PROPOSALS: Final = b"m"  # institution:16 -> ballot.OpenProposals, its proposals that may still be open
PROPOSAL: Final = b"o"  # proposal:16 -> ballot.Proposal, a change, who approved it, what came of it
PROVED_FAULT: Final = b"f"  # validator:32 height:u64be kind:u8 -> ballot.ProvedFault, evidence
RETIRED: Final = b"x"  # validator:32 -> ballot.Retired, since when a key votes no more
RETURN: Final = b"y"  # validator:32 -> ballot.LastReturn, where it said last that it lost its memory
VALIDATORS: Final = (
    b"v"  # -> ballot.DecidedSet, the newest decided validator set, once it differs from genesis
)
RECORD: Final = b"r"  # record:16 -> records.Record, the commitment to one sealed record
SETTINGS: Final = b"S"  # (nothing) -> settings.Settings, what the network decided for itself

PREFIXES: Final = (
    SETTINGS,
    BUNDLE,
    COMPARTMENT,
    DECISION,
    EPOCH,
    CONSENT,
    IDENTITY,
    KEY,
    PATIENT,
    GRANTS,
    RECORD,
    CANDIDATES,
    FAULTS,
    OPEN_PROPOSALS,
    PROPOSAL,
    PROVED_FAULT,
    RETIRED,
    RETURN,
    VALIDATORS,
)
