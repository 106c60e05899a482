"""The table of R4's facts against what the specification says in a few places known by heart."""

from __future__ import annotations

from consilium.gateway.definitions import resource_types, types


def test_resources() -> None:
    assert len(resource_types()) == 146
    assert {"Patient", "MedicinalProduct", "SubstanceSpecification"} <= resource_types()
    assert resource_types().isdisjoint(
        {"Resource", "DomainResource", "Citation", "SubscriptionTopic", "Element"}
    )


def test_elements() -> None:
    observation = types()["Observation"]
    assert observation.members["component"].type == "Observation.component"
    assert observation.members["component"].many
    assert types()["Observation.component"].members["referenceRange"].type == "Observation.referenceRange"
    assert ("status",) in observation.required
    assert ("code",) in observation.required
    assert observation.members["id"].type == "id"
    assert types()["Observation.component"].members["id"].type == "string"
    assert "modifierExtension" in types()["Observation.component"].members
    assert "modifierExtension" not in types()["Quantity"].members
    assert types()["Age"].members.keys() == types()["Quantity"].members.keys()
    values = next(names for names in observation.choices if "valueQuantity" in names)
    assert len(values) == 11
    assert "valueDateTime" in values


def test_targets() -> None:
    members = types()["Observation"].members
    assert members["subject"].targets == {"Patient", "Group", "Device", "Location"}
    assert members["focus"].targets == frozenset()
    assert types()["Condition"].members["asserter"].targets == {
        "Patient",
        "Practitioner",
        "PractitionerRole",
        "RelatedPerson",
    }


def test_bindings() -> None:
    def codes(kind: str, member: str) -> set[str]:
        binding = types()[kind].members[member].binding
        assert binding is not None
        return set(binding.codes)

    assert codes("Observation", "status") == {
        "registered",
        "preliminary",
        "final",
        "amended",
        "corrected",
        "cancelled",
        "entered-in-error",
        "unknown",
    }
    assert codes("Patient", "gender") == {"male", "female", "other", "unknown"}
    assert codes("DetectedIssue", "status") == codes("Observation", "status")
    assert codes("Encounter", "status") == {
        "planned",
        "arrived",
        "triaged",
        "in-progress",
        "onleave",
        "finished",
        "cancelled",
        "entered-in-error",
        "unknown",
    }
    assert codes("Immunization", "status") == {"completed", "entered-in-error", "not-done"}
    assert codes("Condition", "clinicalStatus") == {
        "active",
        "recurrence",
        "relapse",
        "inactive",
        "remission",
        "resolved",
    }
    assert codes("Bundle", "type") >= {"transaction", "batch", "collection", "document"}
    assert codes("Timing.repeat", "durationUnit") == {"s", "min", "h", "d", "wk", "mo", "a"}
    assert types()["Encounter"].members["class"].binding is None  # extensible
    assert types()["Attachment"].members["contentType"].binding is None  # cannot be listed
    assert types()["Money"].members["currency"].binding is None
