"""The FHIR R4 face of an institution."""
