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
ACCOUNT: Final = b"A"  # patient:16 -> representation.Account, who may speak for a patient beside the patient
GLASSES_OF: Final = b"B"  # patient:16 clinician:16 -> emergency.Opened, ids of emergencies that may still run
CREDENTIAL: Final = (
    b"C"  # credential:16 -> credentials.Credential, for ever: what an issuer said, and took back
)
GLASS_TIMES: Final = b"E"  # clinician:16 -> emergency.Recent, when emergencies were declared lately
GLASS: Final = b"G"  # glass:16 -> emergency.Glass, for ever: who broke it, why, and what the review said
TREATING: Final = (
    b"H"  # patient:16 institution:16 -> treatment.Current, ids of relationships that may still stand
)
INVITATION: Final = b"I"  # team:16 practitioner:16 -> teams.Invitation, who may join
SESSIONS: Final = b"K"  # practitioner:16 -> sessions.Sessions, session keys that may still speak
MANDATE: Final = b"L"  # mandate:16 -> mandates.Mandate, for ever: a legal order
MEMBERSHIPS: Final = b"M"  # practitioner:16 -> teams.Memberships, the teams of somebody
MANDATED: Final = b"N"  # patient:16 reader:16 -> mandates.Mandated, ids of mandates that may still stand
REVIEWS: Final = b"O"  # institution:16 -> emergency.Reviews, what its clinicians' emergencies owe
OWING: Final = b"Q"  # -> emergency.Owing, the institutions that owe a review
SUMMARY_KEY: Final = b"J"  # key:16 -> summaries.SummaryKey, an institution's two-person emergency key
SUMMARY_KEY_OF: Final = b"U"  # institution:16 -> summaries.CurrentKey, which of them is in use
SUMMARY: Final = b"W"  # patient:16 institution:16 -> summaries.Summary, a sealed emergency summary
OPENINGS: Final = b"X"  # institution:16 -> summaries.Openings, how far its log of openings has been reported
ERASURE: Final = (
    b"D"  # erasure:16 -> erasure.Erasure, for ever: what was asked, what came of it, who attested
)
HOLD: Final = b"F"  # hold:16 -> retention.Hold, for ever: who must keep what, why, until when
HOLDS_OF: Final = b"h"  # patient:16 -> retention.HoldsOf, ids of holds that may still stand
KEEPERS: Final = (
    b"j"  # compartment:16 (or patient:16) epoch:u16be -> keepers.Keepers, who keeps envelopes there
)
ERASED_COMPARTMENT: Final = b"Y"  # compartment:16 -> tombstones.Tombstones
ERASED_PATIENT: Final = b"Z"  # patient:16 -> tombstones.Tombstones
QUOTAS: Final = b"t"  # -> quotas.Quotas, how much state a member, and a patient, may add
ADDED: Final = b"0"  # identity:16 -> quotas.Added, how much state an institution or patient added of late
OWN_KEY: Final = b"s"  # compartment:16 -> rekeying.OwnKey, that the patient made its key
PREFERENCES: Final = b"P"  # patient:16 -> preferences.Preferences, what a patient decided once for everybody
RELATIONSHIP: Final = b"R"  # relationship:16 -> treatment.Relationship, for ever: who treated whom, and when
TEAM: Final = b"T"  # team:16 -> teams.Team, who formed it
RECOVERY: Final = b"V"  # patient:16 -> recovery.Recovery, a new key that guardians propose
ACCOUNTING: Final = b"a"  # patient:16 -> accounting.AccountingHead, how many lines, and what commits to them
CONSULTATION: Final = (
    b"u"  # transaction:32 operation:u16be -> disclosures.Consultation, who may see an accounting
)
RELEASE: Final = b"l"  # transaction:32 operation:u16be verdict:u16be custodian:16 -> disclosures.ReleaseEntry
SETTINGS: Final = b"S"  # (nothing) -> settings.Settings, what the network decided for itself
